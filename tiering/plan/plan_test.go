package plan_test

import (
	"errors"
	"iter"
	"testing"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/plan"
)

// run makes segments of 10 offsets and 100 bytes each from base on, with these max timestamps, sealed at 1000.
func run(base protocol.Offset, times ...protocol.Timestamp) []plan.Segment {
	var out []plan.Segment
	for _, ts := range times {
		out = append(out, plan.Segment{Base: base, End: base + 10, Bytes: 100, MaxTimestamp: ts, Sealed: 1000})
		base += 10
	}
	return out
}

func seq(s []plan.Segment, err error) iter.Seq2[plan.Segment, error] {
	return func(yield func(plan.Segment, error) bool) {
		for _, x := range s {
			if !yield(x, nil) {
				return
			}
		}
		if err != nil {
			yield(plan.Segment{}, err)
		}
	}
}

func TestUploads(t *testing.T) {
	sealed := run(50, 1, 2, 3)
	tests := map[string]struct {
		policy plan.Policy
		view   plan.View
		sealed []plan.Segment
		limit  int64
		want   int
		fails  bool
	}{
		"nothing sealed":                  {view: plan.View{TieredEnd: 50, Committed: 80}, limit: 1000},
		"all that fits":                   {view: plan.View{TieredEnd: 50, Committed: 80}, sealed: sealed, limit: 1000, want: 3},
		"up to the limit":                 {view: plan.View{TieredEnd: 50, Committed: 80}, sealed: sealed, limit: 200, want: 2},
		"one is too large but goes alone": {view: plan.View{TieredEnd: 50, Committed: 80}, sealed: sealed, limit: 1, want: 1},
		"copy disabled":                   {policy: plan.Policy{CopyDisabled: true}, view: plan.View{TieredEnd: 50, Committed: 80}, sealed: sealed, limit: 1000},
		"gap to the tiered end":           {view: plan.View{TieredEnd: 40, Committed: 80}, sealed: sealed, limit: 1000, fails: true},
		"gap between ranges":              {view: plan.View{TieredEnd: 50, Committed: 90}, sealed: append(run(50, 1), run(70, 2)...), limit: 1000, fails: true},
		"above what is committed":         {view: plan.View{TieredEnd: 50, Committed: 79}, sealed: sealed, limit: 1000, fails: true},
		"empty range":                     {view: plan.View{TieredEnd: 50, Committed: 80}, sealed: []plan.Segment{{Base: 50, End: 50}}, limit: 1000, fails: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := plan.Uploads(test.policy, test.view, test.sealed, test.limit, 1000)
			if got != test.want || (err != nil) != test.fails {
				t.Errorf("got %d, %v, want %d, failure %t", got, err, test.want, test.fails)
			}
		})
	}
}

func TestLogStartByRetention(t *testing.T) {
	const none = plan.Unlimited
	view := plan.View{LogStart: 0, TieredEnd: 30, Committed: 50, Bytes: 500}
	old := run(0, 100, 200, 300, 400, 500)
	tests := map[string]struct {
		policy   plan.Policy
		view     plan.View
		segments []plan.Segment
		now      protocol.Timestamp
		want     protocol.Offset
	}{
		"no limits":                            {plan.Policy{RetentionMs: none, RetentionBytes: none}, view, old, 1 << 40, 0},
		"compacted and deleted, by time":       {plan.Policy{RetentionMs: 100, RetentionBytes: none, Compact: true}, view, old, 201, 10},
		"only compacted":                       {plan.Policy{RetentionMs: none, RetentionBytes: none, Compact: true}, view, old, 1 << 40, 0},
		"sealed while the clock was back":      {plan.Policy{RetentionMs: 100, RetentionBytes: none}, view, run(0, 5000, 5050), 5100, 0},
		"it is as old as it says":              {plan.Policy{RetentionMs: 100, RetentionBytes: none}, view, run(0, 5000, 5050), 5101, 10},
		"the clock jumped back":                {plan.Policy{RetentionMs: 100, RetentionBytes: none}, view, old, 1, 0},
		"by time, exactly as old stays":        {plan.Policy{RetentionMs: 100, RetentionBytes: none}, view, old, 200, 0},
		"by time":                              {plan.Policy{RetentionMs: 100, RetentionBytes: none}, view, old, 201, 10},
		"by time, into the hot tier":           {plan.Policy{RetentionMs: 100, RetentionBytes: none}, view, old, 501, 40},
		"by time, all of it":                   {plan.Policy{RetentionMs: 100, RetentionBytes: none}, view, old, 601, 50},
		"young in front holds what follows":    {plan.Policy{RetentionMs: 100, RetentionBytes: none}, view, run(0, 900, 1, 2), 950, 0},
		"future counts from the seal":          {plan.Policy{RetentionMs: 100, RetentionBytes: none}, view, run(0, 1<<50, 1), 1101, 20},
		"future holds until then":              {plan.Policy{RetentionMs: 100, RetentionBytes: none}, view, run(0, 1<<50, 1), 1100, 0},
		"no timestamp counts from the seal":    {plan.Policy{RetentionMs: 100, RetentionBytes: none}, view, run(0, -1), 1101, 10},
		"unknown seal leaves the timestamp":    {plan.Policy{RetentionMs: 100, RetentionBytes: none}, view, []plan.Segment{{End: 10, MaxTimestamp: 2000}}, 2101, 10},
		"no time at all stays":                 {plan.Policy{RetentionMs: 100, RetentionBytes: none}, view, []plan.Segment{{End: 10, MaxTimestamp: -1}}, 1 << 40, 0},
		"by size":                              {plan.Policy{RetentionMs: none, RetentionBytes: 250}, view, old, 0, 20},
		"by size, exactly the limit is left":   {plan.Policy{RetentionMs: none, RetentionBytes: 300}, view, old, 0, 20},
		"by size, all of it":                   {plan.Policy{RetentionMs: none, RetentionBytes: 0}, view, old, 0, 50},
		"by size, with an unsealed end":        {plan.Policy{RetentionMs: none, RetentionBytes: 250}, plan.View{Committed: 50, Bytes: 700}, old, 0, 40},
		"size or time":                         {plan.Policy{RetentionMs: 100, RetentionBytes: 400}, view, old, 401, 30},
		"never above what is committed":        {plan.Policy{RetentionMs: 0, RetentionBytes: none}, plan.View{Committed: 25, Bytes: 500}, old, 1 << 40, 20},
		"a log start inside the first is kept": {plan.Policy{RetentionMs: 1000, RetentionBytes: none}, plan.View{LogStart: 5, Committed: 50}, old, 300, 5},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := plan.LogStart(test.policy, test.view, seq(test.segments, nil), test.now)
			if err != nil || got != test.want {
				t.Errorf("got %d, %v, want %d", got, err, test.want)
			}
		})
	}
}

