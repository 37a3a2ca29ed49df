package integration_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stratabroker/strata/integration/harness"
)

// matrixLimit is for one client's program, also on a busy machine; installing may take as long.
const matrixLimit = 5 * time.Minute

// matrixClient is one client of another maker and its program in integration/matrix, which
// is given broker, topic and group and tells a line for each step.
type matrixClient struct {
	name   string
	part   string                       // of setup.sh
	slow   bool                         // it must be compiled: only in make clients-matrix
	run    func(folder string) []string // the command; folder is where setup.sh installs the part
	codecs []string                     // nil is all
	lacks  []string                     // steps that the client does not offer
	env    func(folder string) []string
}

func python(program string) func(string) []string {
	return func(folder string) []string {
		return []string{filepath.Join(folder, "bin", "python"), filepath.Join("matrix", "python", program)}
	}
}

// matrixClients are those that no other test runs: of the Java client, Kafka's tools, kcat
// and franz-go are the tests beside this one.
var matrixClients = []matrixClient{
	{name: "confluent-kafka", part: "python", run: python("confluent.py")},
	{name: "kafka-python", part: "python", run: python("kafkapython.py")},
	{name: "aiokafka", part: "python", run: python("aio.py"), lacks: []string{"delete group", "delete unknown group"}},
	{
		name: "kafkajs", part: "kafkajs", codecs: []string{"none", "gzip", "snappy", "lz4"},
		run: func(string) []string { return []string{"node", filepath.Join("matrix", "kafkajs", "main.js")} },
		env: func(folder string) []string { return []string{"NODE_PATH=" + filepath.Join(folder, "node_modules")} },
	},
	{
		name: "sarama", part: "sarama", slow: true,
		run: func(folder string) []string { return []string{filepath.Join(folder, "sarama")} },
	},
}

// matrixSteps is what each client must tell, but for what it lacks.
func matrixSteps(c matrixClient) (lines []string) {
	codecs := c.codecs
	if codecs == nil {
		codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}
	}
	const each = 10
	tell := func(step string, result any) {
		if !slices.Contains(c.lacks, step) {
			lines = append(lines, fmt.Sprintf("%s: %v", step, result))
		}
	}
	tell("create", 0)
	tell("create again", 36) // TOPIC_ALREADY_EXISTS
	sum := sha256.New()
	for i, codec := range codecs {
		tell("produce "+codec, fmt.Sprintf("%d-%d", i*each, i*each+each-1))
		for n := i * each; n < i*each+each; n++ {
			_, _ = fmt.Fprintf(sum, "%d k%d %s %d %s codec=%s\n", n, n, codec, n, strings.Repeat("x", 200), codec) // a hash never fails
		}
	}
	tell("consume", fmt.Sprintf("%d %x", len(codecs)*each, sum.Sum(nil)))
	tell("two members", "1 and 1 partitions")
	tell("one is left", "2 partitions")
	tell("describe group", "stable, 1 member")
	tell("list groups", "True")
	tell("committed", 20)
	tell("resumed at", 20)
	tell("delete records", 5)
	tell("bad offset resets to", 5)
	tell("alter config", 0)
	tell("config", 7777777)
	tell("add partitions", 0)
	tell("partitions", 3)
	tell("too large", 10)    // MESSAGE_TOO_LARGE
	tell("unknown topic", 3) // UNKNOWN_TOPIC_OR_PARTITION
	tell("delete group", 0)
	tell("delete unknown group", 69) // GROUP_ID_NOT_FOUND
	tell("delete topic", 0)
	return lines
}

// TestClientMatrix runs the programs of integration/matrix, each with a client of another
// maker, against one broker. STRATA_TEST_MATRIX=all adds those that must be compiled.
func TestClientMatrix(t *testing.T) {
	t.Parallel()
	broker := harness.Start(t, harness.Options{})
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range matrixClients {
		if c.slow && os.Getenv("STRATA_TEST_MATRIX") != "all" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), matrixLimit)
			defer cancel()
			if out, err := exec.CommandContext(ctx, "./setup.sh", c.part).CombinedOutput(); err != nil {
				t.Fatalf("install the client: %v\n%s", err, out)
			}
			folder := filepath.Join(cache, "strata", "clients", c.part)
			command := c.run(folder)
			cmd := exec.CommandContext(ctx, command[0], append(command[1:], broker.Addr, "matrix-"+c.name, "group-"+c.name)...)
			cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
			if c.env != nil {
				cmd.Env = append(cmd.Env, c.env(folder)...)
			}
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil {
				t.Fatalf("%s: %v\n%s%s", c.name, err, stdout.String(), stderr.String())
			}
			same(t, c.name, stdout.String(), matrixSteps(c))
		})
	}
}
