package metadata_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stratabroker/strata/metadata"
)

func static(t *testing.T, pairs ...string) *metadata.Static {
	t.Helper()
	layer := map[string]string{"node.id": "1"}
	for i := 0; i < len(pairs); i += 2 {
		layer[pairs[i]] = pairs[i+1]
	}
	s, _, err := metadata.NewStatic(layer)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTablesAreInOrderAndTheirDefaultsAreAllowed(t *testing.T) {
	tables := map[string][]metadata.Setting{"topic": metadata.TopicSettings(), "broker": metadata.BrokerSettings()}
	for table, settings := range tables {
		seen := map[string]bool{}
		for _, s := range settings {
			if seen[s.Name] || s.Doc == "" {
				t.Errorf("%s %s: listed twice or without a doc", table, s.Name)
			}
			seen[s.Name] = true
			if !s.Null {
				if err := s.Check(s.Default); err != nil {
					t.Errorf("%s: default is refused: %v", table, err)
				}
			}
			for _, synonym := range s.Synonyms {
				if _, ok := metadata.BrokerSetting(synonym); !ok {
					t.Errorf("%s: synonym %s is not a broker setting", s.Name, synonym)
				}
			}
		}
	}
	topic := metadata.TopicSettings()
	if !slices.IsSortedFunc(topic, func(a, b metadata.Setting) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("topic settings are not in the order of names")
	}
}

func TestTopicSettingTakesTheStrongestSource(t *testing.T) {
	img := metadata.EmptyImage()
	for name, tc := range map[string]struct {
		pairs []string
		want  int64
	}{
		"default":                 {nil, 604800000},
		"hours":                   {[]string{"log.retention.hours", "2"}, 7200000},
		"minutes go before hours": {[]string{"log.retention.hours", "2", "log.retention.minutes", "3"}, 180000},
		"ms goes before all":      {[]string{"log.retention.ms", "5", "log.retention.minutes", "3"}, 5},
		"unlimited hours":         {[]string{"log.retention.hours", "-1"}, -1},
	} {
		if got := static(t, tc.pairs...).Topic(img, "x").RetentionMs; got != tc.want {
			t.Errorf("%s: retention.ms is %d, want %d", name, got, tc.want)
		}
	}
}

func TestTopicsAreTieredWhereABucketIsSet(t *testing.T) {
	img := metadata.EmptyImage()
	if static(t).Topic(img, "x").RemoteStorage {
		t.Error("tiered without a bucket")
	}
	if !static(t, "strata.bucket.url", "dir:///b").Topic(img, "x").RemoteStorage {
		t.Error("not tiered with a bucket")
	}
	if static(t, "strata.bucket.url", "dir:///b", "strata.remote.storage.enable", "false").Topic(img, "x").RemoteStorage {
		t.Error("tiered against strata.remote.storage.enable=false")
	}
}

func TestBadSettingsAreRefusedWithNameValueAndRange(t *testing.T) {
	for name, tc := range map[string]struct{ key, value string }{
		"unknown": {"log.retention.hour", "1"},
		"range":   {"num.partitions", "0"},
		"word":    {"strata.durability", "maybe"},
		"bool":    {"auto.create.topics.enable", "yes"},
		"list":    {"process.roles", "king"},
	} {
		_, _, err := metadata.NewStatic(map[string]string{tc.key: tc.value})
		if err == nil || !strings.Contains(err.Error(), tc.key) || !strings.Contains(err.Error(), tc.value) {
			t.Errorf("%s: error %v does not name %s and %s", name, err, tc.key, tc.value)
		}
	}
}

func TestKafkaSettingsNotHonouredAreAcceptedAndNamed(t *testing.T) {
	_, ignored, err := metadata.NewStatic(map[string]string{"num.io.threads": "8", "node.id": "1"})
	if err != nil || !slices.Equal(ignored, []string{"num.io.threads"}) {
		t.Fatalf("ignored %v, error %v", ignored, err)
	}
}

func TestPropertiesAndEnvironment(t *testing.T) {
	got, err := metadata.ReadProperties(strings.NewReader("# c\n! d\n node.id = 7\nlisteners=PLAINTEXT://a:1,\\\n  X://b:2\nk: v\n"))
	if err != nil || got["node.id"] != "7" || got["listeners"] != "PLAINTEXT://a:1,X://b:2" || got["k"] != "v" {
		t.Fatalf("%v %v", got, err)
	}
	env, err := metadata.Environment([]string{"STRATA_NODE_ID=3", "STRATA_BUCKET_URL=dir:///x", "HOME=/"})
	if err != nil || env["node.id"] != "3" || env["strata.bucket.url"] != "dir:///x" || len(env) != 2 {
		t.Fatalf("%v %v", env, err)
	}
	if _, err := metadata.Environment([]string{"STRATA_NODE_IDD=3"}); err == nil {
		t.Fatal("a variable that names nothing was accepted")
	}
}

func TestLocalRetentionStaysWithinRetention(t *testing.T) {
	s, img := static(t, "strata.bucket.url", "dir:///b"), metadata.EmptyImage()
	for _, overrides := range []map[string]string{
		{"retention.ms": "1000", "local.retention.ms": "2000"},
		{"retention.ms": "1000", "local.retention.ms": "-1"},
		{"retention.bytes": "1000", "local.retention.bytes": "2000"},
		{"segment.bytes": "12"},
		{"no.such": "1"},
	} {
		if s.CheckTopicConfig(img, nil, overrides) == nil {
			t.Errorf("%v was accepted", overrides)
		}
	}
	if err := s.CheckTopicConfig(img, nil, map[string]string{"retention.ms": "-1", "local.retention.bytes": "1"}); err != nil {
		t.Error(err)
	}
}

func TestATimeForEverDoesNotWrapRound(t *testing.T) {
	s := static(t, "strata.sweep.grace.ms", "9223372036854775807", "connections.max.idle.ms", "-1")
	if got := s.Millis("strata.sweep.grace.ms"); got != metadata.Never {
		t.Errorf("%v", got)
	}
	if got := s.Millis("connections.max.idle.ms"); got >= 0 {
		t.Errorf("-1 became %v", got)
	}
}

func TestPluginSettingsOfKafkaAreAcceptedAndNamed(t *testing.T) {
	_, ignored, err := metadata.NewStatic(map[string]string{"node.id": "1", "rsm.config.x": "1", "rlmm.config.y": "2", "listener.name.a.ssl.keystore.type": "PEM"})
	if err != nil || len(ignored) != 3 {
		t.Fatalf("%v %v", ignored, err)
	}
}

func TestDeletionOnDisableIsOnlyWhatTheTopicItselfAsksFor(t *testing.T) {
	if static(t, "strata.bucket.url", "dir:///b", "strata.remote.storage.enable", "false").Topic(metadata.EmptyImage(), "x").RemoteDelete {
		t.Error("a default asks for deletion")
	}
}

func TestAnUploadMayLagNoLongerThanLocalRetention(t *testing.T) {
	img := metadata.EmptyImage()
	for name, tc := range map[string]struct {
		pairs     []string
		ms, bytes int64
	}{
		"default is at once":                 {nil, 0, -1},
		"as given":                           {[]string{"log.remote.copy.lag.ms", "7", "log.remote.copy.lag.bytes", "9"}, 7, 9},
		"-1 is local retention":              {[]string{"log.remote.copy.lag.ms", "-1", "log.local.retention.ms", "5", "log.local.retention.bytes", "6"}, 5, 6},
		"-1 of local retention for ever":     {[]string{"log.remote.copy.lag.ms", "-1", "log.retention.ms", "-1"}, -1, -1},
		"-1 and local retention as in total": {[]string{"log.remote.copy.lag.ms", "-1", "log.retention.ms", "8", "log.retention.bytes", "9"}, 8, 9},
	} {
		c := static(t, tc.pairs...).Topic(img, "x")
		if c.RemoteCopyLagMs != tc.ms || c.RemoteCopyLagBytes != tc.bytes {
			t.Errorf("%s: %d ms, %d bytes; want %d, %d", name, c.RemoteCopyLagMs, c.RemoteCopyLagBytes, tc.ms, tc.bytes)
		}
	}
}

func TestCompactionSettingsComeFromTheBrokerWhereTheTopicHasNone(t *testing.T) {
	c := static(t, "log.cleaner.min.compaction.lag.ms", "3", "log.cleaner.max.compaction.lag.ms", "4", "log.cleaner.min.cleanable.ratio", "0.25").Topic(metadata.EmptyImage(), "x")
	if c.MinCompactionLagMs != 3 || c.MaxCompactionLagMs != 4 || c.MinCleanableDirtyRatio != 0.25 {
		t.Errorf("%d %d %v", c.MinCompactionLagMs, c.MaxCompactionLagMs, c.MinCleanableDirtyRatio)
	}
}

func TestABrokerThatIsToldToHaveAccessRulesDoesNotStart(t *testing.T) {
	name := "authorizer.class.name"
	if _, _, err := metadata.NewStatic(map[string]string{name: "org.apache.kafka.metadata.authorizer.StandardAuthorizer"}); err == nil || !strings.Contains(err.Error(), name+"=org.") {
		t.Errorf("got %v", err)
	}
	if _, _, err := metadata.NewStatic(map[string]string{name: ""}); err != nil {
		t.Error(err)
	}
}
