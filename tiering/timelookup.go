package tiering

import (
	"cmp"
	"context"
	"slices"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
)

// Found is one record's place in time.
type Found struct {
	Offset    protocol.Offset
	Timestamp protocol.Timestamp
	Epoch     protocol.Epoch // leader epoch of its batch
}

// timeRun is how much one GET of a time look-up brings: a batch of the default
// max.message.bytes and the chunk that it begins in, so that a look-up costs
// the index and one more GET (DESIGN D13).
const timeRun = 1 << 20

// OffsetForTime finds the first record at or above from (and the log start)
// whose timestamp is not below ts; false where the cold tier has none. Errors are those of Read
// but for ErrOutOfRange.
func (r *Reader) OffsetForTime(ctx context.Context, k protocol.PartitionKey, ts protocol.Timestamp, from protocol.Offset) (found Found, ok bool, err error) {
	err = r.inTier(k, func(v view) error {
		found, ok, err = v.offsetForTime(ctx, ts, max(from, v.row.LogStart))
		return err
	})
	return found, ok, err
}

// inTier runs f where the cold tier holds anything.
func (r *Reader) inTier(k protocol.PartitionKey, f func(view) error) error {
	row, ok := r.cfg.Metadata.Image().Partition(k)
	if ok && row.LogStart == row.Manifest.TieredEnd {
		return nil
	}
	err := r.withCurrent(k, row.LogStart, f)
	return err
}

func (v view) offsetForTime(ctx context.Context, ts protocol.Timestamp, from protocol.Offset) (Found, bool, error) {
	// Entries' max timestamps need not ascend, and an entry whose max is high enough may hold it
	// below from: then the next one that is high enough is asked.
	for from < v.row.Manifest.TieredEnd {
		e, ok, err := v.first(ctx, func(s format.Summary) bool { return s.End > from && s.MaxTimestamp >= ts })
		if err != nil || !ok {
			return Found{}, false, err
		}
		found, ok, err := v.firstAt(ctx, e, ts, from)
		if err != nil || ok {
			return found, ok, err
		}
		from = max(e.End, from)
	}
	return Found{}, false, nil
}

// firstAt finds the first record of an entry at or above from with a timestamp not below ts.
func (v view) firstAt(ctx context.Context, e format.Entry, ts protocol.Timestamp, from protocol.Offset) (found Found, ok bool, err error) {
	src, err := v.open(ctx, e)
	if err != nil {
		return Found{}, false, err
	}
	defer src.close()
	// No batch before either position can be the one.
	pos := max(src.index.FloorTime(ts), src.index.Floor(max(from, e.Base)))
	err = src.records(ctx, pos, max(from, e.Base), ts, func(f Found) bool {
		found, ok = f, true
		return false
	})
	return found, ok, err
}

// records visits, in order, the records of the entry from pos and offset from
// on whose timestamp is not below ts. Only batches that may hold one are decoded. A batch that
// cannot be decoded within the budget counts as one record, its first, at its max timestamp.
func (s *source) records(ctx context.Context, pos int64, from protocol.Offset, ts protocol.Timestamp, visit func(Found) bool) error {
	for pos < s.index.DataBytes() {
		s.expect(pos, timeRun)
		s.window = s.chunksOf(timeRun)
		h, err := s.header(ctx, pos)
		if err != nil {
			return err
		}
		if h.batch.BaseOffset() >= s.entry.End {
			return nil
		}
		if h.batch.MaxTimestamp() >= ts && h.batch.NextOffset() > from {
			b, err := s.batch(ctx, pos, h)
			if err != nil {
				return err
			}
			epoch := b.LeaderEpoch()
			for rec, err := range b.Records(s.runs.cfg.DecodeBytes) {
				if err != nil {
					rec.Offset, rec.Timestamp = max(b.BaseOffset(), from), b.MaxTimestamp()
				}
				if rec.Offset < from || rec.Timestamp < ts || rec.Offset >= s.entry.End {
					continue
				}
				if !visit(Found{Offset: rec.Offset, Timestamp: rec.Timestamp, Epoch: epoch}) {
					return nil
				}
			}
		}
		pos += h.size
	}
	return nil
}

// MaxTimestamp finds the first record with the greatest timestamp of the cold
// tier (ListOffsets -3); false where it holds none. Errors are those of Read but for ErrOutOfRange.
func (r *Reader) MaxTimestamp(ctx context.Context, k protocol.PartitionKey) (found Found, ok bool, err error) {
	err = r.inTier(k, func(v view) error {
		found, ok, err = v.maxTimestamp(ctx)
		return err
	})
	return found, ok, err
}

func (v view) maxTimestamp(ctx context.Context) (Found, bool, error) {
	root, err := v.root(ctx)
	if err != nil {
		return Found{}, false, err
	}
	most := root.Summary.MaxTimestamp
	e, ok, err := v.first(ctx, func(s format.Summary) bool { return s.MaxTimestamp == most })
	if err != nil || !ok {
		return Found{}, false, err
	}
	if e.Base >= v.row.LogStart {
		found, ok, err := v.firstAt(ctx, e, e.MaxTimestamp, e.Base)
		if err != nil || ok {
			return found, ok, err
		}
	}
	return v.maxTimestampByEntry(ctx)
}

// maxTimestampByEntry is the long way, where the record that gave the entry its
// max lies below the log start or outside the part that the entry covers: the entries are asked in
// the order of what they can have at most, until none can beat what was found.
func (v view) maxTimestampByEntry(ctx context.Context) (best Found, ok bool, err error) {
	var entries []format.Entry
	err = v.visit(ctx, func(s format.Summary) bool { return s.End > v.row.LogStart }, func(e format.Entry) bool {
		entries = append(entries, e)
		return true
	})
	if err != nil {
		return Found{}, false, err
	}
	slices.SortStableFunc(entries, func(a, b format.Entry) int { return cmp.Compare(b.MaxTimestamp, a.MaxTimestamp) })
	for _, e := range entries {
		if ok && e.MaxTimestamp < best.Timestamp {
			break
		}
		src, err := v.open(ctx, e)
		if err != nil {
			return Found{}, false, err
		}
		from := max(e.Base, v.row.LogStart)
		err = src.records(ctx, src.index.Floor(from), from, protocol.NoTimestamp, func(f Found) bool {
			if !ok || f.Timestamp > best.Timestamp || f.Timestamp == best.Timestamp && f.Offset < best.Offset {
				best, ok = f, true
			}
			return true
		})
		src.close()
		if err != nil {
			return Found{}, false, err
		}
	}
	return best, ok, nil
}
