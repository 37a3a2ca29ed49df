package compact

import (
	"cmp"
	"slices"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// txns tells which batches are of aborted transactions, as batches come by in
// the order of their offsets. It holds the transactions that overlap the place
// it has come to, and those that were added for what comes next.
type txns struct {
	pending []protocol.AbortedTxn // not reached yet, by first offset
	aborted map[protocol.ProducerID]protocol.AbortedTxn
	open    map[protocol.ProducerID]bool // producers of which a batch of the current transaction stays
	reached protocol.Offset              // all below it has come by
}

// add takes what overlaps the range that comes next; what was added before is passed over.
func (t *txns) add(list []protocol.AbortedTxn) {
	for _, a := range list {
		if t.reached > 0 && a.First < t.reached {
			continue
		}
		i, found := slices.BinarySearchFunc(t.pending, a.First, func(p protocol.AbortedTxn, o protocol.Offset) int { return cmp.Compare(p.First, o) })
		if !found {
			t.pending = slices.Insert(t.pending, i, a)
		}
	}
}

// isAborted tells whether the data batch that comes next is of an aborted transaction.
func (t *txns) isAborted(b record.Batch) bool {
	t.pass(b)
	if !b.Transactional() {
		return false
	}
	a, ok := t.aborted[b.ProducerID()]
	return ok && a.First <= b.BaseOffset() && b.LastOffset() <= a.Last
}

// pass moves on to a batch.
func (t *txns) pass(b record.Batch) {
	n := 0
	for ; n < len(t.pending) && t.pending[n].First <= b.LastOffset(); n++ {
		if t.aborted == nil {
			t.aborted = map[protocol.ProducerID]protocol.AbortedTxn{}
		}
		t.aborted[t.pending[n].Producer] = t.pending[n]
	}
	t.pending = slices.Delete(t.pending, 0, n)
	t.reached = max(t.reached, b.NextOffset())
}

// kept notes that a data batch stays.
func (t *txns) kept(b record.Batch) {
	if !b.Transactional() || b.ProducerID() < 0 {
		return
	}
	if t.open == nil {
		t.open = map[protocol.ProducerID]bool{}
	}
	t.open[b.ProducerID()] = true
}

// end notes the marker of a producer, and tells whether a batch of its
// transaction stays, and the transaction where it was aborted.
func (t *txns) end(b record.Batch) (data bool, aborted *protocol.AbortedTxn) {
	id := b.ProducerID()
	data = t.open[id]
	delete(t.open, id)
	if a, ok := t.aborted[id]; ok && a.Last <= b.LastOffset() {
		delete(t.aborted, id)
		if a.Last >= b.BaseOffset() {
			aborted = &a
		}
	}
	return data, aborted
}
