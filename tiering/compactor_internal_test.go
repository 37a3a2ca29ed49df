package tiering

import (
	"testing"
	"time"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/plan"
)

func TestAHorizonIsDueAlsoAfterAClockThatWasAheadDuringAPass(t *testing.T) {
	const now, day = protocol.Timestamp(1_000_000_000), protocol.Timestamp(86_400_000)
	policy := plan.Compaction{DeleteRetentionMs: int64(day), MaxLagMs: plan.Unlimited}
	for name, test := range map[string]struct {
		judged, horizon, want protocol.Timestamp
	}{
		"none was judged":                        {0, now - 1, now - 1},
		"a pass had to leave it":                 {now - 1, now - 2, now - 1 + day},
		"it was not due when it was judged last": {now - 2, now - 1, now - 1},
		"the clock was ahead":                    {now + 3650*day, now - 1, now - 1},
	} {
		k := &known{judgedAt: test.judged}
		k.see(1, format.Summary{DeleteHorizon: test.horizon}, policy, now)
		if k.tier.DeleteHorizon != test.want {
			t.Errorf("%s: due at %d, want %d", name, k.tier.DeleteHorizon, test.want)
		}
	}
	if time.Duration(day)*time.Millisecond < horizonRest {
		t.Fatal("the test's retention is below the least rest")
	}
}