func TestLogStartStaysWhenSegmentsCannotBeRead(t *testing.T) {
	broken := errors.New("broken")
	got, err := plan.LogStart(plan.Policy{RetentionMs: 0, RetentionBytes: -1}, plan.View{Committed: 100}, seq(run(0, 1, 2), broken), 1000)
	if got != 0 || !errors.Is(err, broken) {
		t.Errorf("got %d, %v", got, err)
	}
}

func TestDropIsDueForWholeEntriesOnly(t *testing.T) {
	first := plan.Segment{Base: 10, End: 20}
	for start, want := range map[protocol.Offset]bool{10: false, 19: false, 20: true, 25: true} {
		if got := plan.Drop(start, first); got != want {
			t.Errorf("log start %d: %t", start, got)
		}
	}
}

func TestHotStartTakesOnlyWhatIsSureToHaveExpired(t *testing.T) {
	const none = plan.Unlimited
	view := plan.View{LogStart: 5, TieredEnd: 50, Committed: 80, Bytes: 350}
	byTime, bySize := plan.Policy{RetentionMs: 100, RetentionBytes: none}, plan.Policy{RetentionMs: none, RetentionBytes: 150}
	for name, test := range map[string]struct {
		policy plan.Policy
		sealed []plan.Segment
		now    protocol.Timestamp
		want   protocol.Offset
	}{
		"no limits":                          {plan.Policy{RetentionMs: none, RetentionBytes: none}, run(50, 1, 2, 3), 1 << 40, 5},
		"nothing is hot":                     {byTime, nil, 1 << 40, 5},
		"old records, sealed a moment ago":   {byTime, run(50, 1, 2, 3), 1100, 5},
		"old records, sealed long ago":       {byTime, run(50, 1, 2, 3), 1101, 80},
		"a young one holds what follows":     {byTime, run(50, 1, 1050, 3), 1101, 60},
		"not known when it was sealed":       {byTime, []plan.Segment{{Base: 50, End: 60, MaxTimestamp: 1}}, 1 << 40, 5},
		"the future counts from the seal":    {byTime, run(50, 1<<50, 2), 1101, 70},
		"by size, whatever the cold tier is": {bySize, run(50, 1, 2, 3), 0, 70},
		"never above what is committed":      {byTime, run(50, 1, 2, 3, 4), 1 << 40, 80},
	} {
		if got := plan.HotStart(test.policy, view, test.sealed, test.now); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

func TestAnUploadWaitsForEitherOfTheCopyLags(t *testing.T) {
	const none = plan.Unlimited
	sealed := run(0, 100, 200, 300) // of 100 bytes each, and 50 above them
	for name, test := range map[string]struct {
		ms, bytes int64
		sealed    []plan.Segment
		now       protocol.Timestamp
		want      int
	}{
		"at once":                              {0, none, sealed, 0, 3},
		"at once by size":                      {none, 0, sealed, 0, 3},
		"no limit is never":                    {none, none, sealed, 1 << 40, 0},
		"by time":                              {150, none, sealed, 350, 2},
		"by time, a moment before":             {151, none, sealed, 350, 1},
		"by size":                              {none, 150, sealed, 0, 2},
		"by size, one byte more":               {none, 151, sealed, 0, 1},
		"either of them, time":                 {50, 200, sealed, 350, 3},
		"either of them, size":                 {1 << 40, 50, sealed, 1000, 3},
		"the future does not hold it up":       {50, none, run(0, 1<<50, 990), 1000, 1},
		"nor does a missing time":              {50, none, run(0, -1, 990), 1000, 1},
		"what waits holds up what follows it":  {50, none, run(0, 990, 1), 1000, 0},
		"a clock that is behind is the future": {50, none, sealed, 50, 3},
	} {
		p := plan.Policy{CopyLagMs: test.ms, CopyLagBytes: test.bytes}
		if got, err := plan.Uploads(p, plan.View{Committed: 30, HotBytes: 350}, test.sealed, 1<<30, test.now); err != nil || got != test.want {
			t.Errorf("%s: %d, %v, want %d", name, got, err, test.want)
		}
	}
}
