package metadata

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Static is the broker's configuration as it stood at start: file, then
// environment, then flags. It is immutable.
type Static struct {
	values map[string]string // explicit ones only
}

// ReadProperties reads a Java properties file: key=value or key: value lines,
// # and ! comments, a backslash at the end of a line continues it.
func ReadProperties(r io.Reader) (map[string]string, error) {
	out := map[string]string{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	var pending string
	for number := 1; lines.Scan(); number++ {
		line := pending + strings.TrimLeft(lines.Text(), " \t\f")
		if pending == "" && (line == "" || line[0] == '#' || line[0] == '!') {
			continue
		}
		if strings.HasSuffix(line, `\`) && !strings.HasSuffix(line, `\\`) {
			pending = strings.TrimSuffix(line, `\`)
			continue
		}
		pending = ""
		at := strings.IndexAny(line, "=:")
		if at < 1 {
			return nil, fmt.Errorf("line %d: want key=value, found %q", number, line)
		}
		out[strings.TrimSpace(line[:at])] = strings.ReplaceAll(strings.TrimSpace(line[at+1:]), `\\`, `\`)
	}
	return out, lines.Err()
}

// Environment picks the settings out of environment variables: STRATA_NODE_ID
// is node.id and STRATA_BUCKET_URL is strata.bucket.url. A variable that names
// no setting is an error that says so.
func Environment(environ []string) (map[string]string, error) {
	names := map[string]string{}
	for _, s := range BrokerSettings() {
		names[variableOf(s.Name)] = s.Name
	}
	for _, s := range IgnoredBrokerSettings() {
		names[variableOf(s.Name)] = s.Name
	}
	out := map[string]string{}
	for _, pair := range environ {
		variable, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(variable, "STRATA_") || strings.HasPrefix(variable, "STRATA_TEST_") {
			continue
		}
		name, ok := names[variable]
		if !ok {
			hint := didYouMeanVariable(variable)
			if hint == "" {
				hint = ": want STRATA_ and a setting's name in upper case, with _ where it has a dot (strata settings lists them)"
			}
			return nil, fmt.Errorf("environment variable %s names no setting%s", variable, hint)
		}
		out[name] = value
	}
	return out, nil
}

// authorizer is the one setting without an effect that is refused: to ignore it would open what it closes.
const authorizer = "authorizer.class.name"

// NewStatic checks the settings, later layers overriding earlier ones. It
// fails at the first unknown name or bad value, naming it and what is allowed;
// ignored lists the names that are accepted and have no effect.
func NewStatic(layers ...map[string]string) (s *Static, ignored []string, err error) {
	s = &Static{values: map[string]string{}}
	for _, layer := range layers {
		for name, value := range layer {
			s.values[name] = value
		}
	}
	names := make([]string, 0, len(s.values))
	for name := range s.values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		setting, ok := BrokerSetting(name)
		if !ok {
			return nil, nil, unknownSetting(name, s.values[name])
		}
		if name == authorizer && strings.TrimSpace(s.values[name]) != "" {
			return nil, nil, fmt.Errorf("%s=%s: only empty is allowed. There are no access rules here: whoever reaches a listener may do everything, "+
				"and a file that asks for rules must not start a broker without them", name, s.values[name])
		}
		if setting.Ignored {
			ignored = append(ignored, name)
			continue
		}
		if err := setting.Check(s.values[name]); err != nil {
			return nil, nil, err
		}
	}
	return s, ignored, nil
}

func unknownSetting(name, value string) error {
	hint := didYouMean(name)
	if hint == "" {
		hint = "; strata settings lists them"
	}
	return fmt.Errorf("unknown setting %s=%s: not a broker setting of Kafka 4.3 or strata%s", name, value, hint)
}

// Lookup gives a setting's explicit value; ok is false where only the default holds.
func (s *Static) Lookup(name string) (value string, ok bool) {
	value, ok = s.values[name]
	return strings.TrimSpace(value), ok
}

// String gives a setting's value or its default ("" for null). It panics on a name that is not in the table.
func (s *Static) String(name string) string {
	if v, ok := s.Lookup(name); ok {
		return v
	}
	setting, ok := BrokerSetting(name)
	if !ok {
		panic("no such setting: " + name)
	}
	return setting.Default
}

// Int gives a whole number; null is 0.
func (s *Static) Int(name string) int64 {
	n, _ := strconv.ParseInt(s.String(name), 10, 64)
	return n
}

// Bool gives a boolean; null is false.
func (s *Static) Bool(name string) bool { return strings.EqualFold(s.String(name), "true") }

// List gives the members of a list.
func (s *Static) List(name string) []string { return SplitList(s.String(name)) }

// Never is a time that does not come: what a setting that means "for ever" gives.
const Never = 100 * 365 * 24 * time.Hour

// Millis gives a duration out of a setting in milliseconds, at most Never.
func (s *Static) Millis(name string) time.Duration {
	return time.Duration(min(s.Int(name), int64(Never/time.Millisecond))) * time.Millisecond
}
