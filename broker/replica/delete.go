package replica

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/protocol"
)

// ToHighWatermark asks DeleteTo for all that is committed.
const ToHighWatermark protocol.Offset = -1

// DeleteTo checks a client's wish to delete what lies below an offset, and gives the
// log start that does it: what is committed may go, and only where the topic's policy lets records
// go at all. The log start is the image's, so that moving it is for the caller to propose; it never moves back.
func (l *Leader) DeleteTo(before protocol.Offset) (protocol.Offset, error) {
	if !l.config.Load().Delete {
		return protocol.NoOffset, protocol.Errorf(kerr.PolicyViolation, "Records of partition %s-%d can not be deleted due to the configured policy", l.topic, l.key.Partition)
	}
	hw := l.HighWatermark()
	if before == ToHighWatermark {
		return hw, nil
	}
	if before < 0 || before > hw {
		return protocol.NoOffset, protocol.Errorf(kerr.OffsetOutOfRange, "offset %d is not in [0, %d]", before, hw)
	}
	return before, nil
}
