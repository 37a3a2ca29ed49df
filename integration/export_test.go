package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stratabroker/strata/integration/harness"
)

// TestKafkasDumpToolReadsExportedSegments holds kafka-dump-log against strata log
// dump on the files of an export, and on those the broker still has with their indexes.
func TestKafkasDumpToolReadsExportedSegments(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	at := func(args ...string) harness.Result {
		t.Helper()
		r := harness.Run(t, []string{"STRATA_BOOTSTRAP=" + b.Addr}, args...)
		if r.Code != 0 {
			t.Fatalf("strata %s: %s", strings.Join(args, " "), r.Stderr)
		}
		return r
	}
	at("topic", "create", "t", "--config", "segment.bytes=1048576")
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd", "none"} {
		var lines strings.Builder
		for n := range 3000 {
			fmt.Fprintf(&lines, "key-%d:%s %0300d\n", n, codec, n*n)
		}
		file := filepath.Join(t.TempDir(), "lines")
		if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		at("produce", "t", "--file", file, "--key-separator", ":", "--compression", codec)
	}
	url, folder := "dir://"+b.DataDir+"/bucket", filepath.Join(t.TempDir(), "out")
	harness.Eventually(t, tourLimit, "the first segments are in the bucket", func() error {
		if r := harness.Run(t, nil, "bucket", "ls", url, "t", "--segments"); strings.Count(r.Stdout, "\n") < 2 {
			return fmt.Errorf("so far %q, %s", r.Stdout, r.Stderr)
		}
		return nil
	})
	b.Stop()
	harness.Run(t, nil, "bucket", "export", url, "t", "--to", folder)
	exported, err := filepath.Glob(filepath.Join(folder, "t-0", "*.log"))
	if err != nil || len(exported) < 2 {
		t.Fatalf("exported %v, %v", exported, err)
	}
	ours := harness.Run(t, nil, append([]string{"log", "dump", "-v"}, exported...)...)
	kafkas := output(t, "", "java", javaArgs(t, "org.apache.kafka.tools.DumpLogSegments", "--deep-iteration", "--files", strings.Join(exported, ","))...)
	if ours.Code != 0 || strings.Contains(kafkas, "isvalid: false") {
		t.Fatalf("status %d: %s", ours.Code, ours.Stderr)
	}
	for what, counts := range map[string][2]int{
		"batches": {strings.Count("\n"+ours.Stdout, "\nposition="), strings.Count(kafkas, "baseOffset: ")},
		"records": {strings.Count(ours.Stdout, "\n  offset="), strings.Count(kafkas, "| offset: ")},
		"zstd":    {strings.Count(ours.Stdout, " codec=zstd "), strings.Count(kafkas, "compresscodec: zstd")},
	} {
		if counts[0] != counts[1] || counts[0] == 0 {
			t.Errorf("%s: we count %d, Kafka %d", what, counts[0], counts[1])
		}
	}

	local := filepath.Join(b.DataDir, "t-0")
	indexes, err := filepath.Glob(filepath.Join(local, "*index"))
	if err != nil || len(indexes) < 4 {
		t.Fatalf("indexes %v, %v", indexes, err)
	}
	if r := harness.Run(t, nil, "log", "dump", local, "--summary"); r.Code != 0 {
		t.Errorf("strata log dump: %s%s", r.Stdout, r.Stderr)
	}
	sanity := output(t, "", "java", javaArgs(t, "org.apache.kafka.tools.DumpLogSegments", "--verify-index-only", "--files", strings.Join(indexes, ","))...)
	if strings.Contains(strings.ToLower(sanity), "mismatch") {
		t.Errorf("Kafka's tool says of the indexes\n%s", sanity)
	}
}
