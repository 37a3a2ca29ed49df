package compact

import (
	"encoding/binary"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// Rules are what a pass goes by.
type Rules struct {
	// Now is wall-clock time.
	Now protocol.Timestamp
	// DeleteRetentionMs is delete.retention.ms.
	DeleteRetentionMs int64
	// FirstDirty is the first offset that no earlier pass over the same log covered, as Scan's from.
	// Tombstones and markers at or above it stay, however old they are.
	FirstDirty protocol.Offset
	// Covered is that of the Scan. What lies at or above it is not changed.
	Covered protocol.Offset
	// Producers; nil means that nobody needs a batch for its producer's sake.
	Producers Producers
	// SupersededOnly is for the hot copy of a tiered partition (DESIGN D17): superseded records and
	// those of aborted transactions go. Tombstones, markers and records without a
	// key go only where Dropped says so, and no delete horizon is stamped.
	SupersededOnly bool
	// Dropped tells, with SupersededOnly, whether the cold tier covers an offset without the record that lies
	// there. nil means never.
	Dropped func(protocol.Offset) bool
}

// Stats count what a filter saw and what it left.
type Stats struct {
	BatchesRead, BatchesKept int64
	RecordsRead, RecordsKept int64 // of batches that were decoded
	BytesRead, BytesKept     int64
	Tombstones               int64 // kept
	Undecodable              int64 // batches kept as they are
}

// Filter decides of one batch after the other, from the log start on in the order of
// offsets, what stays.
type Filter struct {
	rules   Rules
	keys    *Map
	txns    txns
	unknown bool // a batch that could not be decoded came by
	stats   Stats
	block   []byte // reused
}

// NewFilter makes a filter for one pass. Keys are those that the Scan found; the map is only read.
func NewFilter(keys *Map, rules Rules) *Filter { return &Filter{rules: rules, keys: keys} }

// AddAborted is that of Scan.
func (f *Filter) AddAborted(list []protocol.AbortedTxn) { f.txns.add(list) }

// Stats returns the counts so far.
func (f *Filter) Stats() Stats { return f.stats }

// Verdict is what stays of a batch.
type Verdict struct {
	// Batch is nil where nothing stays. It aliases the batch that came in where that stays as it is.
	Batch record.Batch
	// Changed tells whether Batch differs from what came in.
	Changed bool
	// Aborted is set where a marker stays, or may, that the aborted index must go on listing.
	Aborted *protocol.AbortedTxn
}

// Batch takes the next batch, whose CRC was checked. hold says that the batch must stay, empty if need be, so
// that the range it is the last of ends where it did. Offsets, sequences, epochs and
// codec never change. An error is that of a codec that cannot write; nothing may be replaced then.
func (f *Filter) Batch(b record.Batch, hold bool) (Verdict, error) {
	v, err := f.judge(b, hold)
	if err != nil {
		return Verdict{}, err
	}
	f.stats.BatchesRead++
	f.stats.BytesRead += int64(len(b))
	if v.Batch != nil {
		f.stats.BatchesKept++
		f.stats.BytesKept += int64(len(v.Batch))
		if !b.Control() {
			f.txns.kept(b)
		}
	}
	return v, nil
}

func (f *Filter) judge(b record.Batch, hold bool) (Verdict, error) {
	hold = hold || f.rules.Producers != nil && f.rules.Producers.Holds(b)
	if b.Control() {
		return f.marker(b, hold)
	}
	aborted := f.txns.isAborted(b)
	switch {
	case b.BaseOffset() >= f.rules.Covered:
		return Verdict{Batch: b}, nil
	case (aborted || b.Count() == 0) && b.LastOffset() < f.rules.Covered:
		f.stats.RecordsRead += int64(b.Count())
		return emptied(b, hold), nil
	}
	block, ok := decode(b)
	if !ok {
		f.unknown = true
		f.stats.Undecodable++
		return Verdict{Batch: b}, nil
	}
	return f.data(b, block, hold)
}

// emptied is what stays of a batch without records.
func emptied(b record.Batch, hold bool) Verdict {
	switch {
	case !hold:
		return Verdict{}
	case b.Count() == 0:
		return Verdict{Batch: b}
	}
	return Verdict{Batch: b.Emptied(), Changed: true}
}

// data judges the records of a committed batch.
func (f *Filter) data(b record.Batch, block []byte, hold bool) (Verdict, error) {
	k := record.Kept{MaxTimestamp: protocol.NoTimestamp, Horizon: protocol.NoTimestamp}
	whole, pos, tombstones := true, 0, int64(0)
	for r := range b.Raws(block) {
		switch stays := f.stays(b, r); {
		case stays && !whole:
			f.block = append(f.block, r.Bytes...)
			fallthrough
		case stays:
			k.Count++
			k.MaxTimestamp = max(k.MaxTimestamp, r.Timestamp)
			if r.Value == nil {
				tombstones++
			}
		case whole:
			whole = false
			f.block = append(f.block[:0], block[:pos]...)
		}
		pos += len(r.Bytes)
	}
	f.stats.RecordsRead += int64(b.Count())
	f.stats.RecordsKept += int64(k.Count)
	f.stats.Tombstones += tombstones
	stamp := tombstones > 0 && f.stamps(b)
	switch {
	case k.Count == 0:
		return emptied(b, hold), nil
	case whole && !stamp:
		return Verdict{Batch: b}, nil
	case !whole:
		block = f.block
	}
	k.Block = block
	if b.LogAppendTime() {
		k.MaxTimestamp = b.MaxTimestamp()
	}
	if stamp {
		var err error
		if k, err = f.stamped(b, k); err != nil {
			return Verdict{}, err
		}
	}
	out, err := b.WithRecords(k)
	return Verdict{Batch: out, Changed: true}, err
}

// stays tells whether a record of a committed batch does.
func (f *Filter) stays(b record.Batch, r record.Raw) bool {
	if r.Offset >= f.rules.Covered {
		return true
	}
	if r.Key == nil {
		return f.rules.SupersededOnly && !f.coldDropped(r.Offset)
	}
	if latest, ok := f.keys.Get(r.Key); ok && latest > r.Offset {
		return false
	}
	// An earlier pass that covered it has removed all older ones of its key, but for those that nobody could decode.
	return r.Value != nil || f.unknown || !f.mayEnd(b, r.Offset)
}

// mayEnd tells whether it is time for a tombstone or marker to go.
func (f *Filter) mayEnd(b record.Batch, at protocol.Offset) bool {
	if at >= f.rules.FirstDirty {
		return false
	}
	if f.rules.SupersededOnly {
		return f.coldDropped(at)
	}
	return b.HasDeleteHorizon() && b.BaseTimestamp() <= f.rules.Now
}

func (f *Filter) coldDropped(at protocol.Offset) bool {
	return f.rules.Dropped != nil && f.rules.Dropped(at)
}

// stamps tells whether a batch with a tombstone, or a marker without data, gets its delete horizon in this pass: the
// first that covers it, so that what it supersedes is gone from now on.
func (f *Filter) stamps(b record.Batch) bool {
	return !f.rules.SupersededOnly && !b.HasDeleteHorizon() && b.LastOffset() < f.rules.Covered
}

// stamped counts the records' timestamps from the delete horizon.
func (f *Filter) stamped(b record.Batch, k record.Kept) (record.Kept, error) {
	k.Horizon = f.rules.Now + protocol.Timestamp(f.rules.DeleteRetentionMs)
	out := make([]byte, 0, len(k.Block)+int(k.Count)*binary.MaxVarintLen64)
	for rest := k.Block; len(rest) > 0; {
		r, after, err := b.NextRaw(rest)
		if err != nil {
			return k, err
		}
		out, rest = r.AppendAt(out, k.Horizon), after
	}
	k.Block = out
	return k, nil
}

// marker judges a control batch. It stays as long as a batch of its transaction does, and
// from then until its delete horizon; that of a producer of which nothing
// else is known stays whole.
func (f *Filter) marker(b record.Batch, hold bool) (Verdict, error) {
	f.txns.pass(b)
	needed := f.rules.Producers != nil && f.rules.Producers.Holds(b)
	data, aborted := f.txns.end(b)
	kept := Verdict{Batch: b, Aborted: aborted}
	if b.LastOffset() >= f.rules.Covered {
		return kept, nil
	}
	if b.Count() == 0 {
		return emptied(b, hold), nil
	}
	f.stats.RecordsRead += int64(b.Count())
	block, ok := decode(b)
	if !ok || !isMarker(b, block) {
		f.stats.Undecodable++
		f.stats.RecordsKept += int64(b.Count())
		return kept, nil
	}
	switch {
	case !data && !needed && f.mayEnd(b, b.LastOffset()):
		return emptied(b, hold), nil
	case data || !f.stamps(b):
		f.stats.RecordsKept += int64(b.Count())
		return kept, nil
	}
	f.stats.RecordsKept += int64(b.Count())
	k := record.Kept{Block: block, Count: b.Count(), MaxTimestamp: b.MaxTimestamp()}
	k, err := f.stamped(b, k)
	if err != nil {
		return Verdict{}, err
	}
	out, err := b.WithRecords(k)
	return Verdict{Batch: out, Changed: true, Aborted: aborted}, err
}

// isMarker tells whether a control batch holds a transaction's marker, and only that.
func isMarker(b record.Batch, block []byte) bool {
	ok := b.Count() == 1
	for r := range b.Raws(block) {
		ok = ok && len(r.Key) >= 4 && binary.BigEndian.Uint16(r.Key[2:]) <= 1
	}
	return ok
}
