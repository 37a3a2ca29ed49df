package producer

import "github.com/stratabroker/strata/protocol/record"

// Holds tells whether the state of b's producer is made of b: the last data batch of its epoch or, where the epoch has
// none, its marker. Compaction keeps such a batch, empty if need be, so that a state that is rebuilt from
// the log still knows the sequence. A producer that has expired needs none.
func (s *State) Holds(b record.Batch) bool {
	e := s.producers[b.ProducerID()]
	if e == nil || e.epoch != b.ProducerEpoch() {
		return false
	}
	if e.count == 0 {
		return b.Control()
	}
	return !b.Control() && e.batches[e.count-1].Last == b.LastOffset()
}
