package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Profile is where one binary spent its CPU time under one load.
type Profile struct {
	Functions []Function
	Cost      float64 // CPU seconds a GB of record batches
	Allocated float64 // bytes of Go's heap a GB of record batches, as its collector counts them in MB
	Request   float64 // the same, a request
}

// Function is one that perf found the CPU in.
type Function struct {
	Name    string
	Group   string
	Samples int
}

// Groups of functions, in the order of the page.
const (
	groupCopy    = "kernel: copying"
	groupFiles   = "kernel: files and disk"
	groupNetwork = "kernel: network"
	groupKernel  = "kernel: the rest"
	groupCRC     = "CRC"
	groupRuntime = "Go runtime and library"
	groupOurs    = "strata"
	groupOthers  = "other modules"
)

var groups = []string{groupCopy, groupFiles, groupNetwork, groupKernel, groupCRC, groupRuntime, groupOurs, groupOthers}

// ParsePerf reads what perf report prints with -n --sort dso,symbol -t '|': a line is
// share|samples|object|[k] or [.] and the symbol, and more that depends on perf's version. Others are comments.
func ParsePerf(text string) (out []Function, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Split(line, "|")
		if len(fields) < 4 {
			return nil, fmt.Errorf("perf's report has the line %q", line)
		}
		samples, err := strconv.Atoi(strings.TrimSpace(fields[1]))
		if err != nil {
			return nil, fmt.Errorf("perf's report has the line %q: %w", line, err)
		}
		where, name, _ := strings.Cut(strings.TrimSpace(fields[3]), "] ")
		name = strings.TrimSpace(name)
		out = append(out, Function{name, groupOf(name, where == "[k"), samples})
	}
	return out, nil
}

// Words that a part of a name begins with, of the kernel's functions; tried in this order.
var kernelWords = []struct {
	group string
	words []string
}{
	{groupCopy, []string{"rep_movs", "rep_stos", "copy_user", "copy_from_user", "copy_to_user", "copy_from_iter", "copy_to_iter", "copy_page", "copy_folio", "clear_page", "clear_user", "memcpy", "memmove", "memset", "csum_partial"}},
	{groupNetwork, []string{"tcp", "skb", "sock", "inet", "ip_", "net_", "netif", "loopback", "napi", "sk_", "qdisc", "ipv4", "fib_", "nf_", "ep_", "epoll", "dev_", "eth_"}},
	{groupFiles, []string{
		"ext4", "jbd2", "block_", "xfs", "btrfs", "filemap", "folio", "iomap", "bio", "blk", "vfs", "virtblk", "virtio", "writeback", "xas_", "xa_", "splice", "sendfile", "pipe",
		"page_cache", "readahead", "buffer", "inode", "dentry", "fdget", "fput", "fsync", "balance_dirty", "generic_perform_write", "shmem", "lru_", "lookup",
	}},
}

// groupOf tells a function's group by its name.
func groupOf(name string, kernel bool) string {
	if kernel {
		name = "_" + strings.TrimLeft(name, "_")
		for _, of := range kernelWords {
			if slices.ContainsFunc(of.words, func(word string) bool { return strings.Contains(name, "_"+word) }) {
				return of.group
			}
		}
		return groupKernel
	}
	first, _, _ := strings.Cut(name, "/")
	switch {
	case strings.Contains(name, "crc32"):
		return groupCRC
	case strings.HasPrefix(name, "github.com/stratabroker/strata/"), strings.HasPrefix(name, "main."):
		return groupOurs
	case strings.Contains(first, "."+"com"), strings.HasPrefix(name, "golang.org/"), strings.HasPrefix(name, "go.etcd.io/"), strings.HasPrefix(name, "gopkg.in/"):
		return groupOthers
	default:
		return groupRuntime
	}
}

// Collected reads what Go's collector wrote (GODEBUG=gctrace=1) and gives the bytes allocated between
// its first and its last line, from "4->5->2 MB": what there was at the start of a cycle above what
// the cycle before had left. It counts in whole MB.
func Collected(log string) (bytes float64) {
	left, known := 0.0, false
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, "gc ") {
			continue
		}
		for field := range strings.FieldsSeq(line) {
			parts := strings.Split(field, "->")
			if len(parts) != 3 {
				continue
			}
			begin, err1 := strconv.ParseFloat(parts[0], 64)
			end, err2 := strconv.ParseFloat(parts[2], 64)
			if err1 != nil || err2 != nil {
				continue
			}
			if known {
				bytes += max(begin-left, 0) * (1 << 20)
			}
			left, known = end, true
			break
		}
	}
	return bytes
}

