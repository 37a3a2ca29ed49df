package replica

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/protocol"
)

// Cold is the tier below the hot one, supplied by the composition root. All
// methods may run concurrently, wait for the bucket at most as long as ctx
// lives, and fail with a Kafka error where the client should know more.
type Cold interface {
	// Read returns whole batches, the first of which holds from or follows it.
	Read(ctx context.Context, key protocol.PartitionKey, from protocol.Offset, maxBytes int, minOne bool) (ColdBatches, error)
	// OffsetForTime finds the first record at or after from that is not older than ts.
	OffsetForTime(ctx context.Context, key protocol.PartitionKey, ts protocol.Timestamp, from protocol.Offset) (Found, bool, error)
	// MaxTimestamp finds the record with the greatest timestamp.
	MaxTimestamp(ctx context.Context, key protocol.PartitionKey) (Found, bool, error)
	// EpochEnd gives the largest epoch not above epoch and where it ends.
	EpochEnd(ctx context.Context, key protocol.PartitionKey, epoch protocol.Epoch) (protocol.EpochEnd, bool, error)
	// StateAt gives the epoch lineage and the encoded producer state at an offset
	// where a segment object ends, ErrNoState elsewhere.
	StateAt(ctx context.Context, key protocol.PartitionKey, at protocol.Offset) ([]protocol.EpochStart, []byte, error)
}

// ColdBatches is what one read of the cold tier gave.
type ColdBatches struct {
	Bytes   []byte
	Next    protocol.Offset
	Aborted []protocol.AbortedTxn
	// Release gives the memory of Bytes back to the cold tier's budget; it is
	// called once they were written or dropped. nil: nothing is held.
	Release func()
}

// release is for who has done with Bytes.
func (c ColdBatches) release() {
	if c.Release != nil {
		c.Release()
	}
}

// Found is a record found by time.
type Found struct {
	Offset    protocol.Offset
	Timestamp protocol.Timestamp
	Epoch     protocol.Epoch
}

// Records are record batches on their way to a client.
type Records interface {
	Len() int
	io.WriterTo
	Release()
}

// errTiered says that the offset is in the cold tier only.
var errTiered = errors.New("offset is in the cold tier")

// visible is the first offset a reader may not see.
func (l *Leader) visible(committed bool) protocol.Offset {
	if committed {
		return l.LastStable()
	}
	return l.HighWatermark()
}

// readHot reads whole batches from the hot tier. It gives errTiered for an offset
// that only the bucket has, and OFFSET_OUT_OF_RANGE outside the partition. An
// offset at or above what is visible gives nothing.
func (l *Leader) readHot(from, below protocol.Offset, maxBytes int, minOne bool) (log.Slice, error) {
	start := l.LogStart()
	switch {
	case from < start || from > l.log.LEO():
		return log.Slice{}, protocol.Errorf(kerr.OffsetOutOfRange, "offset %d is not in [%d, %d]", from, start, l.log.LEO())
	case from >= below:
		return log.Slice{}, nil
	case from < l.log.Start():
		return log.Slice{}, errTiered
	}
	s, err := l.log.Read(from, below, maxBytes, minOne)
	if errors.Is(err, log.ErrOffsetOutOfRange) && from >= start && from < l.log.Start() {
		return log.Slice{}, errTiered // evicted between the two looks
	}
	if err != nil {
		return log.Slice{}, readError(err)
	}
	return s, nil
}

func readError(err error) error {
	if errors.Is(err, log.ErrOffsetOutOfRange) {
		return protocol.Errorf(kerr.OffsetOutOfRange, "%v", err)
	}
	return protocol.Errorf(kerr.KafkaStorageError, "%v", err)
}

// hasCold tells whether part of the partition is in the cold tier only.
func (l *Leader) hasCold() bool { return l.LogStart() < l.log.Start() }

// OffsetForTime finds the first visible record not older than ts, in both tiers.
func (l *Leader) OffsetForTime(ctx context.Context, cold Cold, ts protocol.Timestamp, committed bool) (Found, bool, error) {
	return l.inBothTiers(func() (Found, bool, error) {
		if l.hasCold() {
			f, ok, err := cold.OffsetForTime(ctx, l.key, ts, l.LogStart())
			// What both tiers hold is the same, so a hit at any place is right.
			if err != nil || ok {
				return f, ok, err
			}
		}
		// The log start may lie inside a segment; nothing below it is shown.
		f, ok, err := l.log.OffsetForTime(ts, l.LogStart(), l.visible(committed))
		if err != nil {
			return Found{}, false, readError(err)
		}
		return Found(f), ok, nil
	})
}

// MaxTimestamp finds the visible record with the greatest timestamp, in both tiers (KIP-734).
func (l *Leader) MaxTimestamp(ctx context.Context, cold Cold, committed bool) (Found, bool, error) {
	return l.inBothTiers(func() (Found, bool, error) {
		hot, ok, err := l.log.MaxTimestamp(l.LogStart(), l.visible(committed))
		if err != nil {
			return Found{}, false, readError(err)
		}
		best := Found(hot)
		if !l.hasCold() {
			return best, ok, nil
		}
		f, coldOK, err := cold.MaxTimestamp(ctx, l.key)
		if err == nil && coldOK && (!ok || f.Timestamp >= best.Timestamp) {
			return f, true, nil
		}
		return best, ok, err
	})
}

// inBothTiers repeats a look at both tiers when segments left the hot one
// meanwhile: what moved between the two looks would be in neither.
func (l *Leader) inBothTiers(look func() (Found, bool, error)) (Found, bool, error) {
	for {
		start := l.log.Start()
		f, ok, err := look()
		if err != nil || l.log.Start() == start {
			return f, ok, err
		}
	}
}

// EpochEnd answers OffsetForLeaderEpoch: the largest epoch not above epoch and
// the offset at which it ends; NoEpoch and NoOffset where that is not known.
func (l *Leader) EpochEnd(ctx context.Context, cold Cold, epoch protocol.Epoch) (protocol.EpochEnd, error) {
	if e, end, ok := l.log.EpochEnd(epoch); ok {
		return protocol.EpochEnd{Epoch: e, End: end}, nil
	}
	if l.hasCold() {
		e, ok, err := cold.EpochEnd(ctx, l.key, epoch)
		if err != nil || ok {
			return e, err
		}
	}
	return protocol.EpochEnd{Epoch: protocol.NoEpoch, End: protocol.NoOffset}, nil
}

// EpochAt is the leader epoch of an offset in the hot tier, NoEpoch elsewhere.
func (l *Leader) EpochAt(o protocol.Offset) protocol.Epoch {
	epoch := protocol.NoEpoch
	for _, e := range l.log.Epochs() {
		if e.Start > o {
			break
		}
		epoch = e.Epoch
	}
	return epoch
}

// ReadCommitted reads whole batches below the HW from either tier, for what this
// broker replays itself. Next equals from at the HW.
func (l *Leader) ReadCommitted(ctx context.Context, cold Cold, from protocol.Offset, maxBytes int) (batches []byte, next protocol.Offset, err error) {
	s, err := l.readHot(from, l.HighWatermark(), maxBytes, true)
	if errors.Is(err, errTiered) {
		got, err := cold.Read(ctx, l.key, from, maxBytes, true)
		defer got.release()
		return bytes.Clone(got.Bytes), max(from, got.Next), err // the caller has one such copy at a time, beside the budget
	}
	if err != nil || s.Len() == 0 {
		return nil, from, err
	}
	defer s.Release()
	batches, err = s.Bytes()
	return batches, s.Next(), err
}
