package report_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stratabroker/strata/integration/bench/report"
)

// pairs are legs of two sides.
func pairs(name, a, b, metric string, left, right []float64) report.Result {
	r := report.Result{Row: name, Pairs: len(left)}
	for i := range left {
		r.Samples = append(r.Samples,
			report.Sample{Side: b, Pair: i, Values: map[string]float64{metric: right[i]}},
			report.Sample{Side: a, Pair: i, Values: map[string]float64{metric: left[i]}})
	}
	return r
}

func TestRatiosAreOfPairsAndNotOfMedians(t *testing.T) {
	// The machine was half as fast in the second pair: the ratio does not see it.
	r := pairs("x", "strata", "Kafka", "mbps", []float64{200, 100, 240}, []float64{100, 50, 100})
	got := r.Ratio("strata", "Kafka", "mbps")
	if want := (report.Spread{Min: 2, Median: 2, Max: 2.4, N: 3}); got != want {
		t.Errorf("ratio %+v, want %+v", got, want)
	}
}

func TestMedianOfAnEvenNumberIsBetweenTheMiddleTwo(t *testing.T) {
	r := pairs("x", "strata", "Kafka", "mbps", []float64{4, 1, 2, 3}, []float64{1, 1, 1, 1})
	if got := r.Side("strata", "mbps").Median; got != 2.5 {
		t.Errorf("median %v, want 2.5", got)
	}
}

func TestAPairThatMissesASideIsLeftOut(t *testing.T) {
	r := pairs("x", "strata", "Kafka", "mbps", []float64{2, 4}, []float64{1, 1})
	r.Samples = r.Samples[:3] // Kafka's second leg only
	if got := r.Ratio("strata", "Kafka", "mbps"); got.N != 1 || got.Median != 2 {
		t.Errorf("ratio %+v, want 2 from one pair", got)
	}
	if got := r.Side("nobody", "mbps"); got.N != 0 || !math.IsNaN(got.Median) {
		t.Errorf("a side without legs has %+v", got)
	}
}

