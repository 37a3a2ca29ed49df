package plan_test

import (
	"errors"
	"testing"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/plan"
)

func TestDirtyPartEndsAtTheFirstYoungRecord(t *testing.T) {
	for name, test := range map[string]struct {
		lag      int64
		segments []plan.Segment
		now      protocol.Timestamp
		want     plan.Dirty
	}{
		"nothing":                          {0, nil, 5000, plan.Dirty{Oldest: -1}},
		"all, without a lag":               {0, run(10, 100, 1<<50, 300), 1, plan.Dirty{End: 40, Bytes: 300, Oldest: 1000}},
		"all are old":                      {100, run(10, 100, 200, 300), 400, plan.Dirty{End: 40, Bytes: 300, Oldest: 100}},
		"up to the first young one":        {100, run(10, 100, 301, 200), 400, plan.Dirty{End: 20, Bytes: 100, Oldest: 100, Next: 401}},
		"the first is young":               {100, run(10, 301, 100), 400, plan.Dirty{Oldest: -1, Next: 401}},
		"the future is as old as its seal": {100, run(10, 1<<50, 100), 1100, plan.Dirty{End: 30, Bytes: 200, Oldest: 1000}},
		"and as young":                     {101, run(10, 1<<50, 100), 1100, plan.Dirty{Oldest: -1, Next: 1101}},
		"no time at all is old":            {100, []plan.Segment{{Base: 1, End: 3, Bytes: 7, MaxTimestamp: -1}}, 0, plan.Dirty{End: 3, Bytes: 7, Oldest: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			c := plan.Compaction{MinLagMs: test.lag}
			if name == "all, without a lag" {
				test.segments[0].MaxTimestamp = 1000
			}
			if got, err := plan.DirtyPart(c, seq(test.segments, nil), test.now); err != nil || got != test.want {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
	broken := errors.New("broken")
	if _, err := plan.DirtyPart(plan.Compaction{}, seq(run(0, 1), broken), 0); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestACompactionIsDueByLagRatioOrHorizon(t *testing.T) {
	half := plan.Compaction{MinDirtyRatio: 0.5, MaxLagMs: plan.Unlimited}
	lag := plan.Compaction{MinDirtyRatio: 0.5, MaxLagMs: 100}
	for name, test := range map[string]struct {
		compaction plan.Compaction
		tier       plan.Tier
		dirty      plan.Dirty
		now        protocol.Timestamp
		want       plan.Reason
	}{
		"nothing is dirty":                    {half, plan.Tier{Bytes: 100, CompactedBytes: 100}, plan.Dirty{}, 1 << 40, plan.NotDue},
		"all is dirty":                        {half, plan.Tier{Bytes: 100}, plan.Dirty{Bytes: 100}, 0, plan.ByRatio},
		"exactly the ratio is not enough":     {half, plan.Tier{Bytes: 100, CompactedBytes: 50}, plan.Dirty{Bytes: 50}, 0, plan.NotDue},
		"what is too young does not count":    {half, plan.Tier{Bytes: 1000, CompactedBytes: 50}, plan.Dirty{Bytes: 51}, 0, plan.ByRatio},
		"a ratio of 0 takes any":              {plan.Compaction{MaxLagMs: -1}, plan.Tier{CompactedBytes: 1 << 40}, plan.Dirty{Bytes: 1}, 0, plan.ByRatio},
		"a ratio of 1 takes none":             {plan.Compaction{MinDirtyRatio: 1, MaxLagMs: -1}, plan.Tier{}, plan.Dirty{Bytes: 1}, 0, plan.NotDue},
		"the oldest waited for long":          {lag, plan.Tier{CompactedBytes: 1000}, plan.Dirty{Bytes: 1, Oldest: 50}, 151, plan.ByLag},
		"the oldest did not wait long enough": {lag, plan.Tier{CompactedBytes: 1000}, plan.Dirty{Bytes: 1, Oldest: 50}, 150, plan.NotDue},
		"nothing waits":                       {lag, plan.Tier{CompactedBytes: 1000}, plan.Dirty{Oldest: 50}, 1 << 40, plan.NotDue},
		"a tombstone may go":                  {half, plan.Tier{CompactedBytes: 1000, DeleteHorizon: 70}, plan.Dirty{}, 70, plan.ByHorizon},
		"a tombstone must stay":               {half, plan.Tier{CompactedBytes: 1000, DeleteHorizon: 71}, plan.Dirty{}, 70, plan.NotDue},
	} {
		if got := plan.Due(test.compaction, test.tier, test.dirty, test.now); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestStepsMergeWhatIsSmall(t *testing.T) {
	sized := func(sizes ...int64) (out []plan.Segment) {
		for _, n := range sizes {
			out = append(out, plan.Segment{Bytes: n})
		}
		return out
	}
	many := make([]plan.Segment, 1000)
	const mib = 1 << 20
	for name, test := range map[string]struct {
		segmentBytes int64
		entries      []plan.Segment
		want         int
	}{
		"nothing":                      {0, nil, 0},
		"one":                          {0, sized(1), 1},
		"a large one alone":            {0, sized(33*mib, 1, 1), 1},
		"small ones up to a large one": {0, sized(10*mib, mib, 33*mib, 1), 2},
		"small ones up to 64 MiB":      {0, sized(30*mib, 30*mib, 4*mib, 1), 3},
		"small ones of small segments": {100, sized(50, 50, 1), 2},
		"segments larger than 64 MiB":  {1 << 30, sized(30*mib, 30*mib, 5*mib), 2},
		"empty ones":                   {0, sized(0, 0, 0), 3},
		"not too many":                 {0, many, 256},
	} {
		if got := plan.Group(plan.Compaction{SegmentBytes: test.segmentBytes}, test.entries); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}
