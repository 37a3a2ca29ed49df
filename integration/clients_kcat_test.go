package integration_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stratabroker/strata/integration/harness"
)

// TestKcat writes in every way and reads back keys, values, headers and order.
func TestKcat(t *testing.T) {
	broker := harness.Start(t, harness.Options{})
	kcat := func(stdin string, args ...string) string {
		return output(t, stdin, "kcat", append([]string{"-b", broker.Addr}, args...)...)
	}
	before := time.Now().UnixMilli()
	var want []string
	for _, v := range variants() {
		var lines strings.Builder
		for n := range 5 {
			fmt.Fprintf(&lines, "k%d:%s,%d,%s\n", n, v, n, strings.Repeat("x", 200))
			want = append(want, fmt.Sprintf("%d k%d:%s,%d,%s h=%s", len(want), n, v, n, strings.Repeat("x", 200), v))
		}
		kcat(
			lines.String(), "-P", "-t", "kcat", "-K:", "-z", v.codec, "-H", "h="+v.String(),
			"-X", "acks="+strconv.Itoa(v.acks), "-X", "enable.idempotence="+strconv.FormatBool(v.idempotent),
		)
		// With acks=0 kcat ends before the broker has read: the next one's records must come after.
		harness.Eventually(t, wireLimit, "the records are there", func() error {
			if got := kcat("", "-Q", "-t", "kcat:0:-1"); strings.TrimSpace(got) != fmt.Sprintf("kcat [0] offset %d", len(want)) {
				return fmt.Errorf("%s, want %d", got, len(want))
			}
			return nil
		})
	}
	same(t, "all", kcat("", "-C", "-q", "-t", "kcat", "-e", "-o", "beginning", "-f", "%o %k:%s %h\n"), want)
	for line := range strings.Lines(kcat("", "-C", "-q", "-t", "kcat", "-e", "-o", "beginning", "-f", "%T\n")) {
		if ms, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64); err != nil || ms < before || ms > time.Now().UnixMilli() {
			t.Errorf("timestamp %q, want one from %d on", line, before)
		}
	}
	same(t, "from the end", kcat("", "-C", "-q", "-t", "kcat", "-e", "-o", "-3", "-f", "%o %k:%s %h\n"), want[len(want)-3:])
	if got := kcat("", "-Q", "-t", "kcat:0:-2"); got != "kcat [0] offset 0\n" {
		t.Errorf("earliest: %q", got)
	}
	if got := kcat("", "-Q", "-t", fmt.Sprintf("kcat:0:%d", before)); got != "kcat [0] offset 0\n" {
		t.Errorf("by time: %q", got)
	}
	if got := kcat("", "-L", "-t", "kcat"); !strings.Contains(got, `topic "kcat" with 1 partitions`) || !strings.Contains(got, "(controller)") {
		t.Errorf("metadata: %s", got)
	}
	// A null value and an empty one are not the same.
	kcat("a:\nb\n", "-P", "-t", "nulls", "-K:", "-Z", "-X", "acks=all")
	same(t, "nulls", kcat("", "-C", "-q", "-t", "nulls", "-e", "-o", "beginning", "-K:", "-f", "%K %S\n"), []string{"1 -1", "-1 1"})
}

// TestKcatTransactionIsRefused: with a reason, and soon.
func TestKcatTransactionIsRefused(t *testing.T) {
	broker := harness.Start(t, harness.Options{})
	r := tool(t, "a\n", "kcat", "-b", broker.Addr, "-P", "-t", "refused", "-X", "transactional.id=t")
	if r.code == 0 || !strings.Contains(r.stderr, "Transactions are not served") {
		t.Errorf("exit status %d: %s", r.code, r.stderr)
	}
}
