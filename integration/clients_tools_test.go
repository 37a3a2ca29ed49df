package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/protocol"
)

// toolRun is one run of one of Kafka's tools, and what its output must have; "!" before a
// part means that it must not.
type toolRun struct {
	class string
	args  []string
	code  int
	want  []string
}

// runTools runs tools in one JVM, in order.
func runTools(t *testing.T, broker *harness.Broker, runs ...toolRun) {
	t.Helper()
	var lines strings.Builder
	for _, r := range runs {
		args := append([]string{r.class}, r.args...)
		lines.WriteString(strings.ReplaceAll(strings.Join(args, "\t"), "BROKER", broker.Addr) + "\n")
	}
	rest := []byte(output(t, lines.String(), "java", javaArgs(t, filepath.Join("kafka", "Tools.java"))...))
	for _, r := range runs {
		head, after, ok := bytes.Cut(rest, []byte("\n"))
		var status, size int
		if _, err := fmt.Sscanf(string(head), "%d %d", &status, &size); err != nil || !ok || size > len(after) {
			t.Fatalf("%s: no answer in %q", r.class, rest)
		}
		said := string(after[:size])
		rest = after[size:]
		if status != r.code {
			t.Errorf("%s %s: exit status %d, want %d\n%s", r.class, strings.Join(r.args, " "), status, r.code, said)
			continue
		}
		for _, part := range r.want {
			if unwanted, not := strings.CutPrefix(part, "!"); strings.Contains(said, strings.TrimPrefix(part, "!")) == not {
				t.Errorf("%s %s: want %q (unwanted: %t %q) in\n%s", r.class, strings.Join(r.args, " "), part, not, unwanted, said)
			}
		}
	}
}

// Kafka's tools, as its scripts start them.
const (
	deleteRecordsTool = "org.apache.kafka.tools.DeleteRecordsCommand"
	logDirsTool       = "org.apache.kafka.tools.LogDirsCommand"
	electionTool      = "org.apache.kafka.tools.LeaderElectionCommand"
	reassignTool      = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
	quorumTool        = "org.apache.kafka.tools.MetadataQuorumCommand"
	clusterTool       = "org.apache.kafka.tools.ClusterTool"
	transactionsTool  = "org.apache.kafka.tools.TransactionsCommand"
)

