package integration_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stratabroker/strata/integration/harness"
)

// Kafka's tools, as its scripts start them.
const (
	kafkaTopics     = "org.apache.kafka.tools.TopicCommand"
	kafkaConfigs    = "kafka.admin.ConfigCommand"
	kafkaGetOffsets = "org.apache.kafka.tools.GetOffsetShell"
	kafkaProducer   = "org.apache.kafka.tools.ConsoleProducer"
	kafkaConsumer   = "org.apache.kafka.tools.consumer.ConsoleConsumer"
)

// kafka runs one of Kafka's tools.
func kafka(t *testing.T, broker *harness.Broker, class, stdin string, args ...string) string {
	t.Helper()
	return output(t, stdin, "java", javaArgs(t, append([]string{class, "--bootstrap-server", broker.Addr}, args...)...)...)
}

func consoleConsumer(t *testing.T, broker *harness.Broker, args ...string) string {
	t.Helper()
	return kafka(t, broker, kafkaConsumer, "", append([]string{"--timeout-ms", "30000"}, args...)...)
}

// TestJavaConsoleClients writes with each codec and acks, and reads back what the tools can show.
func TestJavaConsoleClients(t *testing.T) {
	t.Parallel()
	broker := harness.Start(t, harness.Options{})
	var want []string
	for _, v := range []variant{{"none", 0, false}, {"gzip", 1, false}, {"snappy", -1, true}, {"lz4", -1, false}, {"zstd", -1, true}} {
		var lines strings.Builder
		for n := range 20 {
			fmt.Fprintf(&lines, "h:%s\tk%d\t%s,%d\n", v, n, v, n)
			want = append(want, fmt.Sprintf("Offset:%d\th:%s\tk%d\t%s,%d", len(want), v, n, v, n))
		}
		kafka(
			t, broker, kafkaProducer, lines.String(), "--topic", "console", "--compression-codec", v.codec,
			"--reader-property", "parse.key=true", "--reader-property", "parse.headers=true",
			"--command-property", "acks="+strconv.Itoa(v.acks), "--command-property", "enable.idempotence="+strconv.FormatBool(v.idempotent),
		)
	}
	got := consoleConsumer(
		t, broker, "--topic", "console", "--from-beginning", "--max-messages", strconv.Itoa(len(want)),
		"--formatter-property", "print.key=true", "--formatter-property", "print.headers=true", "--formatter-property", "print.offset=true",
	)
	same(t, "all", got, want)
}

// TestJavaTransactionIsRefused: the producer gets an exception with the reason, and soon.
func TestJavaTransactionIsRefused(t *testing.T) {
	t.Parallel()
	broker := harness.Start(t, harness.Options{})
	got := output(t, "", "java", javaArgs(t, filepath.Join("kafka", "Transaction.java"), broker.Addr)...)
	if !strings.Contains(got, "TransactionalIdAuthorizationException") {
		t.Error(got)
	}
}

// TestKafkaTopics creates, lists, describes, grows and deletes.
func TestKafkaTopics(t *testing.T) {
	t.Parallel()
	broker := harness.Start(t, harness.Options{})
	topics := func(args ...string) string { return kafka(t, broker, kafkaTopics, "", args...) }
	topics("--create", "--topic", "made", "--partitions", "3", "--replication-factor", "1", "--config", "retention.ms=86400000")
	topics("--create", "--topic", "made", "--if-not-exists")
	topics("--alter", "--topic", "made", "--partitions", "5")
	described := topics("--describe", "--topic", "made")
	for _, part := range []string{"PartitionCount: 5", "ReplicationFactor: 1", "retention.ms=86400000", "Partition: 4", "Leader: 1"} {
		if !strings.Contains(described, part) {
			t.Errorf("described without %q:\n%s", part, described)
		}
	}
	if got := topics("--list"); got != "made\n" {
		t.Errorf("list: %q", got)
	}
	shrunk := tool(t, "", "java", javaArgs(t, kafkaTopics, "--bootstrap-server", broker.Addr, "--alter", "--topic", "made", "--partitions", "2")...)
	if shrunk.code == 0 || !strings.Contains(shrunk.stdout+shrunk.stderr, "would not be an increase") {
		t.Errorf("shrink: exit status %d: %s%s", shrunk.code, shrunk.stdout, shrunk.stderr)
	}
	topics("--delete", "--topic", "made")
	if got := topics("--list"); strings.Contains(got, "made") {
		t.Errorf("list after the deletion: %q", got)
	}
}

// TestKafkaConfigs alters and describes topics and brokers.
func TestKafkaConfigs(t *testing.T) {
	t.Parallel()
	broker := harness.Start(t, harness.Options{})
	client := broker.Client()
	createTopic(t, client, "configured", 1)
	configs := func(args ...string) string { return kafka(t, broker, kafkaConfigs, "", args...) }
	topic := []string{"--entity-type", "topics", "--entity-name", "configured"}
	configs(append(topic, "--alter", "--add-config", "retention.ms=123456789,cleanup.policy=[compact,delete]", "--delete-config", "local.retention.bytes")...)
	described := configs(append(topic, "--describe")...)
	for _, part := range []string{"retention.ms=123456789", "cleanup.policy=compact,delete", "DYNAMIC_TOPIC_CONFIG:segment.bytes=1048576"} {
		if !strings.Contains(described, part) {
			t.Errorf("described without %q:\n%s", part, described)
		}
	}
	if strings.Contains(described, "local.retention.bytes") {
		t.Errorf("a deleted config is there:\n%s", described)
	}
	if all := configs(append(topic, "--describe", "--all")...); !strings.Contains(all, "segment.ms=604800000") {
		t.Errorf("all configs:\n%s", all)
	}
	one := []string{"--entity-type", "brokers", "--entity-name", "1"}
	configs(append(one, "--alter", "--add-config", "log.retention.ms=7200000")...)
	if described := configs(append(one, "--describe")...); !strings.Contains(described, "DYNAMIC_BROKER_CONFIG:log.retention.ms=7200000") {
		t.Errorf("the broker's configs:\n%s", described)
	}
	configs("--entity-type", "brokers", "--entity-default", "--alter", "--add-config", "log.retention.ms=3600000")
	if described := configs("--entity-type", "brokers", "--entity-default", "--describe"); !strings.Contains(described, "log.retention.ms=3600000") {
		t.Errorf("the default of the brokers' configs:\n%s", described)
	}
}

// TestKafkaGetOffsets asks for every special time, and for a time in each tier.
func TestKafkaGetOffsets(t *testing.T) {
	t.Parallel()
	s := across(t)
	for time, want := range map[string]int{
		"latest": len(s.lines), "earliest": 0, "max-timestamp": len(s.lines) - 1, "earliest-local": s.local,
		"latest-tiered": s.local - 1, "earliest-pending-upload": s.local, "1500": 2, strconv.Itoa(1000*s.local - 1): s.local,
	} {
		t.Run(time, func(t *testing.T) {
			t.Parallel()
			got := kafka(t, s.broker, kafkaGetOffsets, "", "--topic", s.topic, "--time", time)
			if got != fmt.Sprintf("%s:0:%d\n", s.topic, want) {
				t.Errorf("%q, want %d", got, want)
			}
		})
	}
}
