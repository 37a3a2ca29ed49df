package metadata

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Source says where a setting's value came from, by Kafka's number in DescribeConfigs.
type Source int8

// Sources, strongest first but for the default.
const (
	SourceTopic          Source = 1
	SourceDynamicBroker  Source = 2
	SourceDynamicDefault Source = 3
	SourceStatic         Source = 4
	SourceDefault        Source = 5
	SourceDynamicLogger  Source = 6
)

// Value is one candidate for a setting's value: what a setting of this name says, and from where.
type Value struct {
	Name   string
	Value  string
	Source Source
}

// Resolved is a setting's value in force, with all that was asked for it, strongest first.
type Resolved struct {
	Value    string // canonical, in the setting's own unit
	Null     bool
	Source   Source
	Synonyms []Value // as they were given: log.retention.hours is in hours
}

// overrides looks up what a resource sets; Image.Config is one.
type overrides func(r Resource, name string) (value string, ok bool)

// with is these overrides with those of one resource replaced by next.
func (o overrides) with(r Resource, next map[string]string) overrides {
	return func(asked Resource, name string) (string, bool) {
		if asked == r {
			v, ok := next[name]
			return v, ok
		}
		return o(asked, name)
	}
}

// family is a broker setting with those that give its value where it has none, in
// Kafka's order. The first is the finest unit and goes before the others.
func family(name string) []string {
	for _, names := range [][]string{
		{"log.retention.ms", "log.retention.minutes", "log.retention.hours"},
		{"log.roll.ms", "log.roll.hours"},
		{"log.roll.jitter.ms", "log.roll.jitter.hours"},
	} {
		if slices.Contains(names, name) {
			return names
		}
	}
	if name == "log.flush.interval.ms" {
		return []string{name, "log.flush.scheduler.interval.ms"}
	}
	return []string{name}
}

// brokerCandidates gives every candidate among broker settings for one of them, strongest first.
func (s *Static) brokerCandidates(o overrides, broker string, names []string) []Value {
	var out []Value
	for _, name := range names {
		setting, ok := BrokerSetting(name)
		if !ok || setting.Ignored {
			continue
		}
		if setting.Update == Dynamic {
			if v, ok := o(Resource{BrokerResource, broker}, name); ok && broker != "" {
				out = append(out, Value{Name: name, Value: setting.Canonical(v), Source: SourceDynamicBroker})
			}
			if v, ok := o(Resource{BrokerResource, ""}, name); ok {
				out = append(out, Value{Name: name, Value: setting.Canonical(v), Source: SourceDynamicDefault})
			}
		}
		if v, ok := s.Lookup(name); ok {
			out = append(out, Value{Name: name, Value: setting.Canonical(v), Source: SourceStatic})
		}
		if !setting.Null {
			out = append(out, Value{Name: name, Value: setting.Default, Source: SourceDefault})
		}
	}
	slices.SortStableFunc(out, func(a, b Value) int { return int(a.Source) - int(b.Source) })
	return out
}

// BrokerValue resolves a broker setting. broker "" gives only what is set for all brokers.
func (s *Static) BrokerValue(img *Image, broker string, setting *Setting) Resolved {
	return s.brokerValue(img.Config, broker, setting)
}

func (s *Static) brokerValue(o overrides, broker string, setting *Setting) Resolved {
	all := s.brokerCandidates(o, broker, family(setting.Name))
	// As Kafka has it: what another unit says is told only below a value of its own.
	at := slices.IndexFunc(all, func(v Value) bool { return v.Name == setting.Name })
	if at < 0 {
		return Resolved{Null: true, Source: SourceDefault}
	}
	return Resolved{Value: all[at].Value, Source: all[at].Source, Synonyms: all[at:]}
}

// TopicValue resolves a topic's setting. topic "" gives what a topic without overrides has.
func (s *Static) TopicValue(img *Image, topic string, setting *Setting) Resolved {
	return s.topicValue(img.Config, topic, setting)
}

func (s *Static) topicValue(o overrides, topic string, setting *Setting) Resolved {
	all := s.brokerCandidates(o, s.String("node.id"), setting.Synonyms)
	if setting.Name == "remote.storage.enable" && s.String("strata.bucket.url") != "" {
		all = append(all, Value{Name: "strata.remote.storage.enable", Value: "true", Source: SourceDefault})
	}
	out := Resolved{Value: setting.Default, Source: SourceDefault, Synonyms: all}
	if len(all) > 0 {
		out.Value, out.Source = convertUnit(all[0].Name, all[0].Value), all[0].Source
		// As Kafka has it: a default in another unit is not told where no other broker setting stands before it.
		if out.Source == SourceDefault && all[0].Name != setting.Synonyms[0] {
			out.Synonyms = nil
		}
	}
	if v, ok := o(Resource{TopicResource, topic}, setting.Name); ok && topic != "" {
		own := Value{Name: setting.Name, Value: setting.Canonical(v), Source: SourceTopic}
		out = Resolved{Value: own.Value, Source: SourceTopic, Synonyms: append([]Value{own}, out.Synonyms...)}
	}
	return out
}

func convertUnit(synonym, value string) string {
	unit := int64(1)
	switch {
	case strings.HasSuffix(synonym, ".hours"):
		unit = 60 * 60 * 1000
	case strings.HasSuffix(synonym, ".minutes"):
		unit = 60 * 1000
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if unit == 1 || err != nil || n < 0 {
		return value
	}
	return strconv.FormatInt(n*unit, 10)
}

// BrokerMillis resolves a duration in milliseconds, dynamic overrides included; at most Never.
func (s *Static) BrokerMillis(img *Image, name string) time.Duration {
	return time.Duration(min(s.BrokerInt(img, name), int64(Never/time.Millisecond))) * time.Millisecond
}

// BrokerInt resolves a whole number among the broker settings, dynamic overrides included; null is 0.
func (s *Static) BrokerInt(img *Image, name string) int64 {
	n, _ := strconv.ParseInt(s.inForce(img, name), 10, 64)
	return n
}

// BrokerFloat is BrokerInt of any number.
func (s *Static) BrokerFloat(img *Image, name string) float64 {
	f, _ := strconv.ParseFloat(s.inForce(img, name), 64)
	return f
}

func (s *Static) inForce(img *Image, name string) string {
	setting, ok := BrokerSetting(name)
	if !ok {
		panic("no such setting: " + name)
	}
	return s.BrokerValue(img, s.String("node.id"), setting).Value
}
