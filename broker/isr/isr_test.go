package isr_test

import (
	"testing"

	"github.com/stratabroker/strata/broker/isr"
	"github.com/stratabroker/strata/protocol"
)

func TestHighWatermarkIsTheLowestDurableOffsetAndNeverGoesBack(t *testing.T) {
	for name, tc := range map[string]struct {
		current protocol.Offset
		durable []protocol.Offset
		minimum int
		want    protocol.Offset
	}{
		"alone":                 {0, []protocol.Offset{7}, 1, 7},
		"lowest of all":         {3, []protocol.Offset{9, 5, 8}, 2, 5},
		"never back":            {6, []protocol.Offset{9, 5}, 1, 6},
		"too few in sync":       {3, []protocol.Offset{9}, 2, 3},
		"one has not reported":  {3, []protocol.Offset{9, protocol.NoOffset}, 2, 3},
		"nobody in sync at all": {3, nil, 1, 3},
	} {
		if got := isr.HighWatermark(tc.current, tc.durable, tc.minimum); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

func TestEffectiveMinimumIsNeverAboveTheReplicationFactor(t *testing.T) {
	for _, tc := range [][3]int{{2, 1, 1}, {2, 3, 2}, {0, 3, 1}, {1, 0, 1}} {
		if got := isr.EffectiveMin(tc[0], tc[1]); got != tc[2] {
			t.Errorf("min %d of %d replicas: %d, want %d", tc[0], tc[1], got, tc[2])
		}
	}
}
