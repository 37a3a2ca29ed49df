package report_test

import (
	"strings"
	"testing"

	"github.com/stratabroker/strata/integration/bench/report"
)

func TestAProfilesFunctionsAreGrouped(t *testing.T) {
	got, err := report.ParsePerf(`# To display the perf.data header info, please use --header/--header-only options.
#
# Overhead|Samples|Shared Object|Symbol
    30.00%|30|[kernel.kallsyms]|[k] rep_movs_alternative
    20.00%|20|strata-symbols|[.] github.com/stratabroker/strata/broker/log.(*Log).Append      |-      -
    10.00%|10|strata-symbols|[.] hash/crc32.ieeeCLMUL
     9.00%|9|strata-symbols|[.] runtime.memmove
     8.00%|8|[kernel.kallsyms]|[k] ext4_da_write_begin
     7.00%|7|[kernel.kallsyms]|[k] tcp_sendmsg_locked
     6.00%|6|[kernel.kallsyms]|[k] finish_task_switch.isra.0
     5.00%|5|strata-symbols|[.] github.com/twmb/franz-go/pkg/kmsg.(*ProduceRequest).ReadFrom
     4.00%|4|strata-symbols|[.] internal/runtime/syscall.Syscall6
     1.00%|1|[kernel.kallsyms]|[k] copy_folio_from_iter_atomic

`)
	if err != nil {
		t.Fatal(err)
	}
	var groups []string
	samples := 0
	for _, f := range got {
		groups = append(groups, f.Group)
		samples += f.Samples
	}
	want := "kernel: copying, strata, CRC, Go runtime and library, kernel: files and disk, kernel: network, kernel: the rest, other modules, Go runtime and library, kernel: copying"
	if g := strings.Join(groups, ", "); g != want || samples != 100 {
		t.Errorf("%d samples of %s, want 100 of %s", samples, g, want)
	}
	if got[1].Name != "github.com/stratabroker/strata/broker/log.(*Log).Append" {
		t.Errorf("the name is %q", got[1].Name)
	}
	for _, bad := range []string{"no fields", "1%|many|x|[.] y"} {
		if _, err := report.ParsePerf(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestWhatTheCollectorTellsIsAddedUp(t *testing.T) {
	const line = "gc 7 @2.1s 1%: 0.03+1.2+0.01 ms clock, 0.06+0.2/1.1/0+0.02 ms cpu, "
	log := "something else 9->9->9 MB\n" + line + "8->9->3 MB, 8 MB goal, 0 MB stacks, 0 MB globals, 2 P\n" +
		line + "8->8->4 MB, 8 MB goal\n" + line + "10->11->4 MB, 10 MB goal\n"
	if got := report.Collected(log); got != (8-3+10-4)<<20 {
		t.Errorf("%v bytes, want 11 MiB", got)
	}
	if got := report.Collected(line + "8->9->3 MB, 8 MB goal\n"); got != 0 {
		t.Errorf("one cycle alone: %v bytes, want 0", got)
	}
}

func TestBenchmarksAreReadWhateverElseTheyReport(t *testing.T) {
	got := report.ParseBenchmarks(`goos: linux
BenchmarkProduceRequest/bytes=1024-2         	   12345	     19876 ns/op	  51.52 MB/s	     120 B/op	       3 allocs/op
BenchmarkFetchPlan/partitions=6/bytes=1024/session-2 	 100	 5 ns/op	 0 B/op	 0 allocs/op
BenchmarkWithoutMemory-2 	 100	 5 ns/op
PASS
`)
	if len(got) != 2 || got[0] != (report.Allocations{Name: "ProduceRequest/bytes=1024", Bytes: 120, Count: 3}) || got[1].Name != "FetchPlan/partitions=6/bytes=1024/session" {
		t.Errorf("read %+v", got)
	}
}

func TestThePageOfProfilesSetsBothCommitsSideBySide(t *testing.T) {
	profile := func(cost float64, append, copying int) *report.Profile {
		return &report.Profile{Cost: cost, Allocated: 5e6, Request: 2000, Functions: []report.Function{
			{Name: "append", Group: "strata", Samples: append}, {Name: "rep_movs", Group: "kernel: copying", Samples: copying},
		}}
	}
	paths := []report.Path{
		{Title: "Produce", Method: "How.", Before: profile(1, 90, 10), After: profile(0.5, 20, 80)},
		{Title: "Fetch", Method: "How.", After: profile(0.5, 20, 80)},
	}
	page := report.Profiles("Head.", "old", "new", paths, []report.Allocations{{Name: "X/bytes=1", Bytes: 48, Count: 1}})
	for _, want := range []string{
		"| CPU seconds a GB | before: old | after: new |", "| strata | 0.900 (90 %) | 0.100 (20 %) |", "| all | 1.000 (100 %) | 0.500 (100 %) |",
		"| heap allocated | 5.00 MB a GB, 2.00 kB a request |", "| `rep_movs` | kernel: copying | 10.0 | 80.0 |\n| `append` | strata | 90.0 | 20.0 |",
		"| strata |  | 0.100 (20 %) |", "| X/bytes=1 | 48.0 | 1.00 |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
}
