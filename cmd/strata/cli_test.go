package main_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	main "github.com/stratabroker/strata/cmd/strata"
	"github.com/stratabroker/strata/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// strata runs one command line in this process.
func strata(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = main.Run(args, strings.NewReader(stdin), &out, &errOut)
	return out.String(), errOut.String(), code
}

// ok runs a command line that must succeed and gives its output.
func ok(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	stdout, stderr, code := strata(t, stdin, args...)
	if code != 0 {
		t.Fatalf("strata %s: status %d: %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// refused runs a command line that must fail, with one line on stderr that has all of want.
func refused(t *testing.T, code int, args []string, want ...string) {
	t.Helper()
	stdout, stderr, got := strata(t, "", args...)
	if got != code || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "strata: ") {
		t.Errorf("strata %s: status %d, stdout %q, stderr %q; want status %d and one line on stderr", strings.Join(args, " "), got, stdout, stderr, code)
	}
	for _, w := range want {
		if !strings.Contains(stderr, w) {
			t.Errorf("strata %s: %q does not tell %q", strings.Join(args, " "), stderr, w)
		}
	}
}

func walk(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, child := range c.Commands() {
		if child.Name() != "help" && child.Name() != "completion" {
			walk(child, visit)
		}
	}
}

func TestEveryHelpTeachesWithExamplesThatNameRealCommandsAndFlags(t *testing.T) {
	root := main.RootCommand()
	walk(root, func(c *cobra.Command) {
		if c.Short == "" || !strings.Contains(c.Example, "strata") {
			t.Errorf("%s: no short text or no example", c.CommandPath())
		}
		for line := range strings.SplitSeq(strings.ReplaceAll(c.Example, " | ", "\n"), "\n") {
			_, words, found := strings.Cut(line, "strata ")
			if !found {
				continue // a line of a properties file
			}
			words, _, _ = strings.Cut(words, "   ") // what follows is told, not typed
			args := strings.Fields(words)
			named, rest, err := root.Find(args)
			if err != nil || named == root {
				t.Errorf("%s: example %q names no command: %v", c.CommandPath(), strings.TrimSpace(line), err)
				continue
			}
			for _, arg := range rest {
				name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
				if strings.HasPrefix(arg, "--") && named.Flag(name) == nil {
					t.Errorf("%s: example %q has flag --%s, which %s has not", c.CommandPath(), strings.TrimSpace(line), name, named.CommandPath())
				}
			}
		}
		if out := ok(t, "", append(strings.Fields(c.CommandPath())[1:], "--help")...); !strings.Contains(out, "Examples:") {
			t.Errorf("%s --help shows no examples", c.CommandPath())
		}
	})
}

func TestVersionNamesStrataAndThePlatform(t *testing.T) {
	result := harness.Run(t, nil, "version")
	if result.Code != 0 || !strings.HasPrefix(result.Stdout, "strata ") || !strings.Contains(result.Stdout, "go1.") {
		t.Errorf("status %d, %q", result.Code, result.Stdout)
	}
}

func TestVersionIsAFlagToo(t *testing.T) {
	if got, want := ok(t, "", "--version"), ok(t, "", "version"); got != want {
		t.Errorf("--version prints %q, version %q", got, want)
	}
}

func TestATakenPortNamesTheSettingAndTheFlag(t *testing.T) {
	var config net.ListenConfig
	taken, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	address, folder := taken.Addr().String(), t.TempDir()
	refused(t, 1, []string{"dev", "--data-dir", folder, "--listen", address},
		"listeners=PLAINTEXT://"+address, "address already in use (--listen chooses another)")
	refused(t, 1, []string{"dev", "--data-dir", folder, "--listen", "127.0.0.1:0", "--http", address},
		"strata.http.listen="+address, "address already in use (--http chooses another)")
	server := []string{"server", "--config", writeConfig(t, "node.id=1", "process.roles=broker,controller", "log.dirs="+folder, "listeners=PLAINTEXT://"+address)}
	refused(t, 1, server, "listeners=PLAINTEXT://"+address, "address already in use")
}

func TestABucketFolderThatCannotBeMadeIsToldOnce(t *testing.T) {
	const missing = "/proc/none"
	args := []string{"dev", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--http", "", "--bucket", "dir://" + missing}
	refused(t, 1, args, "strata.bucket.url=dir://"+missing, missing)
	if _, text, _ := strata(t, "", args...); strings.Contains(text, "read cluster.json") {
		t.Errorf("two errors in %q", text)
	}
}

func TestCommandLinesThatMeanNothingEndWithStatus2(t *testing.T) {
	for name, args := range map[string][]string{
		"unknown command":         {"bogus"},
		"unknown subcommand":      {"topic", "bogus"},
		"unknown flag":            {"dev", "--bogus"},
		"flag without a value":    {"dev", "--data-dir"},
		"flag with a bad value":   {"consume", "t", "--max", "many"},
		"bad level":               {"dev", "--log-level", "loud"},
		"too many arguments":      {"version", "now"},
		"no topic":                {"produce"},
		"no config":               {"server"},
		"set without a value":     {"dev", "--set", "node.id"},
		"comma in the folder":     {"dev", "--data-dir", "a,b"},
		"acks":                    {"produce", "t", "--acks", "2"},
		"compression":             {"produce", "t", "--compression", "rar"},
		"header":                  {"produce", "t", "--header", "x"},
		"from":                    {"consume", "t", "--from", "yesterday"},
		"format":                  {"consume", "t", "--format", "%"},
		"format and JSON":         {"consume", "t", "--format", "%v", "--json"},
		"isolation":               {"consume", "t", "--isolation", "serializable"},
		"input":                   {"produce", "t", "--input", "xml"},
		"separator in JSON":       {"produce", "t", "--input", "json", "--key-separator", ":"},
		"partition of text":       {"produce", "t", "--keep-partition"},
		"two partitions":          {"produce", "t", "--input", "json", "--keep-partition", "--partition", "1"},
		"no partitions":           {"topic", "create", "t", "--partitions", "0"},
		"alter to nothing":        {"topic", "alter", "t"},
		"offsets of what place":   {"topic", "offsets", "t", "--at", "noon"},
		"trim without a place":    {"topic", "trim", "t"},
		"trim to a word of more":  {"topic", "trim", "t", "--before", "tiered-end"},
		"config of what":          {"config", "describe", "user", "u"},
		"config of which broker":  {"config", "describe", "broker", "one"},
		"logger of all brokers":   {"config", "describe", "logger", "default"},
		"config set no value":     {"config", "set", "topic", "t", "retention.ms"},
		"config set no name":      {"config", "set", "topic", "t", "+=1"},
		"reset of no topic":       {"group", "reset-offsets", "g", "--to", "end"},
		"reset of topics twice":   {"group", "reset-offsets", "g", "--to", "end", "--topic", "t", "--all-topics"},
		"reset to nowhere":        {"group", "reset-offsets", "g", "--topic", "t"},
		"reset to two places":     {"group", "reset-offsets", "g", "--topic", "t", "--to", "end", "--shift-by", "1"},
		"reset to what":           {"group", "reset-offsets", "g", "--topic", "t", "--to", "noon"},
		"offsets of no topic":     {"group", "delete-offsets", "g"},
		"partition of a group":    {"consume", "t", "--group", "g", "--partition", "1"},
		"end of a group":          {"consume", "t", "--group", "g", "--until-end"},
		"cat without partition":   {"bucket", "cat", "dir:///x", "t"},
		"verify with no reader":   {"bucket", "verify", "dir:///x", "--parallel", "0"},
		"settings of what":        {"settings", "--scope", "client"},
		"topic config no value":   {"topic", "create", "t", "--config", "retention.ms"},
		"topic without arguments": {"topic", "delete"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, 2, args, "--help") })
	}
}

func writeConfig(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server.properties")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestServerStopsAtSettingsThatCannotBeMeant(t *testing.T) {
	for name, tc := range map[string]struct {
		lines, set, want []string
	}{
		"topic's key":    {[]string{"node.id=1", "segment.bytes=1048576"}, nil, []string{"segment.bytes=1048576", "did you mean log.segment.bytes?", "strata topic create --config"}},
		"unknown key":    {[]string{"node.id=1", "num.partition=3"}, nil, []string{"num.partition=3", "did you mean num.partitions?"}},
		"bad value":      {[]string{"node.id=1", "num.partitions=none"}, nil, []string{"none", "num.partitions", "Not a number of type INT"}},
		"value by --set": {[]string{"node.id=1"}, []string{"strata.durability=maybe"}, []string{"maybe", "strata.durability", "fsync, replicated"}},
		"contradiction":  {[]string{"node.id=1", "process.roles=broker"}, nil, []string{"process.roles", "broker,controller"}},
		"missing":        {[]string{"num.partitions=3"}, nil, []string{"node.id"}},
		"not a file":     {[]string{"node.id"}, nil, []string{"server.properties", "line 1", "key=value"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"server", "--config", writeConfig(t, tc.lines...)}
			for _, s := range tc.set {
				args = append(args, "--set", s)
			}
			refused(t, 1, args, tc.want...)
		})
	}
	refused(t, 1, []string{"server", "--config", filepath.Join(t.TempDir(), "none")}, "none", "no such file")
}

