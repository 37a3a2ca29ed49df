package compact_test

import (
	"testing"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/compact"
)

func TestWhatIsFromTheFutureWasWrittenWhenItWasSealed(t *testing.T) {
	const year2200 = protocol.Timestamp(7_258_118_400_000)
	for name, test := range map[string]struct{ greatest, sealed, now, want protocol.Timestamp }{
		"from before the seal":            {50, 100, 200, 50},
		"from the future":                 {year2200, 100, 200, 100},
		"from a future that has come":     {150, 100, 200, 150},
		"without a timestamp":             {-1, 100, 200, 100},
		"not known when it was sealed":    {year2200, 0, 200, year2200},
		"nothing is known":                {-1, 0, 200, -1},
		"sealed by a clock that was late": {150, 100, 50, 100},
	} {
		if got := compact.Written(test.greatest, test.sealed, test.now); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}