func TestVerdicts(t *testing.T) {
	self := pairs("self", "Kafka A", "Kafka B", "mbps", []float64{100, 100, 80}, []float64{100, 90, 100})
	claim := func(target float64, atMost bool) report.Claim {
		return report.Claim{Metric: "mbps", A: "strata", B: "Kafka", Target: target, AtMost: atMost}
	}
	for name, tc := range map[string]struct {
		ratio float64
		claim report.Claim
		want  report.Verdict
	}{
		"reached":                         {1.5, claim(1.3, false), report.Met},
		"reached within the noise":        {1.2, claim(1.1, false), report.None},
		"not reached within the noise":    {1.2, claim(1.3, false), report.NotMet},
		"not reached":                     {0.7, claim(1.3, false), report.NotMet},
		"upper limit kept":                {0.3, claim(0.4, true), report.Met},
		"upper limit passed":              {0.5, claim(0.4, true), report.NotMet},
		"limit above 1 is no claim":       {1.1, claim(1.2, true), report.Met},
		"no target":                       {2, claim(0, false), report.Shown},
		"no target, within the noise":     {1.1, claim(0, false), report.None},
		"metric that nobody has measured": {1, report.Claim{Metric: "cpu", A: "strata", B: "Kafka", Target: 1}, report.NoData},
	} {
		r := pairs("x", "strata", "Kafka", "mbps", []float64{tc.ratio}, []float64{1})
		if got, _ := report.Judge([]report.Result{self, r}, &r, tc.claim); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestOneDisturbedLegOfFiveDoesNotDecideWhatEqualBrokersDiffer(t *testing.T) {
	claim := report.Claim{Metric: "cache_p99", A: "strata", B: "Kafka", Target: 0.5, AtMost: true}
	for name, tc := range map[string]struct {
		self  []float64
		ratio float64
		want  report.Verdict
	}{
		"beyond the second furthest":     {[]float64{1, 1.1, 0.2, 1.5, 0.9}, 0.5, report.Met},
		"within the second furthest":     {[]float64{1, 1.1, 0.2, 2.5, 0.9}, 0.5, report.None},
		"two disturbed legs are no one":  {[]float64{1, 0.2, 0.2, 1, 1}, 0.5, report.None},
		"of four pairs the furthest":     {[]float64{1, 1.1, 0.2, 0.9}, 0.5, report.None},
		"of four pairs, none is far off": {[]float64{1, 1.1, 0.9, 0.9}, 0.5, report.Met},
	} {
		ones := make([]float64, len(tc.self))
		for i := range ones {
			ones[i] = 1
		}
		self := pairs("self", "Kafka A", "Kafka B", "p99", tc.self, ones)
		r := pairs("x", "strata", "Kafka", "cache_p99", []float64{tc.ratio}, []float64{1})
		if got, _ := report.Judge([]report.Result{self, r}, &r, claim); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestAClaimAboutOneSideIsNotHeldAgainstTheNoise(t *testing.T) {
	r := report.Result{Row: "x", Samples: []report.Sample{{Side: "strata", Values: map[string]float64{"rss": 50, "list": 0}}}}
	for _, c := range []report.Claim{
		{Metric: "rss", A: "strata", AtMost: true, Target: 60},
		{Metric: "list", A: "strata", AtMost: true, Zero: true},
	} {
		if got, _ := report.Judge(nil, &r, c); got != report.Met {
			t.Errorf("%s: %q, want %q", c.Metric, got, report.Met)
		}
	}
}

var about = report.Row{
	Name: "x", Title: "A <row>", Method: "How.",
	Metrics: []report.Metric{{Key: "mbps", Title: "throughput", Unit: "MB/s"}},
	Claims:  []report.Claim{{Metric: "mbps", A: "strata", B: "Kafka", Target: 1.3}},
}

func TestThePageHasTheTargetAndTheCommand(t *testing.T) {
	r := pairs("x", "strata", "Kafka", "mbps", []float64{2000, 12_345}, []float64{1000, 1000})
	r.Notes = []string{"Something."}
	page := report.Markdown([]report.Row{about, {Name: "not run"}}, []report.Result{r})
	for _, want := range []string{
		"| [x](#x) | throughput | 7172 MB/s | Kafka: 1000 MB/s | 7.17 (2.00 to 12.3) | >= 1.30x | met |",
		"| throughput | strata | 7172 MB/s | 2000 | 12,345 | 2 |  |", "![A <row>](x.svg)", "- Something.", "make bench ROWS=x PAIRS=2",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if strings.Contains(page, "not run") {
		t.Error("the page names a row without results")
	}
}

func TestThePictureIsXMLWithADotALeg(t *testing.T) {
	r := pairs("x", "strata", "Kafka", "mbps", []float64{2, 3}, []float64{1, 1})
	picture := report.SVG(about, &r)
	if got := circles(t, picture); got != 4 {
		t.Errorf("%d dots, want 4", got)
	}
	if want := "strata / Kafka: 2.50 (target &gt;= 1.30x)"; !strings.Contains(picture, want) {
		t.Errorf("no %q in\n%s", want, picture)
	}
}

func TestThePictureOfACurveHasADotASizeInItsOrder(t *testing.T) {
	row := report.Row{
		Name: "c", Title: "A curve", Curve: &report.Curve{Axis: "things", Metrics: []string{"ms"}, Doubling: 2.2},
		Metrics: []report.Metric{{Key: "ms", Title: "time", Unit: "ms"}, {Key: "doubling_ms", Title: "a doubling", Unit: "x"}},
	}
	r := report.Result{Row: "c"}
	for side, ms := range map[string]float64{"1000 things": 40, "10 things": 0, "100 things": 20, "worst of all": 9} {
		r.Samples = append(r.Samples, report.Sample{Side: side, Values: map[string]float64{"ms": ms, "doubling_ms": 2}})
	}
	for i, ms := range []float64{20, 90} { // with the leg above, the median is 20
		r.Samples = append(r.Samples, report.Sample{Side: "100 things", Pair: i + 1, Values: map[string]float64{"ms": ms}})
	}
	picture := report.SVG(row, &r)
	if !strings.Contains(picture, ">20.0<") || strings.Contains(picture, ">90.0<") {
		t.Errorf("the picture does not have the medians:\n%s", picture)
	}
	if got := circles(t, picture); got != 3 {
		t.Errorf("%d dots, want 3", got)
	}
	at := -1
	for _, label := range []string{">10<", ">100<", ">1,000<"} {
		next := strings.Index(picture, label)
		if next <= at {
			t.Errorf("%s is at %d, after %d", label, next, at)
		}
		at = next
	}
}

// circles counts those of a picture.
func circles(t *testing.T, picture string) (dots int) {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(picture))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return dots
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "circle" {
			dots++
		}
	}
}

func TestTheLastTwoRunsOfARowStay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	if all, err := report.Load(file); err != nil || all != nil {
		t.Fatalf("no file: %v, %v", all, err)
	}
	for i, r := range []struct{ row, want string }{
		{"a", "a0"}, {"b", "a0 b1"}, {"a", "a0 a2 b1"}, {"c", "a0 a2 b1 c3"}, {"a", "a2 a4 b1 c3"}, {"c", "a2 a4 b1 c3 c5"}, {"a", "a4 a6 b1 c3 c5"},
	} {
		all, err := report.Load(file) // each run is a process of its own
		if err != nil {
			t.Fatal(err)
		}
		if err := report.Save(file, report.Merge(all, report.Result{Row: r.row, Pairs: i})); err != nil {
			t.Fatal(err)
		}
		got, err := report.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range got {
			names = append(names, fmt.Sprint(r.Row, r.Pairs))
		}
		if got := strings.Join(names, " "); got != r.want {
			t.Errorf("after run %d, of %s: %s, want %s", i, r.row, got, r.want)
		}
	}
}

func TestThePageShowsTheRunBeforeByTheSelfCheckOfItsTime(t *testing.T) {
	at := func(day int, strata string, r report.Result) report.Result {
		r.When, r.Machine.Strata = time.Date(2026, 11, day, 12, 0, 0, 0, time.UTC), strata
		return r
	}
	one := func(name, a, b string, ratio float64) report.Result {
		return pairs(name, a, b, "mbps", []float64{ratio}, []float64{1})
	}
	var all []report.Result
	for _, r := range []report.Result{
		at(1, "one", one("self", "Kafka A", "Kafka B", 1.5)), at(2, "two", one("x", "strata", "Kafka", 1.4)),
		at(3, "three", one("self", "Kafka A", "Kafka B", 1.1)), at(4, "four", one("x", "strata", "Kafka", 1.45)),
	} {
		all = report.Merge(all, r)
	}
	self := report.Row{Name: "self", Metrics: about.Metrics, Claims: []report.Claim{{Metric: "mbps", A: "Kafka A", B: "Kafka B"}}}
	page := report.Markdown([]report.Row{self, about}, all)
	for _, want := range []string{
		"| 1.45 (1.45 to 1.45) | >= 1.30x | met | 1.40, none (two, 2026-11-02) |",
		"| equal ones differ by 1.10x | 1.50, 1.50x (one, 2026-11-01) |",
		"| throughput | strata | 1.45 MB/s | 1.45 | 1.45 | 1 | 1.40 MB/s |",
		"The run before: strata two, 1 pairs, 2026-11-02 12:00 UTC",
		"| self | 2026-11-01 |", "| x | 2026-11-04 |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if page := report.Markdown([]report.Row{about}, all[2:3]); !strings.Contains(page, "| met |  |\n") {
		t.Errorf("a row that was run once has a run before in\n%s", page)
	}
}
