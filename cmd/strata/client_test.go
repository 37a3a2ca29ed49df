package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stratabroker/strata/integration/harness"
)

func TestWelcomeShowsCommandsThatWorkWhenPasted(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	var stdout string
	harness.Eventually(t, waitLimit, "the broker says what to try", func() error {
		if stdout, _ = b.Log(); !strings.Contains(stdout, "Ctrl-C") {
			return fmt.Errorf("it said %q", stdout)
		}
		return nil
	})
	for _, want := range []string{"is ready in", b.Addr, "http://" + b.HTTP, b.DataDir, "dir://" + b.DataDir + "/bucket"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not told in\n%s", want, stdout)
		}
	}
	// The third lists the bucket: what is in it is told a moment after a change.
	harness.Eventually(t, waitLimit, "the three commands work", func() error { return paste(t, stdout) })
	if took := b.Stop(); took > stopLimit {
		t.Errorf("it stopped after %v", took)
	}
}

// paste runs the three commands that stdout names.
func paste(t *testing.T, stdout string) error {
	t.Helper()
	var outputs []string
	for line := range strings.Lines(stdout) {
		if command := strings.TrimSpace(line); strings.Contains(command, harness.Binary(t)+" ") {
			out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v: %s", command, err, out)
			}
			outputs = append(outputs, string(out))
		}
	}
	if len(outputs) != 3 || !strings.HasSuffix(outputs[1], "\n1000\n") || !strings.Contains(outputs[2], "topic=hello") {
		return fmt.Errorf("the commands gave %.300q", outputs)
	}
	return nil
}

func TestServerWarnsOfKeysThatHaveNoEffect(t *testing.T) {
	b := harness.Start(t, harness.Options{Server: true, Set: map[string]string{"num.network.threads": "8", "num.io.threads": "2"}})
	_, log := b.Log()
	for _, name := range []string{"num.network.threads", "num.io.threads"} {
		if !regexp.MustCompile(`level=WARN .*` + regexp.QuoteMeta(name)).MatchString(log) {
			t.Errorf("no warning names %s:\n%s", name, log)
		}
	}
}

