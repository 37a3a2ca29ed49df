package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/stratabroker/strata/integration/harness"
)

// toolLimit is for one run of a client's tool.
const toolLimit = time.Minute

// others installs the clients of other makers, once, and returns the folder of Kafka's jars.
var others = sync.OnceValues(func() (string, error) {
	setup := exec.Command("./setup.sh", "kcat", "kafka")
	setup.Stdout, setup.Stderr = os.Stderr, os.Stderr
	if err := setup.Run(); err != nil {
		return "", fmt.Errorf("install the clients: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	jars, err := filepath.Glob(filepath.Join(cache, "strata", "kafka-*", "libs", "kafka-clients-*.jar"))
	if err != nil || len(jars) == 0 {
		return "", errors.Join(fmt.Errorf("no Kafka clients in %s", cache), err)
	}
	return filepath.Dir(jars[len(jars)-1]), nil
})

// ran is what a tool did.
type ran struct {
	code           int
	stdout, stderr string
}

// tool runs a program of another maker to its end.
func tool(t *testing.T, stdin, name string, args ...string) ran {
	t.Helper()
	if _, err := others(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), toolLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	var exited *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exited) {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), errors.Join(err, ctx.Err()), stdout.String(), stderr.String())
	}
	return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// output is what a tool wrote to stdout; it must have ended well.
func output(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	r := tool(t, stdin, name, args...)
	if r.code != 0 {
		t.Fatalf("%s %s: exit status %d\n%s%s", name, strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// javaArgs are the arguments of a JVM that starts fast, with Kafka's jars.
func javaArgs(t *testing.T, args ...string) []string {
	t.Helper()
	libs, err := others()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-cp", filepath.Join(libs, "*")}, args...)
}

// variant is one way to produce.
type variant struct {
	codec      string
	acks       int
	idempotent bool
}

func (v variant) String() string {
	return fmt.Sprintf("%s/%d/%t", v.codec, v.acks, v.idempotent)
}

// variants are all ways: each codec with each acks, and idempotent.
func variants() (out []variant) {
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		for _, acks := range []int{0, 1, -1} {
			out = append(out, variant{codec, acks, false})
		}
		out = append(out, variant{codec, -1, true})
	}
	return out
}

// seam is a broker with a topic of one partition whose older part is in the bucket only.
type seam struct {
	broker *harness.Broker
	topic  string
	lines  []string // the values, in order of their offsets; the keys are their offsets
	local  int      // first offset on disk
}

// across fills the topic with lines of text, at times of 1000 ms x offset.
func across(t *testing.T) *seam {
	t.Helper()
	s := &seam{broker: harness.Start(t, harness.Options{}), topic: "seam"}
	client := s.broker.Client(
		kgo.DefaultProduceTopic(s.topic), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(64<<10),
	)
	createTopic(t, client, s.topic, 1)
	var records []*kgo.Record
	for n := range 3000 {
		s.lines = append(s.lines, fmt.Sprintf("%05d %s", n, strings.Repeat(strconv.Itoa(n%10), 990)))
		records = append(records, &kgo.Record{Key: []byte(strconv.Itoa(n)), Value: []byte(s.lines[n]), Timestamp: time.UnixMilli(int64(n) * 1000)})
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, settleLimit, "the sealed segments leave the disk", func() error {
		ends, err := uploaded(t, s.broker, s.topic, 1)
		if err == nil && ends[0] == 0 {
			return errors.New("nothing is in the bucket")
		}
		if err == nil {
			s.local = int(ends[0])
		}
		return err
	})
	return s
}

// TestClientsCrossTheSeamOfTheTiers: each reads everything, and as a group half, then exactly the rest.
func TestClientsCrossTheSeamOfTheTiers(t *testing.T) {
	s := across(t)
	half := s.local / 2
	t.Logf("%d of %d records are in the bucket only", s.local, len(s.lines))
	readers := map[string]struct {
		all   func(t *testing.T) string
		group func(t *testing.T, group string, count int) string
	}{
		"franz-go": {
			func(t *testing.T) string {
				t.Helper()
				return joined(consume(t, s.broker.Client(kgo.ConsumeTopics(s.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), len(s.lines)))
			},
			func(t *testing.T, group string, count int) string {
				t.Helper()
				client := s.broker.Client(
					kgo.ConsumeTopics(s.topic), kgo.ConsumerGroup(group), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
				)
				defer client.Close()
				records := consume(t, client, count)
				if err := client.CommitRecords(t.Context(), records...); err != nil {
					t.Fatal(err)
				}
				return joined(records)
			},
		},
		"kcat": {
			func(t *testing.T) string {
				t.Helper()
				return output(t, "", "kcat", "-b", s.broker.Addr, "-C", "-q", "-t", s.topic, "-o", "beginning", "-e")
			},
			func(t *testing.T, group string, count int) string {
				t.Helper()
				return output(t, "", "kcat", "-b", s.broker.Addr, "-q", "-X", "auto.offset.reset=earliest", "-c", strconv.Itoa(count), "-G", group, s.topic)
			},
		},
		"Java": {
			func(t *testing.T) string {
				t.Helper()
				return consoleConsumer(t, s.broker, "--topic", s.topic, "--from-beginning", "--max-messages", strconv.Itoa(len(s.lines)))
			},
			func(t *testing.T, group string, count int) string {
				t.Helper()
				return consoleConsumer(t, s.broker, "--topic", s.topic, "--from-beginning", "--group", group, "--max-messages", strconv.Itoa(count))
			},
		},
	}
	for name, r := range readers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			same(t, "all", r.all(t), s.lines)
			group := "group-" + name
			same(t, "the first half", r.group(t, group, half), s.lines[:half])
			offsets, err := kadm.NewClient(s.broker.Client()).FetchOffsets(t.Context(), group)
			if err != nil {
				t.Fatal(err)
			}
			if at, ok := offsets.Lookup(s.topic, 0); !ok || at.At != int64(half) {
				t.Errorf("committed %+v, want %d", at, half)
			}
			same(t, "the rest", r.group(t, group, len(s.lines)-half), s.lines[half:])
		})
	}
}

// same compares lines with what was written.
func same(t *testing.T, what, got string, want []string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	if slices.Equal(lines, want) {
		return
	}
	at := 0
	for at < min(len(lines), len(want)) && lines[at] == want[at] {
		at++
	}
	shown := func(of []string) string {
		if at < len(of) {
			return fmt.Sprintf("%.200q", of[at])
		}
		return "the end"
	}
	t.Fatalf("%s: %d lines, want %d; line %d is %s, want %s", what, len(lines), len(want), at, shown(lines), shown(want))
}

// joined are the values of records as lines.
func joined(records []*kgo.Record) string {
	var out strings.Builder
	for _, r := range records {
		out.Write(r.Value)
		out.WriteByte('\n')
	}
	return out.String()
}

// consume polls exactly count records; more are left unread.
func consume(t *testing.T, client *kgo.Client, count int) (records []*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), toolLimit)
	defer cancel()
	for len(records) < count {
		fetches := client.PollRecords(ctx, count-len(records))
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(records), count, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}