// Path is one hot path, profiled before and after; Before is nil where it was not asked for.
type Path struct {
	Title, Method string
	Before, After *Profile
}

// Allocations are one Go benchmark's line.
type Allocations struct {
	Name         string // without Benchmark and the number of processors
	Bytes, Count float64
}

// ParseBenchmarks reads what go test prints with -benchmem.
func ParseBenchmarks(text string) (out []Allocations) {
	for line := range strings.Lines(text) {
		name, ok := strings.CutPrefix(line, "Benchmark")
		fields := strings.Fields(name)
		if !ok || len(fields) < 4 {
			continue
		}
		a := Allocations{Name: fields[0], Bytes: -1, Count: -1}
		if at := strings.LastIndexByte(a.Name, '-'); at > 0 {
			a.Name = a.Name[:at]
		}
		for i := 1; i < len(fields); i++ {
			value, err := strconv.ParseFloat(fields[i-1], 64)
			switch {
			case err != nil:
			case fields[i] == "B/op":
				a.Bytes = value
			case fields[i] == "allocs/op":
				a.Count = value
			}
		}
		if a.Bytes >= 0 && a.Count >= 0 {
			out = append(out, a)
		}
	}
	return out
}

// topFunctions are the functions that a path's table shows.
const topFunctions = 25

// Profiles renders PROFILES.md.
func Profiles(head, before, after string, paths []Path, allocations []Allocations) string {
	var b strings.Builder
	b.WriteString("# Profiles of the hot paths\n\n" + head + "\n\n")
	for _, p := range paths {
		fmt.Fprintf(&b, "## %s\n\n%s\n\n", p.Title, p.Method)
		p.table(&b, "before: "+before, "after: "+after)
	}
	b.WriteString("## Allocations of one operation\n\n" + allocationsHead + "\n\n| benchmark | bytes | allocations |\n|---|---|---|\n")
	for _, a := range allocations {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", a.Name, number(a.Bytes), number(a.Count))
	}
	return b.String()
}

const allocationsHead = "By Go's benchmarks beside the code (`go test -run - -bench . -benchmem`), for the commit after: how many there are must not grow with the bytes of a request."

// shares are the parts of the samples that each name has.
func (p *Profile) shares(name func(Function) string) map[string]float64 {
	out, all := map[string]float64{}, 0
	if p == nil {
		return out
	}
	for _, f := range p.Functions {
		all += f.Samples
	}
	for _, f := range p.Functions {
		out[name(f)] += float64(f.Samples) / float64(all)
	}
	return out
}

func (p Path) table(b *strings.Builder, before, after string) {
	byGroup := func(f Function) string { return f.Group }
	was, is := p.Before.shares(byGroup), p.After.shares(byGroup)
	fmt.Fprintf(b, "| CPU seconds a GB | %s | %s |\n|---|---|---|\n", before, after)
	for _, group := range groups {
		if was[group]+is[group] > 0 {
			fmt.Fprintf(b, "| %s | %s | %s |\n", group, p.Before.part(was[group]), p.After.part(is[group]))
		}
	}
	fmt.Fprintf(b, "| all | %s | %s |\n", p.Before.part(1), p.After.part(1))
	fmt.Fprintf(b, "| heap allocated | %s | %s |\n", p.Before.heap(), p.After.heap())
	byName := func(f Function) string { return f.Group + "|" + f.Name }
	was, is = p.Before.shares(byName), p.After.shares(byName)
	names := maps.Clone(was)
	maps.Copy(names, is)
	sorted := slices.SortedFunc(maps.Keys(names), func(x, y string) int {
		return cmp.Or(cmp.Compare(max(was[y], is[y]), max(was[x], is[x])), strings.Compare(x, y))
	})
	sorted = sorted[:min(len(sorted), topFunctions)]
	slices.SortStableFunc(sorted, func(x, y string) int { return rankOf(x) - rankOf(y) })
	fmt.Fprintf(b, "\n| function itself, %% of samples | group | %s | %s |\n|---|---|---|---|\n", before, after)
	for _, key := range sorted {
		group, name, _ := strings.Cut(key, "|")
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", strings.ReplaceAll(name, "|", "¦"), group, percent(was[key]), percent(is[key]))
	}
	b.WriteString("\n")
}

func rankOf(key string) int {
	group, _, _ := strings.Cut(key, "|")
	return slices.Index(groups, group)
}

func percent(share float64) string {
	if share == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", 100*share)
}

// part is a share of the cost.
func (p *Profile) part(share float64) string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf("%.3f (%.0f %%)", p.Cost*share, 100*share)
}

func (p *Profile) heap() string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf("%s MB a GB, %s kB a request", number(p.Allocated/1e6), number(p.Request/1e3))
}
