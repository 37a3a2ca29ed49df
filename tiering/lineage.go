package tiering

import (
	"context"

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

// State is what an empty replica needs to start at the tiered end (DESIGN D15).
type State struct {
	End       protocol.Offset       // the tiered end
	Epochs    []protocol.EpochStart // lineage of the last segment object
	Producers []byte                // producer state at End, as SealedSource gave it; nil where the cold tier is empty
}

// StateAtEnd gives the state at the tiered end. Errors are those of Read but for ErrOutOfRange.
func (r *Reader) StateAtEnd(ctx context.Context, k protocol.PartitionKey) (State, error) {
	var s State
	if row, ok := r.cfg.Metadata.Image().Partition(k); ok {
		s.End = row.Manifest.TieredEnd
	}
	err := r.inTier(k, func(v view) error {
		end := v.row.Manifest.TieredEnd
		e, err := v.find(ctx, end-1)
		if err != nil {
			return err
		}
		src, err := v.open(ctx, e)
		if err != nil {
			return err
		}
		s = State{End: end, Epochs: src.index.Epochs(), Producers: src.index.Producers()}
		return nil
	})
	return s, err
}