func TestRecordsComeBackAsTheyWereProduced(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	broker := []string{"--bootstrap-server", b.Addr}
	at := func(args ...string) []string { return append(args, broker...) }
	ok(t, "", at("topic", "create", "t", "--partitions", "3")...)

	ok(t, "2011-06-14T09:00:00Z a=1\n1308042001000 b=x=y\n", at("produce", "t", "--timestamp-separator", " ", "--key-separator", "=", "--partition", "2", "--header", "from=test")...)
	ok(t, "c=\n", at("produce", "t", "--key-separator", "=", "--null-value", "", "--partition", "2", "--compression", "zstd")...)
	ok(t, "d\n", at("produce", "t", "--acks", "1", "--partition", "2")...)
	ok(t, "e\n", at("produce", "t", "--acks", "0", "--partition", "1")...)

	format := `%p/%o %K:%k %V:%v %h{%k=%v}\n`
	got := ok(t, "", at("consume", "t", "--until-end", "--partition", "2", "--format", format)...)
	if want := "2/0 1:a 1:1 from=test\n2/1 1:b 3:x=y from=test\n2/2 1:c 0: \n2/3 0: 1:d \n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := ok(t, "", at("consume", "t", "--from", "beginning", "--max", "2", "--partition", "2", "--format", `%d\n`)...); got != "1308042000000\n1308042001000\n" {
		t.Errorf("timestamps %q", got)
	}
	for from, want := range map[string]string{"1": "b\nc\n\n", "2011-06-14T09:00:01Z": "b\nc\n\n", "99": "", "end": "", "2": "c\n\n"} {
		if got := ok(t, "", at("consume", "t", "--from", from, "--until-end", "--partition", "2", "--format", `%k\n`)...); got != want {
			t.Errorf("from %s: got %q, want %q", from, got, want)
		}
	}
	harness.Eventually(t, waitLimit, "the record that nobody acknowledged is there", func() error {
		if got := ok(t, "", at("consume", "t", "--until-end", "--partition", "1")...); got != "e\n" {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	refused(t, 1, at("consume", "t", "--partition", "3"), "no partition 3")
}

func TestProduceNamesTheLineThatIsWrongAndKeepsThoseBeforeIt(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	_, stderr, code := strata(t, "k:1\nk:2\nbroken\nk:4\n", "produce", "t", "--key-separator", ":", "--bootstrap-server", b.Addr)
	if code != 1 || !strings.Contains(stderr, "line 3") || !strings.Contains(stderr, "2 records written") {
		t.Errorf("status %d: %s", code, stderr)
	}
	if got := ok(t, "", "consume", "t", "--until-end", "--bootstrap-server", b.Addr); got != "1\n2\n" {
		t.Errorf("got %q", got)
	}
}

func TestGroupGoesOnWhereItStopped(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	ok(t, "1\n2\n3\n4\n5\n", "produce", "t", "--bootstrap-server", b.Addr)
	consume := func(n string) string {
		return ok(t, "", "consume", "t", "--group", "g", "--max", n, "--bootstrap-server", b.Addr)
	}
	if got := consume("2"); got != "1\n2\n" {
		t.Errorf("first %q", got)
	}
	if got := consume("1"); got != "3\n" {
		t.Errorf("then %q", got)
	}
	b.Stop()
	b.Again()
	if got := consume("2"); got != "4\n5\n" {
		t.Errorf("after a restart %q", got)
	}
}

func TestTopicCommands(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	at := func(args ...string) []string { return append(args, "--bootstrap-server", b.Addr) }
	if got := ok(t, "", at("topic", "create", "a", "b", "--partitions", "2", "--config", "retention.ms=-1")...); got != "created a\ncreated b\n" {
		t.Errorf("create: %q", got)
	}
	refused(t, 1, at("topic", "create", "c", "--config", "retention.msec=1"), "c: ", "retention.msec")
	if _, stderr, code := strata(t, "", at("topic", "create", "a")...); code != 1 || !strings.Contains(stderr, "exists") {
		t.Errorf("create again: status %d, %q", code, stderr)
	}
	if got := ok(t, "", at("topic", "list")...); got != "TOPIC  PARTITIONS  REPLICAS\na      2           1\nb      2           1\n" {
		t.Errorf("list: %q", got)
	}
	ok(t, "1\n2\n", at("produce", "a", "--partition", "1")...)
	got := ok(t, "", at("topic", "describe", "a")...)
	if !regexp.MustCompile(`(?ms)TIERED-END +END$.*^1 +1 +0 +1 +1 +0 +0 +0 +2$`).MatchString(got) || !strings.Contains(got, "\nretention.ms=-1\n") || strings.Contains(got, "segment.bytes") {
		t.Errorf("describe:\n%s", got)
	}
	if got := ok(t, "", at("topic", "describe", "a", "--all-settings")...); !strings.Contains(got, "\nsegment.bytes=1073741824\n") {
		t.Errorf("describe --all-settings:\n%s", got)
	}
	if got := ok(t, "", at("topic", "delete", "a")...); got != "deleted a\n" {
		t.Errorf("delete: %q", got)
	}
	refused(t, 1, at("topic", "describe", "a"), "a: UNKNOWN_TOPIC_OR_PARTITION")
	refused(t, 1, at("topic", "delete", "a"), "not deleted: a")
}

func TestBucketCommandsReadWhatWasTiered(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	at := func(args ...string) []string { return append(args, "--bootstrap-server", b.Addr) }
	ok(t, "", at("topic", "create", "t", "--config", "segment.bytes=1048576", "--config", "local.retention.bytes=1")...)
	var lines strings.Builder
	for i := range 40000 {
		fmt.Fprintf(&lines, "event %06d with some text so that a segment fills\n", i)
	}
	ok(t, lines.String(), at("produce", "t")...)
	url := "dir://" + filepath.Join(b.DataDir, "bucket")
	harness.Eventually(t, waitLimit, "a sealed segment is in the bucket", func() error {
		if got := ok(t, "", "bucket", "ls", url, "t", "--segments"); !strings.Contains(got, "topic=t partition=0 offsets=[0,") {
			return fmt.Errorf("it lists %q", got)
		}
		return nil
	})
	if got := ok(t, "", "bucket", "ls", url); strings.Contains(got, "__") || !strings.Contains(got, "topic=t partition=0 log-start=0 tiered-end=") {
		t.Errorf("ls: %q", got)
	}
	got := ok(t, "", "bucket", "cat", url, "t/0", "--from", "3", "--max", "2", "--format", `%t/%p %o %v\n`)
	want := "t/0 3 event 000003 with some text so that a segment fills\nt/0 4 event 000004 with some text so that a segment fills\n"
	if got != want {
		t.Errorf("cat: got %q, want %q", got, want)
	}
	refused(t, 1, []string{"bucket", "cat", url, "none/0"}, "not in the bucket")
	b.Stop()
	if stdout, stderr, code := strata(t, "", "bucket", "verify", url); code != 0 || stdout != "" || !strings.Contains(stderr, "\nanomalies: 0; not in use: ") {
		t.Errorf("verify: status %d, %q, %q", code, stdout, stderr)
	}
	objects, err := filepath.Glob(filepath.Join(b.DataDir, "bucket", "data", "*", "*", "*", "*.seg"))
	if err != nil || len(objects) == 0 {
		t.Fatalf("no segment object: %v", err)
	}
	if err := os.Remove(objects[0]); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := strata(t, "", "bucket", "verify", url)
	if code != 1 || !strings.Contains(stdout, "missing_segment") || strings.Count(stdout, "\n") != 1 || !strings.Contains(stderr, "strata: bucket "+url+": 1 anomalies") {
		t.Errorf("verify of a bucket without an object: status %d, %q, %q", code, stdout, stderr)
	}
}
