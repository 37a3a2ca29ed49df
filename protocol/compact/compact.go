// Package compact decides which records of a compacted partition stay (KIP-58,
// KIP-280's offset strategy, KIP-534): of each key the last record, tombstones and
// transaction markers until their delete horizon has passed, of each producer its last
// batch. It is pure: batches, offsets and the time come in, batches go out. Files
// and objects, what is read and written when, and how a pass is made atomic are the
// shells' (broker/log, tiering).
//
// A pass reads the partition twice. A [Scan] of the dirty part fills a [Map] with
// the latest offset of each key; a [Filter] then gets every batch from the log start
// on and gives back what stays of it. Two invariants hold whatever a crash,
// a full map or a batch that nobody can decode do to a pass:
//
//   - A record goes as superseded only if a later record of its key, which is committed and
//     below Covered, is there.
//   - A tombstone goes only if no older record of its key can be below it: an earlier pass covered it, and
//     nothing that could not be decoded lies below. The same for a marker and its transaction's data.
//
// Both need the results to replace the partition from the lowest offset up.
package compact

import (
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// DecodeBudget is what a batch may take in memory when it is decoded: as much as an append to a
// compacted topic allows. One that takes more counts as undecodable. It is the same
// for all, so that a batch whose keys one pass could not see stays unseen.
const DecodeBudget = 64 << 20

// Scan fills a map with the keys of a range. Batches must come in the order of their offsets.
type Scan struct {
	keys      *Map
	from, end protocol.Offset
	txns      txns
	covered   protocol.Offset
	full      bool
}

// NewScan scans [from, end): from is the first offset that the earlier passes did not cover, end lies at
// or below the last stable offset. Keys must be empty, or filled by a scan of what comes before from.
func NewScan(keys *Map, from, end protocol.Offset) *Scan {
	return &Scan{keys: keys, from: from, end: end, covered: from}
}

// AddAborted says which transactions that overlap the batches to come were aborted; all must be
// known before the first batch they overlap. The same one may be given again.
func (s *Scan) AddAborted(list []protocol.AbortedTxn) { s.txns.add(list) }

// Batch takes the next batch. It returns false where the scan has ended: the map
// is full, or end is reached. Batches are not changed or kept.
func (s *Scan) Batch(b record.Batch) (more bool) {
	switch {
	case s.full:
		return false
	case b.NextOffset() > s.end:
		s.covered = max(s.covered, min(s.end, b.BaseOffset()))
		return false
	case b.Control():
		s.txns.pass(b)
		s.txns.end(b)
	case !s.txns.isAborted(b) && b.LastOffset() >= s.from:
		if at, ok := s.put(b); !ok {
			s.covered, s.full = max(s.covered, at), true
			return false
		}
	}
	s.covered = max(s.covered, b.NextOffset())
	return s.covered < s.end
}

// put notes the keys of a batch; at is that of the record for which there was
// no room. A batch that cannot be decoded has no keys.
func (s *Scan) put(b record.Batch) (at protocol.Offset, ok bool) {
	block, ok := decode(b)
	if !ok {
		return 0, true
	}
	for r := range b.Raws(block) {
		if r.Key != nil && r.Offset >= s.from && !s.keys.Put(r.Key, r.Offset) {
			return r.Offset, false
		}
	}
	return 0, true
}

// Covered is the end of what the map holds: of every key in [from, Covered) the
// latest offset. It is below the scan's end where the map had no room for all.
func (s *Scan) Covered() protocol.Offset { return s.covered }

// Full tells whether the map had no room for all.
func (s *Scan) Full() bool { return s.full }

// decode gives a batch's records in plain form. ok is false where not all of them can be walked: half a batch
// is never trusted.
func decode(b record.Batch) (block []byte, ok bool) {
	block, err := b.Block(DecodeBudget)
	if err != nil {
		return nil, false
	}
	for _, err := range b.Raws(block) {
		if err != nil {
			return nil, false
		}
	}
	return block, true
}

// Producers tells which batches must stay, with their records or empty, because the state of a
// producer is made of them (KIP-98): the last data batch of each, or, where its epoch
// has none, its marker.
type Producers interface {
	Holds(b record.Batch) bool
}

// Tracker is Producers for who has no producer state: it holds the last batch of every producer
// that came by. It is bounded: of producers beyond its limit every batch stays.
type Tracker struct {
	limit int
	last  map[protocol.ProducerID]lastBatch
}

type lastBatch struct {
	epoch  protocol.ProducerEpoch
	offset protocol.Offset // of the last data batch of the epoch, or NoOffset
}

// NewTracker remembers so many producers at most, each in some 50 bytes.
func NewTracker(limit int) *Tracker {
	return &Tracker{limit: limit, last: map[protocol.ProducerID]lastBatch{}}
}

// Note takes a batch; only its header is read. Batches must come in the order of their offsets.
func (t *Tracker) Note(b record.Batch) {
	id := b.ProducerID()
	if id < 0 {
		return
	}
	last, known := t.last[id]
	switch {
	case !known && len(t.last) >= t.limit:
		return
	case !b.Control():
		last = lastBatch{b.ProducerEpoch(), b.LastOffset()}
	case !known || last.epoch != b.ProducerEpoch():
		last = lastBatch{b.ProducerEpoch(), protocol.NoOffset}
	}
	t.last[id] = last
}

// Know notes the last batch of a producer that is known from elsewhere: last is the last offset of its last data batch, or
// NoOffset where the epoch has none.
func (t *Tracker) Know(id protocol.ProducerID, epoch protocol.ProducerEpoch, last protocol.Offset) {
	t.last[id] = lastBatch{epoch, last}
}

// Holds implements Producers.
func (t *Tracker) Holds(b record.Batch) bool {
	id := b.ProducerID()
	if id < 0 {
		return false
	}
	last, known := t.last[id]
	switch {
	case !known:
		return len(t.last) >= t.limit
	case b.Control():
		return last.offset == protocol.NoOffset && last.epoch == b.ProducerEpoch()
	}
	return last.epoch == b.ProducerEpoch() && last.offset == b.LastOffset()
}

// Written is when the last record of a segment was written, in both tiers: its greatest timestamp; where there is none,
// or that was from the future when the segment was sealed and still is, when it was sealed. 0 or less for sealed: not known.
// It is negative where nothing is known.
func Written(greatest, sealed, now protocol.Timestamp) protocol.Timestamp {
	if sealed > 0 && (greatest < 0 || greatest > max(sealed, now)) {
		return sealed
	}
	return greatest
}