// TestKafkasToolsOnReplicasAndTheQuorum runs each action of Kafka's tools that makes sense on one broker.
func TestKafkasToolsOnReplicasAndTheQuorum(t *testing.T) {
	t.Parallel()
	broker := harness.Start(t, harness.Options{})
	client := broker.Client(kgo.DefaultProduceTopic("tools"))
	createTopic(t, client, "tools", 1)
	for n := range 10 {
		if err := client.ProduceSync(t.Context(), &kgo.Record{Value: []byte(strconv.Itoa(n))}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	topics, err := kadm.NewClient(client).ListTopics(t.Context(), "tools")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cutAt := func(name string, offset int) string {
		return file(name, fmt.Sprintf(`{"partitions":[{"topic":"tools","partition":0,"offset":%d}],"version":1}`, offset))
	}
	same := file("same.json", `{"version":1,"partitions":[{"topic":"tools","partition":0,"replicas":[1],"log_dirs":["any"]}]}`)
	move := file("move.json", `{"version":1,"topics":[{"topic":"tools"}]}`)
	on := func(class string, args ...string) toolRun {
		return toolRun{class: class, args: append([]string{"--bootstrap-server", "BROKER"}, args...)}
	}
	with := func(r toolRun, code int, want ...string) toolRun {
		r.code, r.want = code, want
		return r
	}
	described := func(want string, args ...string) toolRun {
		return with(on(kafkaTopics, append([]string{"--describe"}, args...)...), 0, want)
	}
	runTools(t, broker,
		with(on(deleteRecordsTool, "--offset-json-file", cutAt("cut.json", 4)), 0, "partition: tools-0\tlow_watermark: 4"),
		with(on(deleteRecordsTool, "--offset-json-file", cutAt("beyond.json", 99)), 0, "partition: tools-0\terror:", "OffsetOutOfRangeException"),
		with(on(kafkaGetOffsets, "--topic", "tools", "--time", "earliest"), 0, "tools:0:4\n"),
		with(on(kafkaGetOffsets, "--topic", "tools", "--time", "-2"), 0, "tools:0:4\n"),
		with(on(kafkaGetOffsets, "--topic", "tools", "--time", "0"), 0, "tools:0:4\n"),
		with(on(kafkaGetOffsets, "--topic", "tools", "--time", "max-timestamp"), 0, "tools:0:9\n"),
		with(on(kafkaGetOffsets, "--topic-partitions", "tools:0-1"), 0, "tools:0:10\n"),
		with(on(logDirsTool, "--describe", "--topic-list", "tools"), 0, `"partition":"tools-0"`, `"offsetLag":0`, `"isFuture":false`, `"error":null`, filepath.Base(broker.DataDir)),
		with(on(logDirsTool, "--describe", "--broker-list", "9"), 1),
		with(on(electionTool, "--election-type", "preferred", "--topic", "tools", "--partition", "0"), 0, "Valid replica already elected for partitions tools-0"),
		with(on(electionTool, "--election-type", "unclean", "--all-topic-partitions"), 0, "!rror"),
		with(on(electionTool, "--election-type", "preferred", "--topic", "none", "--partition", "0"), 1, "No such topic as none"),
		with(on(reassignTool, "--generate", "--topics-to-move-json-file", move, "--broker-list", "1"), 0, "Proposed partition reassignment configuration", `"replicas":[1]`),
		with(on(reassignTool, "--execute", "--reassignment-json-file", same), 0, "Successfully started partition reassignment for tools-0"),
		with(on(reassignTool, "--verify", "--preserve-throttles", "--reassignment-json-file", same), 0, "Reassignment of partition tools-0 is completed"),
		with(on(reassignTool, "--list"), 0, "No partition reassignments found."),
		with(on(reassignTool, "--cancel", "--preserve-throttles", "--reassignment-json-file", same), 0, "None of the specified partition reassignments are active."),
		with(on(quorumTool, "describe", "--status"), 0, "LeaderId:               1", "HighWatermark:", `"id": 1`, "CurrentObservers:       []"),
		with(on(quorumTool, "describe", "--replication"), 0, "Leader", "NodeId"),
		with(toolRun{class: clusterTool, args: []string{"cluster-id", "--bootstrap-server", "BROKER"}}, 0, "Cluster ID: "),
		with(toolRun{class: clusterTool, args: []string{"list-endpoints", "--bootstrap-server", "BROKER"}}, 0, "ID", "HOST", "127.0.0.1"),
		with(toolRun{class: clusterTool, args: []string{"unregister", "--bootstrap-server", "BROKER", "--id", "99"}}, 1, "not currently registered"),
		with(toolRun{class: clusterTool, args: []string{"unregister", "--bootstrap-server", "BROKER", "--id", "1"}}, 1, "cannot be unregistered"),
		with(on(transactionsTool, "describe-producers", "--topic", "tools", "--partition", "0"), 0, "ProducerId", "LatestCoordinatorEpoch", "None"),
		with(on(transactionsTool, "find-hanging", "--broker-id", "1"), 0, "!rror"),
		described("PartitionCount: 1", "--topic", "tools"),
		described("Topic: tools", "--topic-id", protocol.TopicID(topics["tools"].ID).String()),
		described("segment.bytes=1048576", "--topics-with-overrides"),
		described("!tools", "--under-replicated-partitions"),
		described("!tools", "--unavailable-partitions"),
		described("!tools", "--under-min-isr-partitions"),
		described("Topic: tools", "--at-min-isr-partitions"),
		described("!__consumer", "--exclude-internal"),
		described("Elr: ", "--topic", "tools", "--partition-size-limit-per-response", "1"),
	)
}
