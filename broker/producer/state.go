package producer

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// keptBatches is how many batches of a producer are remembered: as many as a
// client may have in flight (KIP-98).
const keptBatches = 5

// State is the producer state of one partition. The zero value is a partition
// without producers and holds no memory of its own. It is not safe for
// concurrent use; no method does I/O.
type State struct {
	producers map[protocol.ProducerID]*entry // nil while empty
	open      []txn                          // without a marker, by first offset
	ended     []txn                          // with a marker that may lie above the HW, by marker
}

// txn is one transaction's extent in this partition.
type txn struct {
	producer protocol.ProducerID
	first    protocol.Offset
	marker   protocol.Offset // of ended ones
}

// entry is one producer.
type entry struct {
	epoch            protocol.ProducerEpoch
	coordinatorEpoch int32              // of the last marker, or -1
	lastAppend       protocol.Timestamp // wall clock, data and markers
	txnFirst         protocol.Offset    // of the open transaction, or NoOffset
	// gapless: every sequence of this epoch from 0 on was seen here, so what
	// lies below the remembered batches is known to be a duplicate.
	gapless bool
	count   uint8
	batches [keptBatches]BatchMeta // count of them, oldest first; all of epoch
}

func newEntry(epoch protocol.ProducerEpoch) *entry {
	return &entry{epoch: epoch, coordinatorEpoch: -1, txnFirst: protocol.NoOffset, lastAppend: protocol.NoTimestamp}
}

func (e *entry) kept() []BatchMeta { return e.batches[:e.count] }

// lastSequence is NoSequence when the epoch has no batch yet.
func (e *entry) lastSequence() int32 {
	if e.count == 0 {
		return protocol.NoSequence
	}
	return e.batches[e.count-1].LastSequence
}

// enter begins a life of the producer: sequences start again.
func (e *entry) enter(epoch protocol.ProducerEpoch) {
	if e.epoch != epoch {
		e.epoch, e.count = epoch, 0
	}
}

func (e *entry) push(m BatchMeta) {
	if e.count == keptBatches {
		copy(e.batches[:], e.batches[1:])
		e.count--
	}
	e.batches[e.count] = m
	e.count++
}

