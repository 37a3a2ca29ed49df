package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// selfRow is the row that sets two equal things against each other. A metric of
// another row is held against its metrics of the same kind.
const selfRow = "self"

// Verdict says how a claim came out.
type Verdict string

// The verdicts.
const (
	Met    Verdict = "met"
	NotMet Verdict = "not met"
	None   Verdict = "none: within what two equal brokers differ" // no claim is made
	Shown  Verdict = ""                                           // it has no target
	NoData Verdict = "not measured"
)

// noise is how far two equal brokers differ in a metric's kind by the self-check that was in force
// at a time, as a factor: see reach; the worst of its metrics of that kind; 1 where it was not run.
func noise(all []Result, at time.Time, metric string) float64 {
	self := selfCheck(all, at)
	if self == nil {
		return 1
	}
	worst := 1.0
	for key := range metricsOf(self) {
		if kindOf(key) == kindOf(metric) {
			worst = max(worst, reach(self.ratios(selfA, selfB, key)))
		}
	}
	return worst
}

// selfCheck is the last one that began no later than at, else the first one.
func selfCheck(all []Result, at time.Time) (found *Result) {
	for i := range all {
		if all[i].Row == selfRow && (found == nil || !all[i].When.After(at)) {
			found = &all[i]
		}
	}
	return found
}

// Sides of the self-check.
const (
	selfA = "Kafka A"
	selfB = "Kafka B"
)

func metricsOf(r *Result) map[string]bool {
	out := map[string]bool{}
	for _, s := range r.Samples {
		for key := range s.Values {
			out[key] = true
		}
	}
	return out
}

// kindOf is the last part of a metric's key: "cache_p99" is a "p99". Throughputs are one kind.
func kindOf(metric string) string {
	kind := metric[strings.LastIndexByte(metric, '_')+1:]
	if kind == "records" {
		return "mbps"
	}
	return kind
}

// Judge gives the verdict on a claim, with the spread that it rests on.
func Judge(all []Result, r *Result, c Claim) (Verdict, Spread) {
	s := r.of(c)
	if s.N == 0 {
		return NoData, s
	}
	aimed := c.Target != 0 || c.Zero
	met := aimed && c.reached(s.Median)
	// To be better than an equal is a claim; to be no worse by some margin is not.
	better := !aimed || met && c.beyondEqual()
	if c.B != "" && r.Row != selfRow && better {
		if n := noise(all, r.When, c.Metric); s.Median < n && s.Median > 1/n {
			return None, s
		}
	}
	switch {
	case !aimed:
		return Shown, s
	case met:
		return Met, s
	default:
		return NotMet, s
	}
}

// reached tells whether a value is on the right side of the target.
func (c Claim) reached(v float64) bool {
	if c.AtMost {
		return v <= c.Target
	}
	return v >= c.Target
}

// beyondEqual tells whether two equal sides miss the target.
func (c Claim) beyondEqual() bool { return !c.reached(1) }

// Markdown renders RESULTS.md: rows in their order, of which the results have some.
func Markdown(rows []Row, results []Result) string {
	var b strings.Builder
	b.WriteString("# Measured: strata and Apache Kafka on one machine\n\n" + intro)
	machines(&b, results)
	b.WriteString("\n## Targets\n\n| row | measure | strata | against | ratio: median (min to max) | target | verdict | run before |\n|---|---|---|---|---|---|---|---|\n")
	for _, row := range rows {
		if r, before := find(results, row.Name); r != nil {
			claims(&b, results, row, r, before)
		}
	}
	b.WriteString("\n## Rows\n")
	for _, row := range rows {
		if r, before := find(results, row.Name); r != nil {
			section(&b, row, r, before)
		}
	}
	return b.String()
}

const intro = "Written by `make bench`; do not edit. `make bench ROWS=a,b PAIRS=n` repeats rows, `make bench ROWS=list` names them.\n\n" +
	"Both brokers run on the same disk with the same settings and the same promise, at the same time, but only one is under load: the other one idles " +
	"(rows about starts and memory run one broker alone). Legs are run in turn, A B B A A B B A; a ratio is that of two legs of one pair. " +
	"Before a row a side is warmed up until it gets no faster, in legs that do not count. Before each leg everything is synced and the page cache is filled (by reading a sparse file), " +
	"so that no leg finds free memory where the other one had to recycle. Kafka runs with -Xms1g -Xmx1g and the flags of its own scripts, without a log. " +
	"Settings that a row does not name are the defaults of both, which are the same but for the sizes of socket buffers: both get strata's, -1 (what the kernel grows them to), in place of Kafka's 102400, " +
	"which holds Kafka's connections to a small window. In the runs of 2026-11-24 each had its own. " +
	"The load generator is one thread in a process of its own, which sends requests that were built before (raw Produce and Fetch requests, encoded with franz-go's kmsg) and checks each answer. " +
	"Broker CPU is user and system time of all its threads. GB and MB are decimal.\n\n" +
	"A ratio is claimed only where its median lies outside of what two equal brokers differ by the self-check (Kafka against Kafka); else the verdict is \"none\". " +
	"They differ by the ratio of its pairs that lies second furthest from 1, up or down (the furthest, of less than five pairs): one leg that something disturbed does not count. " +
	"Of its metrics of one kind, such as throughputs, the worst counts.\n\n" +
	"Where a row was run before, its last column says how that run came out, by the self-check of its own time, and with which commit and on which day it was.\n"

// find gives the last run of a row and the one before it; nil where there is none.
func find(results []Result, name string) (last, before *Result) {
	for i := range results {
		if results[i].Row == name {
			last, before = &results[i], last
		}
	}
	return last, before
}

// place is where and when rows were run.
type place struct {
	Machine
	day string
}

