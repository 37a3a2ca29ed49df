package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stratabroker/strata/integration/harness"
)

// parseLines reads JSON objects, one a line.
func parseLines(t *testing.T, out string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(out) {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		all = append(all, got)
	}
	return all
}

// archive is a bucket with two partitions of a topic, and the broker's folder; the broker has stopped.
func archive(t *testing.T) (url, dataDir string) {
	t.Helper()
	b := harness.Start(t, harness.Options{})
	t.Setenv("STRATA_BOOTSTRAP", b.Addr)
	ok(t, "", "topic", "create", "t", "--partitions", "2", "--config", "segment.bytes=1048576", "--config", "retention.ms=-1")
	for _, partition := range []string{"0", "1"} {
		from := 0
		for _, to := range []int{20, 40, 60, 7000} { // the first batches are small, so that an index has entries
			var input strings.Builder
			for ; from < to; from++ {
				fmt.Fprintf(&input, "%d key-%d:%0500d\n", 1308042000000+from*1000, from%10, from)
			}
			ok(t, input.String(), "produce", "t", "--partition", partition, "--timestamp-separator", " ", "--key-separator", ":")
		}
	}
	url = "dir://" + b.DataDir + "/bucket"
	harness.Eventually(t, waitLimit, "sealed segments are in the bucket", func() error {
		for _, p := range bucketList(t, url, "t") {
			if p["segments"].(float64) < 3 {
				return fmt.Errorf("so far %v", p)
			}
		}
		return nil
	})
	b.Stop()
	return url, b.DataDir
}

// bucketList is bucket ls of a topic; nothing where the bucket has no root or topic yet.
func bucketList(t *testing.T, url string, args ...string) []map[string]any {
	t.Helper()
	out, stderr, code := strata(t, "", append([]string{"bucket", "ls", url, "--json"}, args...)...)
	if code != 0 {
		return []map[string]any{{"segments": 0.0, "error": stderr}}
	}
	all := parseLines(t, out)
	if len(all) == 0 {
		return []map[string]any{{"segments": 0.0}}
	}
	return all
}

func TestABucketIsListedReadAndVerifiedInJSON(t *testing.T) {
	url, _ := archive(t)
	partitions := bucketList(t, url, "t")
	segments := parseLines(t, ok(t, "", "bucket", "ls", url, "t", "--segments", "--json"))
	if len(partitions) != 2 || len(segments) != int(partitions[0]["segments"].(float64)+partitions[1]["segments"].(float64)) {
		t.Fatalf("partitions %v, segments %v", partitions, segments)
	}
	if s := segments[1]; s["base"] != segments[0]["end"] || s["topic"] != "t" || !strings.HasSuffix(s["object"].(string), ".seg") {
		t.Errorf("segment %v", s)
	}
	records := parseLines(t, ok(t, "", "bucket", "cat", url, "t/1", "--from", "5", "--max", "2", "--json"))
	if len(records) != 2 || records[0]["offset"] != 5.0 || records[0]["key"] != "key-5" || records[1]["timestamp"] != 1308042006000.0 {
		t.Errorf("records %v", records)
	}
	summary := parseLines(t, ok(t, "", "bucket", "verify", url, "--json"))
	if len(summary) != 1 || field(t, summary[0], "summary", "clean") != true {
		t.Errorf("verify says %v", summary)
	}
	harm(t, filepath.Join(strings.TrimPrefix(url, "dir://"), segments[0]["object"].(string)), 5000)
	stdout, stderr, code := strata(t, "", "bucket", "verify", url, "--json")
	found := parseLines(t, stdout)
	if code != 1 || !strings.Contains(stderr, "1 anomalies") || field(t, found[0], "anomaly", "kind") != "corrupt_segment" || field(t, found[1], "summary", "clean") != false {
		t.Errorf("status %d: %s%s", code, stdout, stderr)
	}
	refused(t, 1, []string{"bucket", "cat", url, "t/9"}, "partition 9", "not in the bucket")
}

