package tiering

import (
	"context"
	"errors"
	"fmt"

	"github.com/stratabroker/strata/protocol"
)

// EpochEnd answers OffsetForLeaderEpoch out of the cold tier: the greatest
// epoch at or below the one asked for and where the next one begins. It is false
// where no later epoch begins in the cold tier: then the hot tier must be asked.
// An epoch below the first one is its own answer, as in Kafka. Errors are those of Read but for ErrOutOfRange.
func (r *Reader) EpochEnd(ctx context.Context, k protocol.PartitionKey, epoch protocol.Epoch) (floor protocol.Epoch, end protocol.Offset, ok bool, err error) {
	floor, end = protocol.NoEpoch, protocol.NoOffset
	err = r.inTier(k, func(v view) error {
		floor, end, ok, err = v.epochEnd(ctx, epoch)
		return err
	})
	return floor, end, ok, err
}

// epochEnd looks for the first object whose lineage goes beyond epoch. Lineages ascend along the
// log, so a binary search over offsets finds it with few indexes read.
func (v view) epochEnd(ctx context.Context, epoch protocol.Epoch) (protocol.Epoch, protocol.Offset, bool, error) {
	floor := epoch
	var beyond []protocol.EpochStart
	for lo, hi := v.row.LogStart, v.row.Manifest.TieredEnd; lo < hi; {
		e, err := v.find(ctx, lo+(hi-lo)/2)
		if err != nil {
			return 0, 0, false, err
		}
		src, err := v.open(ctx, e)
		if err != nil {
			return 0, 0, false, err
		}
		lineage := src.index.Epochs()
		switch n := len(lineage); {
		case n == 0: // written without one: it began no epoch
			lo = e.End
		case lineage[n-1].Epoch > epoch:
			beyond, hi = lineage, e.Base
		default:
			floor, lo = lineage[n-1].Epoch, e.End
		}
	}
	for i, s := range beyond {
		if s.Epoch > epoch {
			if i > 0 {
				floor = beyond[i-1].Epoch
			}
			return floor, s.Start, true, nil
		}
	}
	return protocol.NoEpoch, protocol.NoOffset, false, nil
}

// ErrNoState means that no entry of the cold tier ends at the offset, so that no state is known there.
var ErrNoState = errors.New("no segment of the cold tier ends at the offset")

// State is what an empty replica needs to start at End (DESIGN D15).
type State struct {
	End       protocol.Offset       // where an entry ends
	Epochs    []protocol.EpochStart // lineage of the segment object that ends there
	Producers []byte                // producer state at End, as SealedSource gave it
}

// StateAt gives the state where an entry of the cold tier ends, at the tiered end
// or below it. Errors are those of Read, but for ErrOutOfRange and ErrNotTiered: ErrNoState where
// no entry above the log start ends at that offset, or where its object goes on beyond it.
func (r *Reader) StateAt(ctx context.Context, k protocol.PartitionKey, at protocol.Offset) (s State, err error) {
	err = r.withCurrent(k, at-1, func(v view) error {
		s, err = v.stateAt(ctx, at)
		return err
	})
	if errors.Is(err, ErrOutOfRange) || errors.Is(err, ErrNotTiered) {
		err = fmt.Errorf("%w: %d of %s", ErrNoState, at, k)
	}
	return s, err
}

func (v view) stateAt(ctx context.Context, at protocol.Offset) (State, error) {
	e, err := v.find(ctx, at-1)
	if err != nil {
		return State{}, err
	}
	if e.End != at {
		return State{}, fmt.Errorf("%w: %d of %s lies in [%d, %d)", ErrNoState, at, v.row.Key, e.Base, e.End)
	}
	src, err := v.open(ctx, e)
	if err != nil {
		return State{}, err
	}
	if end := src.index.Meta().End; end != at { // its producers are those at its own end
		return State{}, fmt.Errorf("%w: %d of %s, whose object goes on to %d", ErrNoState, at, v.row.Key, end)
	}
	return State{End: at, Epochs: src.index.Epochs(), Producers: src.index.Producers()}, nil
}