// Check tells whether b may be appended; it changes nothing. Batches without
// a producer id always may.
//
// With client, b comes from a producer: a batch that is already in the log
// gives its place (dup, nothing is to be appended); else it must continue the
// producer's sequence. A producer that is not known here may start at any
// sequence, as in Kafka: retention or expiry may have taken its state. Without
// client, b was checked by a leader before (replication, replay) and only a
// marker that cannot be read is refused. Errors are those above, and
// record.ErrInvalid.
func (s *State) Check(b record.Batch, client bool) (dup *BatchMeta, err error) {
	if !client {
		return nil, checkMarker(b)
	}
	if b.Control() {
		return nil, fmt.Errorf("%w: control batch from a client", record.ErrInvalid)
	}
	if b.ProducerID() == protocol.NoProducerID {
		if b.Transactional() {
			return nil, fmt.Errorf("%w: transactional batch without a producer id", record.ErrInvalid)
		}
		return nil, nil
	}
	if b.ProducerID() < 0 || b.ProducerEpoch() < 0 || b.BaseSequence() < 0 {
		return nil, fmt.Errorf("%w: producer %d, epoch %d, sequence %d", record.ErrInvalid,
			b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	}
	e := s.producers[b.ProducerID()]
	if e == nil {
		return nil, nil
	}
	if dup := e.find(b); dup != nil {
		return dup, nil
	}
	if err := e.checkEpoch(b); err != nil {
		return nil, err
	}
	if err := e.checkSequence(b); err != nil {
		return nil, err
	}
	return nil, e.checkOpen(b)
}

// CheckCoordinator tells whether b, written by a coordinator of this broker,
// may be appended: a transaction marker, or the offsets a group commits in a
// transaction. These have no sequences; epochs are checked as for clients.
func (s *State) CheckCoordinator(b record.Batch) error {
	if err := checkMarker(b); err != nil {
		return err
	}
	e := s.producers[b.ProducerID()]
	if e == nil {
		return nil
	}
	if err := e.checkEpoch(b); err != nil {
		return err
	}
	if !b.Control() {
		return e.checkOpen(b)
	}
	m, ok, err := readMarker(b)
	if err != nil {
		return err
	}
	if ok && m.coordinatorEpoch < e.coordinatorEpoch {
		return fmt.Errorf("%w: producer %d, coordinator epoch %d, current %d", ErrCoordinatorFenced,
			b.ProducerID(), m.coordinatorEpoch, e.coordinatorEpoch)
	}
	return nil
}

// find returns the batch that b repeats, if it is remembered.
func (e *entry) find(b record.Batch) *BatchMeta {
	if b.ProducerEpoch() != e.epoch {
		return nil
	}
	for _, m := range e.kept() {
		if m.FirstSequence == b.BaseSequence() && m.LastSequence == b.LastSequence() {
			return &m
		}
	}
	return nil
}

func (e *entry) checkEpoch(b record.Batch) error {
	if b.ProducerEpoch() < e.epoch {
		return fmt.Errorf("%w: producer %d, epoch %d, current %d", ErrInvalidProducerEpoch,
			b.ProducerID(), b.ProducerEpoch(), e.epoch)
	}
	return nil
}

// checkSequence wants 0 of a new epoch and the successor of the last sequence of the current one.
func (e *entry) checkSequence(b record.Batch) error {
	last := protocol.NoSequence
	if b.ProducerEpoch() == e.epoch {
		last = e.lastSequence()
	}
	first := b.BaseSequence()
	if first == nextSequence(last) {
		return nil
	}
	kind := ErrOutOfOrderSequence
	if b.ProducerEpoch() == e.epoch && e.below(first, b.LastSequence()) {
		kind = ErrDuplicateSequence
	}
	return fmt.Errorf("%w: producer %d, epoch %d, first sequence %d, last appended %d in epoch %d", kind,
		b.ProducerID(), b.ProducerEpoch(), first, e.lastSequence(), e.epoch)
}

// below tells whether [first, last] is known to lie wholly below the
// remembered batches. It claims nothing where either wraps: greater numbers
// may then be yet to come.
func (e *entry) below(first, last int32) bool {
	if !e.gapless || e.count == 0 {
		return false
	}
	oldest := e.batches[0].FirstSequence
	return first <= last && last < oldest && oldest <= e.lastSequence()
}

func (e *entry) checkOpen(b record.Batch) error {
	if e.txnFirst != protocol.NoOffset && !b.Transactional() {
		return fmt.Errorf("%w: producer %d writes outside of the transaction it began at offset %d", ErrInvalidTxnState,
			b.ProducerID(), e.txnFirst)
	}
	return nil
}

// nextSequence follows s; sequences wrap from 2^31-1 to 0.
func nextSequence(s int32) int32 { return int32((int64(s) + 1) & 0x7fffffff) }

// Apply takes note that b was appended at base, at the wall-clock time now in
// ms. Batches must be applied in offset order, each once. It never fails: what
// is in the log is taken as it is. When b is an abort marker that ends a
// transaction with records in this partition, ok is true and aborted is what
// the log must add to its aborted index. Records are read of control batches only.
func (s *State) Apply(b record.Batch, base protocol.Offset, now protocol.Timestamp) (aborted protocol.AbortedTxn, ok bool) {
	id := b.ProducerID()
	if id < 0 {
		return protocol.AbortedTxn{}, false
	}
	if b.Control() {
		m, read, err := readMarker(b)
		if err != nil || !read {
			return protocol.AbortedTxn{}, false // its transaction, if one is open, goes on holding the LSO
		}
		return s.end(id, b.ProducerEpoch(), m, base, now)
	}
	e := s.entry(id, b.ProducerEpoch())
	first, last := b.BaseSequence(), b.LastSequence()
	if first == protocol.NoSequence {
		last = protocol.NoSequence // of a coordinator
	}
	if e.count == 0 {
		e.gapless = first == 0
	} else {
		e.gapless = e.gapless && first == nextSequence(e.lastSequence())
	}
	delta := protocol.Offset(b.LastOffsetDelta())
	e.push(BatchMeta{FirstSequence: first, LastSequence: last, First: base, Last: base + delta, AppendTime: now})
	e.lastAppend = now
	if b.Transactional() && e.txnFirst == protocol.NoOffset {
		e.txnFirst = base
		s.addOpen(txn{producer: id, first: base})
	}
	return protocol.AbortedTxn{}, false
}

// entry returns the producer's, in the given epoch.
func (s *State) entry(id protocol.ProducerID, epoch protocol.ProducerEpoch) *entry {
	e := s.producers[id]
	if e == nil {
		if s.producers == nil {
			s.producers = make(map[protocol.ProducerID]*entry, 1)
		}
		e = newEntry(epoch)
		s.producers[id] = e
	}
	e.enter(epoch)
	return e
}

// end applies a marker at offset at.
func (s *State) end(id protocol.ProducerID, epoch protocol.ProducerEpoch, m marker, at protocol.Offset, now protocol.Timestamp) (protocol.AbortedTxn, bool) {
	e := s.entry(id, epoch)
	e.coordinatorEpoch, e.lastAppend = m.coordinatorEpoch, now
	first := e.txnFirst
	if first == protocol.NoOffset {
		return protocol.AbortedTxn{}, false // nothing of the transaction is here
	}
	e.txnFirst = protocol.NoOffset
	i, found := s.findOpen(first)
	if !found {
		panic(fmt.Sprintf("producer %d: open transaction at %d is not listed", id, first))
	}
	s.open = slices.Delete(s.open, i, i+1)
	s.ended = append(s.ended, txn{producer: id, first: first, marker: at})
	if m.commit {
		return protocol.AbortedTxn{}, false
	}
	stable := at + 1
	if len(s.open) > 0 {
		stable = s.open[0].first
	}
	return protocol.AbortedTxn{Producer: id, First: first, Last: at, LastStable: stable}, true
}

func (s *State) findOpen(first protocol.Offset) (int, bool) {
	return slices.BinarySearchFunc(s.open, first, func(t txn, o protocol.Offset) int { return cmp.Compare(t.first, o) })
}

func (s *State) addOpen(t txn) {
	i, found := s.findOpen(t.first)
	if found {
		panic(fmt.Sprintf("producers %d and %d both began a transaction at offset %d", t.producer, s.open[i].producer, t.first))
	}
	s.open = slices.Insert(s.open, i, t)
}

// LastStable returns the last stable offset: the first offset of the oldest
// transaction that is open or whose marker is not below the high watermark hw;
// hw itself when there is none. It may lie below the log start (the caller
// takes the greater one) and changes the state: transactions whose marker lies below hw are
// forgotten, because hw never goes back.
func (s *State) LastStable(hw protocol.Offset) protocol.Offset {
	s.ended = slices.DeleteFunc(s.ended, func(t txn) bool { return t.marker < hw })
	stable := hw
	for _, t := range s.ended {
		stable = min(stable, t.first)
	}
	if len(s.ended) == 0 {
		s.ended = nil
	}
	if len(s.open) > 0 {
		stable = min(stable, s.open[0].first)
	}
	return stable
}

// FirstUndecided returns the first offset of the oldest transaction without a marker.
func (s *State) FirstUndecided() (protocol.Offset, bool) {
	if len(s.open) == 0 {
		return protocol.NoOffset, false
	}
	return s.open[0].first, true
}

// Active is one known producer.
type Active struct {
	ID               protocol.ProducerID
	Epoch            protocol.ProducerEpoch
	LastSequence     int32              // or NoSequence
	LastAppend       protocol.Timestamp // wall clock
	CoordinatorEpoch int32              // of the last marker, or -1
	TxnFirst         protocol.Offset    // of the open transaction, or NoOffset
}

// Active lists the known producers by id.
func (s *State) Active() []Active {
	out := make([]Active, 0, len(s.producers))
	for _, id := range slices.Sorted(maps.Keys(s.producers)) {
		e := s.producers[id]
		out = append(out, Active{
			ID: id, Epoch: e.epoch, LastSequence: e.lastSequence(), LastAppend: e.lastAppend,
			CoordinatorEpoch: e.coordinatorEpoch, TxnFirst: e.txnFirst,
		})
	}
	return out
}

// Last is what keeps a producer's epoch and sequence in a log: its last data batch, or where the epoch has none, its marker.
type Last struct {
	Epoch  protocol.ProducerEpoch
	Offset protocol.Offset // the last of the epoch's last data batch, or NoOffset
}

// Lasts lists them for all known producers, in no order.
func (s *State) Lasts() iter.Seq2[protocol.ProducerID, Last] {
	return func(yield func(protocol.ProducerID, Last) bool) {
		for id, e := range s.producers {
			last := Last{Epoch: e.epoch, Offset: protocol.NoOffset}
			if e.count > 0 {
				last.Offset = e.batches[e.count-1].Last
			}
			if !yield(id, last) {
				return
			}
		}
	}
}

// Knows tells whether the producer is known.
func (s *State) Knows(id protocol.ProducerID) bool { return s.producers[id] != nil }

// Len is the number of known producers.
func (s *State) Len() int { return len(s.producers) }

// Expire forgets producers whose last append is expiryMs or longer ago and
// that have no open transaction. It returns how many.
func (s *State) Expire(now protocol.Timestamp, expiryMs int64) int {
	before := len(s.producers)
	maps.DeleteFunc(s.producers, func(_ protocol.ProducerID, e *entry) bool {
		return e.txnFirst == protocol.NoOffset && int64(now-e.lastAppend) >= expiryMs
	})
	expired := before - len(s.producers)
	if len(s.producers) == 0 {
		s.producers = nil
	}
	return expired
}

// Clone returns a copy that shares nothing with s.
func (s *State) Clone() *State {
	c := &State{open: slices.Clone(s.open), ended: slices.Clone(s.ended)}
	if s.producers != nil {
		c.producers = make(map[protocol.ProducerID]*entry, len(s.producers))
		for id, e := range s.producers {
			copied := *e
			c.producers[id] = &copied
		}
	}
	return c
}

// Reset forgets everything.
func (s *State) Reset() { *s = State{} }