func TestEnvironmentOverridesTheFileAndSetOverridesBoth(t *testing.T) {
	config := writeConfig(t, "node.id=1", "strata.http.listen=of-the-file")
	refused(t, 1, []string{"server", "--config", config}, "of-the-file")
	t.Setenv("STRATA_HTTP_LISTEN", "of-the-environment")
	refused(t, 1, []string{"server", "--config", config}, "of-the-environment")
	refused(t, 1, []string{"server", "--config", config, "--set", "strata.http.listen=of-the-flag"}, "of-the-flag")
	refused(t, 1, []string{"dev"}, "of-the-environment")
	refused(t, 1, []string{"dev", "--http", "of-the-flag"}, "of-the-flag")
	t.Setenv("STRATA_NODE_IDD", "1")
	refused(t, 1, []string{"dev"}, "STRATA_NODE_IDD", "names no setting", "did you mean STRATA_NODE_ID?")
}

func TestCommandsSayWhenNoBrokerAnswers(t *testing.T) {
	address := harness.FreeAddress(t)
	for _, args := range [][]string{
		{"topic", "list"}, {"produce", "t"}, {"consume", "t"}, {"config", "describe", "topic", "t"}, {"group", "list"},
	} {
		refused(t, 1, append(args, "--bootstrap-server", address), "no broker answers at "+address, "STRATA_BOOTSTRAP")
		t.Run("by the environment", func(t *testing.T) {
			t.Setenv("STRATA_BOOTSTRAP", address)
			refused(t, 1, args, "no broker answers at "+address)
		})
	}
	refused(t, 1, []string{"health", "--http", address}, "not ready", address)
}

