package plan

import (
	"iter"

	"github.com/stratabroker/strata/protocol"
)

// Compaction is what a compacted topic's settings mean to its cold tier (KIP-58).
type Compaction struct {
	MinDirtyRatio     float64 // min.cleanable.dirty.ratio
	MinLagMs          int64   // min.compaction.lag.ms; 0 for none
	MaxLagMs          int64   // max.compaction.lag.ms; Unlimited for none
	DeleteRetentionMs int64   // delete.retention.ms
	SegmentBytes      int64   // segment.bytes
}

// Tier is what a partition's manifest says of its compaction in sum.
type Tier struct {
	Bytes, CompactedBytes int64              // of batches: of all entries, and of those that have been through a compaction
	DeleteHorizon         protocol.Timestamp // when the first of its tombstones and markers may go; 0: there is none
}

// Dirty is the part of a partition's cold tier that a compaction may take on: it begins
// where the first entry begins that has not been through one.
type Dirty struct {
	End    protocol.Offset // above the last of its entries; where there is none it is 0
	Bytes  int64           // of batches
	Oldest protocol.Timestamp
	Next   protocol.Timestamp // when the first of those that are too young is old enough; 0: there is none
}

// DirtyPart sums up the entries that may be compacted, oldest first, each of which has not been
// through a compaction: all up to the first with a record younger than min.compaction.lag.ms (a
// record from the future is as young as its segment). Oldest is the age of the first; the caller may know better. An error is that of entries.
func DirtyPart(c Compaction, entries iter.Seq2[Segment, error], now protocol.Timestamp) (Dirty, error) {
	d := Dirty{Oldest: protocol.NoTimestamp}
	for s, err := range entries {
		if err != nil {
			return Dirty{}, err
		}
		at := s.written(now)
		if c.MinLagMs > 0 && at >= 0 && int64(now)-int64(at) < c.MinLagMs {
			d.Next = at + protocol.Timestamp(c.MinLagMs)
			break
		}
		if d.End == 0 {
			d.Oldest = at
		}
		d.End, d.Bytes = s.End, d.Bytes+s.Bytes
	}
	return d, nil
}

// Reason is why a compaction is due.
type Reason string

// The reasons, by their weight.
const (
	NotDue    Reason = ""
	ByLag     Reason = "max.compaction.lag.ms"
	ByRatio   Reason = "min.cleanable.dirty.ratio"
	ByHorizon Reason = "delete.retention.ms"
)

// Due tells whether a compaction is due: a record that may be compacted has waited for longer than
// max.compaction.lag.ms; the dirty part is more than min.cleanable.dirty.ratio of what would be
// compacted, as in Kafka; or a tombstone has been kept for delete.retention.ms, of which Kafka
// takes no notice in a partition that is not written to any more.
func Due(c Compaction, t Tier, d Dirty, now protocol.Timestamp) Reason {
	switch {
	case d.Bytes > 0 && c.MaxLagMs >= 0 && d.Oldest >= 0 && int64(now)-int64(d.Oldest) > c.MaxLagMs:
		return ByLag
	case d.Bytes > 0 && Ratio(t, d) > c.MinDirtyRatio:
		return ByRatio
	case t.DeleteHorizon > 0 && t.DeleteHorizon <= now:
		return ByHorizon
	}
	return NotDue
}

// Ratio is the dirty part's share of what would be compacted.
func Ratio(t Tier, d Dirty) float64 {
	if d.Bytes <= 0 {
		return 0
	}
	return float64(d.Bytes) / float64(t.CompactedBytes+d.Bytes)
}

const (
	mergedBytes   = 64 << 20 // of batches: what objects are merged up to
	mergedEntries = 256      // in one step
)

// Group says how many of the entries, from the first on, one step of a compaction rewrites into one object:
// those that are small, while they hold no more than segment.bytes or 64 MiB together. A
// larger one is a step by itself: it is not written again and again for the sake of the small ones that follow it.
func Group(c Compaction, entries []Segment) int {
	most := int64(mergedBytes)
	if c.SegmentBytes > 0 {
		most = min(most, c.SegmentBytes)
	}
	total := int64(0)
	for i, s := range entries {
		total += s.Bytes
		if i == mergedEntries || i > 0 && (total > most || s.Bytes > most/2) {
			return i
		}
		if s.Bytes > most/2 {
			return 1
		}
	}
	return len(entries)
}
