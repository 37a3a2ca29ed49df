package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stratabroker/strata/integration/harness"
)

// object runs a command that prints one JSON object.
func object(t *testing.T, args ...string) map[string]any {
	t.Helper()
	out := ok(t, "", append(args, "--json")...)
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("strata %s --json: %v in %q", strings.Join(args, " "), err, out)
	}
	return got
}

// want compares a part of an answer: numbers, strings, bools, nil and lists by their text.
func want(t *testing.T, got any, want string) {
	t.Helper()
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if json.Unmarshal(text, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

// field follows names and numbers into an answer.
func field(t *testing.T, in any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch at := step.(type) {
		case string:
			m, ok := in.(map[string]any)
			if !ok {
				t.Fatalf("no field %s in %v", at, in)
			}
			in = m[at]
		case int:
			l, ok := in.([]any)
			if !ok || at >= len(l) {
				t.Fatalf("no item %d in %v", at, in)
			}
			in = l[at]
		}
	}
	return in
}

func TestTopicsAreMadeChangedAndListed(t *testing.T) {
	b := harness.Start(t, harness.Options{Set: map[string]string{"auto.create.topics.enable": "false"}})
	t.Setenv("STRATA_BOOTSTRAP", b.Addr)
	want(t, object(t, "topic", "create", "a", "b", "--partitions", "2", "--config", "retention.ms=-1"),
		`{"results":[{"topic":"a","result":"created"},{"topic":"b","result":"created"}]}`)
	refused(t, 1, []string{"topic", "create", "a"}, "not created: a:", "--if-not-exists")
	want(t, object(t, "topic", "create", "a", "c", "--if-not-exists", "--partitions", "1"),
		`{"results":[{"topic":"a","result":"exists"},{"topic":"c","result":"created"}]}`)
	refused(t, 1, []string{"topic", "create", "d", "--config", "retention.ms=soon"}, "not created: d:", "retention.ms", "soon")
	stdout, stderr, code := strata(t, "", "topic", "create", "a", "--json")
	if code != 1 || !strings.Contains(stdout, `"result":"failed"`) || !strings.Contains(stderr, "not created") {
		t.Errorf("status %d: %s%s", code, stdout, stderr)
	}

	got := object(t, "topic", "list")
	for i, want := range []string{"a", "b", "c"} {
		if name := field(t, got, "topics", i, "topic"); name != want {
			t.Errorf("topic %d is %v, want %s", i, name, want)
		}
	}
	if out := ok(t, "", "topic", "list"); out != "TOPIC  PARTITIONS  REPLICAS\na      2           1\nb      2           1\nc      1           1\n" {
		t.Errorf("the table is\n%s", out)
	}
	want(t, object(t, "topic", "alter", "c", "--partitions", "3"), `{"results":[{"topic":"c","result":"altered"}]}`)
	refused(t, 1, []string{"topic", "alter", "c", "--partitions", "2"}, "not altered: c:", "3")

	described := field(t, object(t, "topic", "describe", "a", "c"), "topics")
	want(t, field(t, described, 0, "settings"), `{"retention.ms":"-1"}`)
	want(t, field(t, described, 1, "partitions"), `3`)
	want(t, field(t, described, 1, "partition_list", 2),
		`{"partition":2,"leader":1,"leader_epoch":0,"replicas":[1],"isr":[1],"log_start":0,"local_start":0,"tiered_end":0,"log_end":0}`)
	refused(t, 1, []string{"topic", "describe", "a", "none"}, "topic none", "UNKNOWN_TOPIC_OR_PARTITION", "strata topic list")

	want(t, object(t, "topic", "delete", "a", "none", "--if-exists"), `{"results":[{"topic":"a","result":"deleted"},{"topic":"none","result":"absent"}]}`)
	refused(t, 1, []string{"topic", "delete", "none"}, "not deleted: none:", "strata topic list")
	if out := ok(t, "", "topic", "delete", "b", "c"); out != "deleted b\ndeleted c\n" {
		t.Errorf("got %q", out)
	}
	want(t, object(t, "topic", "list"), `{"topics":[]}`)
}

func TestOffsetsAreLookedUpByPlaceAndTime(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	t.Setenv("STRATA_BOOTSTRAP", b.Addr)
	ok(t, "", "topic", "create", "t", "--partitions", "2")
	ok(t, "1000 a\n3000 b\n2000 c\n", "produce", "t", "--timestamp-separator", " ", "--partition", "1")
	for at, offset := range map[string]string{
		"beginning": "0", "end": "3", "2": "2", "9": "3", "1970-01-01T00:00:02Z": "1", "2038-01-01T00:00:00Z": "3", "max-timestamp": "1", "stable": "3", "local": "0", "tiered-end": "0",
	} {
		got := object(t, "topic", "offsets", "t", "--at", at)
		want(t, field(t, got, "offsets", 1, "offset"), offset)
		want(t, field(t, got, "offsets", 1, "partition"), "1")
	}
	want(t, field(t, object(t, "topic", "offsets", "t", "--at", "1970-01-01T00:00:02Z"), "offsets", 1, "timestamp"), "3000")
	if out := ok(t, "", "topic", "offsets", "t"); !strings.Contains(out, "t      1          3       none\n") {
		t.Errorf("the table is\n%s", out)
	}
	refused(t, 1, []string{"topic", "offsets", "none"}, "topic none", "strata topic list")
}

func TestSettingsAreSetShownAndTakenBack(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	t.Setenv("STRATA_BOOTSTRAP", b.Addr)
	ok(t, "", "topic", "create", "t")
	want(t, object(t, "config", "set", "topic", "t", "retention.ms=1000000", "segment.bytes=1048576"), `{"entity":"topic","name":"t","result":"changed"}`)
	got := object(t, "config", "describe", "topic", "t")
	want(t, field(t, got, "settings", 0, "name"), `"retention.ms"`)
	want(t, field(t, got, "settings", 0, "source"), `"DYNAMIC_TOPIC_CONFIG"`)
	want(t, field(t, got, "settings", 1, "value"), `"1048576"`)
	refused(t, 1, []string{"config", "set", "topic", "t", "retention.ms=5", "segment.bytes=many"}, "segment.bytes", "many")
	want(t, field(t, object(t, "config", "describe", "topic", "t", "retention.ms"), "settings", 0, "value"), `"1000000"`)
	if out := ok(t, "", "config", "set", "topic", "t", "retention.ms=1", "--dry-run"); out != "would be changed topic t\n" {
		t.Errorf("got %q", out)
	}
	ok(t, "", "config", "set", "topic", "t", "cleanup.policy+=compact")
	want(t, field(t, object(t, "config", "describe", "topic", "t", "cleanup.policy"), "settings", 0, "value"), `"delete,compact"`)
	ok(t, "", "config", "set", "topic", "t", "cleanup.policy-=compact")
	if out := ok(t, "", "config", "describe", "topic", "t", "cleanup.policy", "retention.ms", "--synonyms"); !strings.Contains(out, "\nretention.ms          1000000  DYNAMIC_TOPIC_CONFIG\n") ||
		!strings.Contains(out, "\n  log.cleanup.policy  delete   DEFAULT_CONFIG\n") {
		t.Errorf("the table is\n%s", out)
	}
	ok(t, "", "config", "delete", "topic", "t", "retention.ms", "segment.bytes", "cleanup.policy")
	want(t, field(t, object(t, "config", "describe", "topic", "t"), "settings"), `[]`)
	refused(t, 1, []string{"config", "describe", "topic", "t", "retention.m"}, "no setting retention.m", "strata settings")
	refused(t, 1, []string{"config", "describe", "topic", "none"}, "strata topic list")

	all := object(t, "config", "describe", "broker", "1", "--all")
	if n := len(field(t, all, "settings").([]any)); n < 20 {
		t.Errorf("a broker has %d settings", n)
	}
	refused(t, 1, []string{"config", "describe", "broker", "7"}, "7")
}

func TestRecordsGoThroughJSONUnchanged(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	t.Setenv("STRATA_BOOTSTRAP", b.Addr)
	ok(t, "", "topic", "create", "from", "to", "--partitions", "2")
	input := strings.Join([]string{
		`{"key":"k","value":"v <&> \u00e9","timestamp":1308042000000,"headers":[{"key":"h","value":"x"},{"key":"h","value_base64":"/w=="},{"key":"n"}],"partition":1}`,
		`{"key":"","value":null,"partition":1}`,
		`{"key_base64":"//8=","value_base64":"AP8=","partition":0}`,
		`{"partition":0}`,
	}, "\n") + "\n"
	if out := ok(t, input, "produce", "from", "--input", "json", "--keep-partition", "--json"); out != `{"topic":"from","written":4}`+"\n" {
		t.Errorf("got %q", out)
	}
	first := ok(t, "", "consume", "from", "--until-end", "--json")
	for _, line := range []string{
		`{"topic":"from","partition":1,"offset":0,"timestamp":1308042000000,"key":"k","value":"v <&> é","headers":[{"key":"h","value":"x"},{"key":"h","value_base64":"/w=="},{"key":"n"}]}`,
		`"key_base64":"//8=","value_base64":"AP8="}`,
	} {
		if !strings.Contains(first, line+"\n") {
			t.Errorf("no %s in\n%s", line, first)
		}
	}
	ok(t, first, "produce", "to", "--input", "json", "--keep-partition")
	for _, partition := range []string{"0", "1"} {
		read := func(topic string) string {
			return strings.ReplaceAll(ok(t, "", "consume", topic, "--until-end", "--json", "--partition", partition), `"topic":"`+topic+`"`, "")
		}
		if a, b := read("from"), read("to"); a != b || a == "" {
			t.Errorf("partition %s: consumed\n%swritten again\n%s", partition, a, b)
		}
	}

	file := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte("of a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ok(t, "not read", "produce", "file", "--file", file)
	if got := ok(t, "", "consume", "file", "--until-end"); got != "of a file\n" {
		t.Errorf("got %q", got)
	}
	refused(t, 1, []string{"produce", "file", "--file", file + "-none"}, "no such file")
}

func TestProduceSaysWhichLineOfJSONIsWrong(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	t.Setenv("STRATA_BOOTSTRAP", b.Addr)
	for line, said := range map[string]string{
		`{"kye":"k"}`:                         "kye",
		`"text"`:                              "JSON object",
		``:                                    "it is empty",
		`{"value":"a"} {"value":"b"}`:         "there is more",
		`{"value":"a","value_base64":"YQ=="}`: "exclude each other",
		`{"value_base64":"%"}`:                "base64",
	} {
		_, stderr, code := strata(t, `{"value":"good"}`+"\n"+line+"\n", "produce", "t", "--input", "json")
		if code != 1 || !strings.Contains(stderr, "line 2") || !strings.Contains(stderr, said) || !strings.Contains(stderr, "1 records written") {
			t.Errorf("%s: status %d: %s", line, code, stderr)
		}
	}
	_, stderr, code := strata(t, `{"value":"a"}`+"\n", "produce", "t", "--input", "json", "--keep-partition")
	if code != 1 || !strings.Contains(stderr, "line 1") || !strings.Contains(stderr, "partition") {
		t.Errorf("status %d: %s", code, stderr)
	}
}

func TestHealthAsksWhetherABrokerIsReady(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	if out := ok(t, "", "health", "--http", b.HTTP); out != "ok\n" {
		t.Errorf("got %q", out)
	}
	want(t, object(t, "health", "--http", b.HTTP), `{"ready":true}`)
	b.Stop()
	refused(t, 1, []string{"health", "--http", b.HTTP}, "not ready", "refused")
}

func TestEveryCommandThatNeedsNoBrokerAnswersInJSON(t *testing.T) {
	want(t, field(t, object(t, "settings", "segment.bytes"), "settings", 0, "default"), `"1073741824"`)
	if n := len(field(t, object(t, "apis"), "apis").([]any)); n < 20 {
		t.Errorf("%d APIs", n)
	}
	if v := field(t, object(t, "version"), "version"); v == "" || v == nil {
		t.Errorf("version %v", v)
	}
}

func TestDevSaysWhereItIsInJSON(t *testing.T) {
	b := harness.Start(t, harness.Options{Args: []string{"--json"}})
	harness.Eventually(t, waitLimit, "it says where it is", func() error {
		stdout, stderr := b.Log()
		var got struct {
			Listeners []string `json:"listeners"`
			HTTP      string   `json:"http"`
			Bucket    string   `json:"bucket"`
		}
		if err := json.Unmarshal([]byte(stdout), &got); err != nil {
			return err
		}
		if len(got.Listeners) != 1 || !strings.HasSuffix(got.Listeners[0], b.Addr) || got.HTTP != b.HTTP || got.Bucket != "dir://"+b.DataDir+"/bucket" {
			return fmt.Errorf("it said %s", stdout)
		}
		for line := range strings.Lines(stderr) {
			if !json.Valid([]byte(line)) {
				return fmt.Errorf("a line of the log is %q", line)
			}
		}
		return nil
	})
}
