package producer

import (
	"encoding/binary"
	"fmt"

	"github.com/stratabroker/strata/protocol/record"
)

// marker is the control record that ends a transaction in one partition.
//
//	key:   version int16, type int16 (0 abort, 1 commit)
//	value: version int16, coordinator epoch int32
type marker struct {
	commit           bool
	coordinatorEpoch int32
}

// markerBudget bounds what a control batch may unpack to; a marker takes some 30 bytes.
const markerBudget = 1 << 12

// readMarker reads a control batch. ok is false for other control records and
// for a batch whose record compaction took. Errors wrap record.ErrInvalid.
func readMarker(b record.Batch) (m marker, ok bool, err error) {
	for r, err := range b.Records(markerBudget) {
		if err != nil {
			return marker{}, false, fmt.Errorf("control batch of producer %d: %w", b.ProducerID(), err)
		}
		if len(r.Key) < 4 {
			return marker{}, false, fmt.Errorf("%w: control record key of %d bytes", record.ErrInvalid, len(r.Key))
		}
		kind := binary.BigEndian.Uint16(r.Key[2:])
		if kind > 1 {
			return marker{}, false, nil
		}
		if len(r.Value) < 6 {
			return marker{}, false, fmt.Errorf("%w: marker value of %d bytes", record.ErrInvalid, len(r.Value))
		}
		return marker{commit: kind == 1, coordinatorEpoch: int32(binary.BigEndian.Uint32(r.Value[2:]))}, true, nil
	}
	return marker{}, false, nil
}

// checkMarker refuses a marker that could not be applied.
func checkMarker(b record.Batch) error {
	if !b.Control() || b.ProducerID() < 0 {
		return nil
	}
	_, _, err := readMarker(b)
	return err
}
