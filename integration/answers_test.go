package integration_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// measured holds Kafka's answers to the odd requests, a line each. It is
// written by
//
//	go test ./integration -run TestAnswersAreKafkas -measure HOST:PORT
//
// against a fresh Kafka with one broker, node.id=1 and group.initial.rebalance.delay.ms=0.
const measured = "testdata/answers-kafka-4.3.1.txt"

var measure = flag.String("measure", "", "address of a Kafka broker whose answers are to be written to "+measured)

// oddity is one request that clients send by mistake or not at all. ask
// returns the answer as text.
type oddity struct {
	name string
	ask  func(*odd) string
}

// odd is what the odd requests are sent to.
type odd struct {
	*wire
	addr   string
	prefix string // of all names, so that a broker can be asked twice
}

// difference is a strata's answer where it is not Kafka's, with the reason.
type difference struct{ answer, reason string }

var differences = map[string]difference{
	"produce null records":                                   {"INVALID_RECORD offset -1", "Kafka never answers"},
	"produce a batch with bytes behind it":                   {"INVALID_RECORD offset -1", "Kafka drops the bytes in silence"},
	"produce codec 7":                                        {"UNSUPPORTED_COMPRESSION_TYPE offset -1", "clearer"},
	"produce timestamp -5":                                   {"NONE offset 1", "no time below 0 is judged; Kafka takes -1 only"},
	"a producer's batch again after five others":             {sixAndTwo, "the record is there: clients take it as success"},
	"a producer without an epoch":                            {"INVALID_RECORD offset -1", "it is no idempotent producer's batch, nor another's"},
	"fetch offset -1":                                        {outOfRange, "the high watermark is known"},
	"fetch offset -5":                                        {outOfRange, "the high watermark is known"},
	"fetch beyond the high watermark":                        {outOfRange, "the high watermark is known"},
	"fetch with a last epoch that is not known yet":          {outOfRange, "the high watermark is known"},
	"session with a partition added":                         {firstCome, "who was sent records stands behind others only while it has more"},
	"session whose answers have room for one partition":      {inTurn, "the answer to the full fetch counts as a turn too"},
	"session with a partition twice":                         {twice, "a full fetch answers all that it names"},
	"session with the zero topic id":                         {noTopicTwice, "clearer"},
	"session with an offset out of range":                    {outOfRangeOnce, "the high watermark is known"},
	"metadata of a null name and the zero id":                {"1 topics: INVALID_TOPIC_EXCEPTION of 0 partitions", "clearer"},
	"metadata of an id in version 10":                        {"1 topics: UNKNOWN_TOPIC_ID of 0 partitions", "ids are served there too"},
	`create with retention.bytes="-7"`:                       {"INVALID_CONFIG", "stricter: it has no meaning"},
	"remove a config that is none":                           {"INVALID_CONFIG", "stricter: a slip is told"},
	"alter with operation 9":                                 {"INVALID_REQUEST", "clearer"},
	"alter a broker's config that is none":                   {"INVALID_REQUEST", "stricter: there are no plugins to give it to"},
	"describe two groups and one of them again":              {`NONE Empty "" "" operations -2147483648 members [], ` + deadGroup, "each is described once: a request could ask for large ones without end"},
	"join as a member that was invited, with an instance id": {"UNKNOWN_MEMBER_ID generation -1 type - protocol - same id nobody leads skip false members 0", "Kafka fails on a check of its own"},
	"offsets of a group twice":                               {"NONE: NONE offset 3", "a group is told once, what the first asks for: a request could ask for large ones without end"},
	"commit to a topic and an unknown one":                   {"NONE, UNKNOWN_TOPIC_OR_PARTITION | NONE: NONE offset 3 epoch -1", "in the order of the request"},
	"find the coordinator of key type 9 in version 1":        {"INVALID_REQUEST (coordinator type 9 is not served) node -1 ", "clearer"},
	"find the coordinator of key type 9 in version 6":        {"INVALID_REQUEST (coordinator type 9 is not served) node -1 ", "clearer"},
	"find the coordinator of a share partition in version 5": {"INVALID_REQUEST (coordinator type 2 is not served) node -1 ", "clearer"},
}

const (
	deadGroup  = `NONE Dead "" "" operations -2147483648 members []`
	outOfRange = "OFFSET_OUT_OF_RANGE high watermark 10, 0 bytes"
	firstCome  = "another session: " + one0 + " | same session: " + one0 + ", 1 NONE high watermark 0, 0 bytes | same session: " + one0 + ", " + one1
	twice      = "another session: " + one0 + ", 0 NONE high watermark 1, 0 bytes | same session: " + one0
	inTurn     = "another session: " + one0 + ", 1 NONE high watermark 1, 0 bytes | same session: " + one1 + " | same session: " + one0 + " | same session: " + one1
	one0       = "0 NONE high watermark 1, 70 bytes"
	one1       = "1 NONE high watermark 1, 70 bytes"

	noTopicTwice = "another session: " + noTopic + " | same session: " + noTopic
	noTopic      = "0 UNKNOWN_TOPIC_OR_PARTITION high watermark -1, 0 bytes, 1 UNKNOWN_TOPIC_OR_PARTITION high watermark -1, 0 bytes"

	outOfRangeOnce = "another session: 0 OFFSET_OUT_OF_RANGE high watermark 1, 0 bytes | same session: 0 NONE high watermark 2, 0 bytes | same session"

	sixAndTwo = "NONE offset 0, NONE offset 1, NONE offset 2, NONE offset 3, NONE offset 4, NONE offset 5, DUPLICATE_SEQUENCE_NUMBER offset -1, NONE offset 1"
)