func TestTheClientsVariableIsNoSettingOfABroker(t *testing.T) {
	t.Setenv("STRATA_BOOTSTRAP", "127.0.0.1:1")
	refused(t, 1, []string{"dev", "--http", "of-the-flag"}, "of-the-flag")
}

func TestBucketCommandsSayWhatIsNoBucket(t *testing.T) {
	empty := t.TempDir()
	for _, command := range []string{"ls", "verify"} {
		refused(t, 1, []string{"bucket", command, "ftp://x"}, "ftp", "dir:///abs/path")
		refused(t, 1, []string{"bucket", command, "dir://" + empty}, empty, "no cluster has written here")
		missing := filepath.Join(empty, "missing")
		refused(t, 1, []string{"bucket", command, "dir://" + missing}, missing, "no such file")
		if _, err := os.Stat(missing); err == nil {
			t.Errorf("bucket %s made the folder it was to look at", command)
		}
	}
}

func TestSettingsCommandShowsWhatWasAskedFor(t *testing.T) {
	if out := ok(t, "", "settings", "segment.bytes"); !strings.Contains(out, "default: 1073741824; allowed: 1048576 or more") || strings.Count(out, "\n") != 3 {
		t.Errorf("got %q", out)
	}
	if out := ok(t, "", "settings", "--scope", "topic"); strings.Contains(out, "\nnode.id  (") || !strings.Contains(out, "retention.ms") {
		t.Error("--scope topic shows other settings")
	}
	refused(t, 1, []string{"settings", "segment.byte"}, "segment.byte")
}

// TestReferencePagesAreThoseOfTheTables fails when a table has changed and
// `make docs` was not run.
func TestReferencePagesAreThoseOfTheTables(t *testing.T) {
	for page, command := range map[string]string{"settings.md": "settings", "apis.md": "apis"} {
		want := ok(t, "", command, "--markdown")
		got, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
		if err != nil || string(got) != want {
			t.Errorf("docs/%s is not what the tables say: run make docs (%v)", page, err)
		}
	}
}