func (r *Result) place() place {
	p := place{r.Machine, r.day()}
	p.Load = 0
	return p
}

func (r *Result) day() string { return r.When.Format(time.DateOnly) }

// machines lists where the results come from: one line for each that differs.
func machines(b *strings.Builder, results []Result) {
	b.WriteString("\n## Machine and versions\n\n| rows | run on | machine | memory | disk | kernel | strata | Kafka | Java | Go |\n|---|---|---|---|---|---|---|---|---|---|\n")
	var seen []place
	for i := range results {
		p := results[i].place()
		if slices.Contains(seen, p) {
			continue
		}
		seen = append(seen, p)
		var names []string
		for j := range results {
			if results[j].place() == p {
				names = append(names, results[j].Row)
			}
		}
		fmt.Fprintf(b, "| %s | %s | %s, %d cores | %s | %s | %s | %s | %s | %s | %s |\n",
			strings.Join(names, ", "), p.day, p.CPU, p.Cores, p.Memory, p.Disk, p.Kernel, p.Strata, p.Kafka, p.Java, p.Go)
	}
}

func claims(b *strings.Builder, all []Result, row Row, r, before *Result) {
	for _, c := range row.Claims {
		m := row.metric(c.Metric)
		verdict, s := Judge(all, r, c)
		left, right, ratio := quantity(r.Side(c.A, c.Metric).Median, m.Unit), "", ""
		if c.B != "" {
			right = c.B + ": " + quantity(r.Side(c.B, c.Metric).Median, m.Unit)
			ratio = fmt.Sprintf("%s (%s to %s)", number(s.Median), number(s.Min), number(s.Max))
		}
		if row.Name == selfRow {
			verdict = Verdict("equal ones differ by " + number(noise(all, r.When, c.Metric)) + "x")
		}
		if c.A != "strata" {
			left = c.A + ": " + left
		}
		fmt.Fprintf(b, "| [%s](#%s) | %s | %s | %s | %s | %s | %s | %s |\n",
			row.Name, row.Name, m.Title, left, right, ratio, target(c, m), verdict, earlier(all, before, c, m))
	}
}

// earlier is how a claim came out in the run before, in brief.
func earlier(all []Result, before *Result, c Claim, m Metric) string {
	if before == nil {
		return ""
	}
	verdict, s := Judge(all, before, c)
	if verdict == NoData {
		return string(NoData)
	}
	value := number(s.Median)
	if c.B == "" {
		value = quantity(s.Median, m.Unit)
	}
	word, _, _ := strings.Cut(string(verdict), ":")
	if before.Row == selfRow {
		word = number(noise(all, before.When, c.Metric)) + "x"
	}
	if word != "" {
		value += ", " + word
	}
	return fmt.Sprintf("%s (%s, %s)", value, before.Machine.Strata, before.day())
}

func target(c Claim, m Metric) string {
	sign := ">="
	if c.AtMost {
		sign = "<="
	}
	switch {
	case c.Zero:
		return "0"
	case c.Target == 0:
		return ""
	case c.B == "":
		return sign + " " + quantity(c.Target, m.Unit)
	default:
		return sign + " " + number(c.Target) + "x"
	}
}

func section(b *strings.Builder, row Row, r, before *Result) {
	fmt.Fprintf(b, "\n### %s\n\n%s. %s\n\n![%s](%s.svg)\n\n", row.Name, row.Title, row.Method, row.Title, row.Name)
	b.WriteString("| measure | side | median | min | max | legs | median before |\n|---|---|---|---|---|---|---|\n")
	for _, m := range row.Metrics {
		for _, side := range r.sides() {
			s := r.Side(side, m.Key)
			if s.N == 0 {
				continue
			}
			was := ""
			if before != nil && before.Side(side, m.Key).N > 0 {
				was = quantity(before.Side(side, m.Key).Median, m.Unit)
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %d | %s |\n", m.Title, side, quantity(s.Median, m.Unit), number(s.Min), number(s.Max), s.N, was)
		}
	}
	for _, note := range r.Notes {
		fmt.Fprintf(b, "\n- %s", note)
	}
	if len(r.Notes) > 0 {
		b.WriteString("\n")
	}
	fmt.Fprintf(b, "\n%s. Again: `make bench ROWS=%s PAIRS=%d`\n", r.circumstances(), r.Row, r.Pairs)
	if before != nil {
		fmt.Fprintf(b, "\nThe run before: strata %s, %d pairs, %s.\n", before.Machine.Strata, before.Pairs, before.circumstances())
	}
}

// circumstances are when a run was, and in what company.
func (r *Result) circumstances() string {
	return fmt.Sprintf("%s, %.0f s, load average before: %.2f", r.When.Format("2006-01-02 15:04 MST"), r.Took, r.Machine.Load)
}

func (row Row) metric(key string) Metric {
	for _, m := range row.Metrics {
		if m.Key == key {
			return m
		}
	}
	return Metric{Key: key, Title: key}
}

// sides are in the order of their first legs.
func (r *Result) sides() []string {
	var out []string
	for _, s := range r.Samples {
		if !slices.Contains(out, s.Side) {
			out = append(out, s.Side)
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { return rank(a) - rank(b) })
	return out
}

// rank puts strata first whoever began.
func rank(side string) int {
	if side == "strata" {
		return 0
	}
	return 1
}

func quantity(v float64, unit string) string {
	return strings.TrimSpace(number(v) + " " + unit)
}

// number has three digits that matter.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case a >= 10_000:
		return thousands(int64(math.Round(v)))
	case a >= 100 || a == 0:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

func thousands(v int64) string {
	if v < 0 {
		return "-" + thousands(-v)
	}
	if v < 1000 {
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("%s,%03d", thousands(v/1000), v%1000)
}