// TestAnswersAreKafkas compares error codes, offsets and timestamps.
func TestAnswersAreKafkas(t *testing.T) {
	var oddities []oddity
	for _, some := range [][]oddity{
		oddProduces(), oddIdempotence(), oddFetches(), oddSessions(), oddLookups(), oddMetadata(),
		oddTopics(), oddDeletions(), oddPartitions(), oddConfigs(), oddGroups(), oddOffsets(), oddManagement(), oddMembers(),
	} {
		oddities = append(oddities, some...)
	}
	asKafka(t, measured, oddities, differences)
}

// asKafka compares the answers with those in a file, or writes it with -measure.
func asKafka(t *testing.T, file string, oddities []oddity, differences map[string]difference) {
	t.Helper()
	if *measure != "" {
		var lines []string
		for i, answer := range answers(t, *measure, oddities) {
			lines = append(lines, oddities[i].name+": "+answer+"\n")
		}
		if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := readMeasured(t, file)
	if len(want) != len(oddities) {
		t.Errorf("%s has %d answers, %d are asked for", file, len(want), len(oddities))
	}
	broker := harness.Start(t, harness.Options{Set: map[string]string{"strata.remote.storage.enable": "false"}})
	for i, answer := range answers(t, broker.Addr, oddities) {
		name := oddities[i].name
		if d, ok := differences[name]; ok {
			if answer != d.answer {
				t.Errorf("%s: %s, want %s (%s)", name, answer, d.answer, d.reason)
			}
		} else if answer != want[name] {
			t.Errorf("%s: %s, Kafka answers %s", name, answer, want[name])
		}
	}
}

func readMeasured(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, answer, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		out[name] = answer
	}
	return out
}

// answers asks everything, each on a connection of its own.
func answers(t *testing.T, addr string, oddities []oddity) []string {
	t.Helper()
	prefix := fmt.Sprintf("odd%x-", rand.Uint32())
	furnish(t, addr, prefix)
	var out []string
	for _, o := range oddities {
		w := dialWire(t, addr)
		out = append(out, strings.ReplaceAll(o.ask(&odd{wire: w, addr: addr, prefix: prefix}), prefix, ""))
		_ = w.conn.Close() // the broker may have closed it
	}
	return out
}

// furnish makes the topics that the odd requests know, and waits for the groups' coordinator.
func furnish(t *testing.T, addr, prefix string) {
	t.Helper()
	w := dialWire(t, addr)
	o := &odd{wire: w, addr: addr, prefix: prefix}
	for name, config := range map[string][2]string{
		"plain": {"retention.ms", "-1"}, "compacted": {"cleanup.policy", "compact"}, "small": {"max.message.bytes", "500"},
		"recent": {"message.timestamp.before.max.ms", "3600000"}, "a.b": {"retention.ms", "-1"},
	} {
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = prefix+name, 2, 1
		topic.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: config[0], Value: &config[1]}}
		if got := o.create(topic); got != "NONE" {
			t.Fatal(got)
		}
	}
	for n := range 10 {
		if got := o.produce("plain", 0, batchAt(1_000_000+1000*int64(n))); !strings.HasPrefix(got, "NONE") {
			t.Fatal(got)
		}
	}
	harness.Eventually(t, wireLimit, "the coordinator is there", func() error {
		req := at(4, kmsg.NewPtrFindCoordinatorRequest())
		req.CoordinatorKeys = []string{prefix + "group"}
		if c := must[*kmsg.FindCoordinatorResponse](w, req).Coordinators[0].ErrorCode; c != 0 {
			return errors.New(code(c))
		}
		fetch := at(1, kmsg.NewPtrOffsetFetchRequest())
		fetch.Group = prefix + "group"
		if resp := must[*kmsg.OffsetFetchResponse](w, at(2, fetch)); resp.ErrorCode != 0 {
			return errors.New(code(resp.ErrorCode))
		}
		return nil
	})
}

// answer asks and renders; a closed connection, and silence, are answers too.
func answer[R kmsg.Response](o *odd, req kmsg.Request, render func(R) string) string {
	o.t.Helper()
	resp, err := o.ask(req)
	switch {
	case errors.Is(err, io.EOF):
		return "closed"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer"
	case err != nil:
		o.t.Fatalf("%s version %d: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	return render(resp.(R))
}

// each renders the elements of an answer.
func each[E any](elements []E, render func(E) string) string {
	var out []string
	for _, e := range elements {
		out = append(out, render(e))
	}
	return strings.Join(out, ", ")
}

func ptr[T any](v T) *T { return &v }

// batchAt is a batch with one record.
func batchAt(ms int64) record.Batch {
	b := record.NewBuilder(0)
	b.Add(record.Record{Timestamp: protocol.Timestamp(ms), Key: []byte("k"), Value: []byte("v")})
	return b.Bytes()
}