// harm flips a bit of a file.
func harm(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// files lists what is below a folder.
func files(t *testing.T, folder, pattern string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(folder, pattern))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func TestExportedSegmentsAreThoseTheBrokerHad(t *testing.T) {
	url, dataDir := archive(t)
	to := filepath.Join(t.TempDir(), "out")
	got := object(t, "bucket", "export", url, "t", "--to", to)
	logs := files(t, to, "t-*/*.log")
	if field(t, got, "segments") != float64(len(logs)) || field(t, got, "kept") != 0.0 || field(t, got, "partitions") != 2.0 || len(logs) < 6 {
		t.Fatalf("it says %v of %d files", got, len(logs))
	}
	for _, file := range logs {
		local := filepath.Join(dataDir, strings.TrimPrefix(file, to))
		if !bytes.Equal(read(t, file), read(t, local)) {
			t.Errorf("%s is not what the broker has", file)
		}
		ok(t, "", "log", "dump", file, "--summary")
	}

	// A run that was killed leaves a part of a file, and may have written others.
	want := read(t, logs[1])
	harm(t, logs[1], 700)
	if err := os.Remove(logs[2]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(logs[2]+".part", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := object(t, "bucket", "export", url, "--to", to); field(t, again, "kept") != float64(len(logs)-2) || field(t, again, "segments") != float64(len(logs)) {
		t.Errorf("run again it says %v", again)
	}
	if now := files(t, to, "t-*/*"); !slices.Equal(now, logs) || !bytes.Equal(read(t, logs[1]), want) {
		t.Errorf("after the second run there are %v", now)
	}

	foreign := filepath.Join(to, "t-0", "00000000000000000001.log")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, 1, []string{"bucket", "export", url, "t/0", "--to", to}, foreign, "not of this export")
	refused(t, 1, []string{"bucket", "export", url, "t/7", "--to", to}, "partition 7", "not in the bucket")
	refused(t, 1, []string{"bucket", "export", url, "none", "--to", to}, `"none"`, "not in the bucket")
}

func TestExportedLinesAreTheRecordsAndGoOnWhereTheyStopped(t *testing.T) {
	url, _ := archive(t)
	to := t.TempDir()
	stdout, stderr, code := strata(t, "", "bucket", "export", url, "t", "--to", to, "--format", "json", "--parallel", "1", "--progress")
	if code != 0 || stdout != "" || !strings.Contains(stderr, "2 partitions") {
		t.Fatalf("status %d: %s%s", code, stdout, stderr)
	}
	for _, partition := range []string{"0", "1"} {
		file := filepath.Join(to, "t-"+partition+".jsonl")
		want := ok(t, "", "bucket", "cat", url, "t/"+partition, "--json")
		if string(read(t, file)) != want || want == "" {
			t.Fatalf("%s is not what bucket cat prints", file)
		}
		for _, size := range []int{len(want) / 3, 10, 0, len(want) - 1, strings.IndexByte(want, '\n') + 1, len(want)} {
			if err := os.Truncate(file, int64(size)); err != nil {
				t.Fatal(err)
			}
			ok(t, "", "bucket", "export", url, "t/"+partition, "--to", to, "--format", "json")
			if string(read(t, file)) != want {
				t.Fatalf("after a run that stopped at %d bytes the file differs", size)
			}
		}
	}
	foreign := filepath.Join(to, "t-0.jsonl")
	if err := os.WriteFile(foreign, []byte("my notes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, 1, []string{"bucket", "export", url, "t/0", "--to", to, "--format", "json"}, foreign, "not of this export")
	if got := string(read(t, foreign)); got != "my notes\n" {
		t.Errorf("it changed the file to %.50q", got)
	}
}

func TestExportNeverWritesWhatIsDamaged(t *testing.T) {
	url, _ := archive(t)
	segments := parseLines(t, ok(t, "", "bucket", "ls", url, "t", "--segments", "--json"))
	harm(t, filepath.Join(strings.TrimPrefix(url, "dir://"), segments[1]["object"].(string)), 9000)
	for _, format := range []string{"log", "json"} {
		to := t.TempDir()
		_, stderr, code := strata(t, "", "bucket", "export", url, "t/0", "--to", to, "--format", format)
		if code != 1 || !strings.Contains(stderr, segments[1]["object"].(string)) {
			t.Errorf("status %d: %s", code, stderr)
		}
		if _, err := os.Stat(filepath.Join(to, "t-0", fmt.Sprintf("%020d.log", int64(segments[1]["base"].(float64))))); err == nil {
			t.Error("a damaged segment was written")
		}
	}
}

func TestDumpShowsWhatABrokerWrote(t *testing.T) {
	_, dataDir := archive(t)
	folder := filepath.Join(dataDir, "t-0")
	if out := ok(t, "", "log", "dump", folder, filepath.Join(dataDir, "t-1"), "--summary"); strings.Count(out, ": good, offsets ") != len(files(t, dataDir, "t-*/*.log")) {
		t.Errorf("the summary is\n%s", out)
	}
	batches, records, kinds := 0, []map[string]any{}, map[string]int{}
	for _, line := range parseLines(t, ok(t, "", "log", "dump", folder, "-v", "--json")) {
		for kind, fields := range line {
			kinds[kind]++
			switch kind {
			case "batch":
				batches++
				if field(t, fields, "valid") != true {
					t.Errorf("batch %v", fields)
				}
			case "record":
				records = append(records, fields.(map[string]any))
			}
		}
	}
	if len(records) != 7000 || records[6999]["offset"] != 6999.0 || records[12]["key"] != "key-2" || batches == 0 ||
		kinds["index_entry"] == 0 || kinds["time_entry"] == 0 || kinds["epoch"] == 0 || kinds["summary"] == 0 || kinds["producer"] == 0 {
		t.Errorf("%d records, kinds %v", len(records), kinds)
	}
	text := ok(t, "", "log", "dump", files(t, folder, "*.log")[0], "-v")
	for _, want := range []string{"position=0 offsets=0..", "codec=none crc=", ":ok epoch=0 ", `  offset=3 timestamp=2011-06-14T09:00:03.000Z key="key-3" value="000`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%.2000s", want, text)
		}
	}

	harm(t, files(t, folder, "*.log")[1], 3000)
	stdout, stderr, code := strata(t, "", "log", "dump", folder, "--summary")
	if code != 1 || !strings.Contains(stdout, "! "+files(t, folder, "*.log")[1]+" position ") || !strings.Contains(stdout, "CRC is") || !strings.Contains(stderr, "1 things are wrong") {
		t.Errorf("status %d: %s%s", code, stdout, stderr)
	}
	stdout, _, code = strata(t, "", "log", "dump", folder, "--summary", "--json")
	if code != 1 || !strings.Contains(stdout, `"finding":{`) {
		t.Errorf("status %d: %s", code, stdout)
	}
	refused(t, 1, []string{"log", "dump", t.TempDir()}, "no segment")
	refused(t, 1, []string{"log", "dump", filepath.Join(folder, "none")}, "no such file")
	refused(t, 2, []string{"log", "dump", folder, "-v", "--summary"}, "exclude each other")
}
