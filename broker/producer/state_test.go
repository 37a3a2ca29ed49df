package producer_test

import (
	"errors"
	"math"
	"testing"

	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// data is a batch of n records of a producer.
type data struct {
	id      protocol.ProducerID
	epoch   protocol.ProducerEpoch
	seq     int32
	n       int32
	txn     bool
	control bool
}

// batch makes a batch that spans n offsets; one record stands for all, as after compaction.
func (d data) batch() record.Batch {
	b := record.NewBuilder(0)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = d.id, d.epoch, d.seq
	b.Transactional, b.Control = d.txn, d.control
	b.AddAt(record.Record{Offset: protocol.Offset(d.n - 1), Key: []byte{0, 0, 0, 9}, Value: []byte("v")})
	return b.Bytes()
}

// markerBatch is a control batch that ends a transaction.
func markerBatch(id protocol.ProducerID, epoch protocol.ProducerEpoch, commit bool, coordinator byte) record.Batch {
	b := record.NewBuilder(0)
	b.ProducerID, b.ProducerEpoch, b.Transactional, b.Control = id, epoch, true, true
	key := []byte{0, 0, 0, 0}
	if commit {
		key[3] = 1
	}
	b.Add(record.Record{Key: key, Value: []byte{0, 0, 0, 0, 0, coordinator}})
	return b.Bytes()
}

// log applies batches one after the other and knows where the next one goes.
type log struct {
	state producer.State
	next  protocol.Offset
	now   protocol.Timestamp
}

func (l *log) apply(b record.Batch) (protocol.AbortedTxn, bool) {
	aborted, ok := l.state.Apply(b, l.next, l.now)
	l.next += protocol.Offset(b.LastOffsetDelta()) + 1
	return aborted, ok
}

func after(batches ...record.Batch) *log {
	l := &log{now: 1000}
	for _, b := range batches {
		l.apply(b)
	}
	return l
}

func TestCheckOfClientBatches(t *testing.T) {
	six := []record.Batch{} // sequences 0 to 59
	for i := range int32(6) {
		six = append(six, data{id: 7, epoch: 2, seq: i * 10, n: 10}.batch())
	}
	spanning := []record.Batch{data{id: 6, n: 9}.batch(), data{id: 7, seq: math.MaxInt32, n: 3}.batch()}
	wrapped := []record.Batch{data{id: 7, seq: 0, n: math.MaxInt32 - 19}.batch()}
	for i := range int32(5) { // from 2^31-20 up to 29
		wrapped = append(wrapped, data{id: 7, seq: int32((math.MaxInt32 - 19 + int64(i)*10) & math.MaxInt32), n: 10}.batch())
	}
	tests := []struct {
		rule  string
		had   []record.Batch
		batch data
		dup   protocol.Offset // 0 is none
		err   error
	}{
		{"no producer id is always fine", six, data{id: -1, epoch: -1, seq: -1, n: 1}, 0, nil},
		{"an unknown producer may start at 0", nil, data{id: 7, n: 1}, 0, nil},
		{"an unknown producer may start anywhere", nil, data{id: 7, epoch: 3, seq: 55, n: 1}, 0, nil},
		{"the next sequence is fine", six, data{id: 7, epoch: 2, seq: 60, n: 10}, 0, nil},
		{"a gap is out of order", six, data{id: 7, epoch: 2, seq: 61, n: 10}, 0, producer.ErrOutOfOrderSequence},
		{"the last batch again is a duplicate", six, data{id: 7, epoch: 2, seq: 50, n: 10}, 50, nil},
		{"the fifth last batch again is a duplicate", six, data{id: 7, epoch: 2, seq: 10, n: 10}, 10, nil},
		{"an older one is known to be a duplicate", six, data{id: 7, epoch: 2, seq: 0, n: 10}, 0, producer.ErrDuplicateSequence},
		{"another range of known sequences is out of order", six, data{id: 7, epoch: 2, seq: 50, n: 9}, 0, producer.ErrOutOfOrderSequence},
		{"a range that reaches into known sequences is out of order", six, data{id: 7, epoch: 2, seq: 5, n: 10}, 0, producer.ErrOutOfOrderSequence},
		{"an older one is not claimed when the start was not seen", six[1:], data{id: 7, epoch: 2, seq: 0, n: 5}, 0, producer.ErrOutOfOrderSequence},
		{"an older epoch is fenced", six, data{id: 7, epoch: 1, seq: 60, n: 10}, 0, producer.ErrInvalidProducerEpoch},
		{"an older epoch is fenced, whatever it repeats", six, data{id: 7, epoch: 1, seq: 50, n: 10}, 0, producer.ErrInvalidProducerEpoch},
		{"a new epoch starts at 0", six, data{id: 7, epoch: 3, seq: 0, n: 1}, 0, nil},
		{"a new epoch starts nowhere else", six, data{id: 7, epoch: 3, seq: 60, n: 1}, 0, producer.ErrOutOfOrderSequence},
		{"another producer has its own sequences", six, data{id: 8, epoch: 0, seq: 0, n: 1}, 0, nil},
		{"after 2^31-1 comes 0", []record.Batch{data{id: 7, seq: math.MaxInt32 - 4, n: 5}.batch()}, data{id: 7, seq: 0, n: 1}, 0, nil},
		{"a batch may span the wrap", []record.Batch{data{id: 7, seq: math.MaxInt32, n: 3}.batch()}, data{id: 7, seq: 2, n: 1}, 0, nil},
		{"a batch that spans the wrap again is a duplicate", spanning, data{id: 7, seq: math.MaxInt32, n: 3}, 9, nil},
		{"after the wrap a gap is a gap", wrapped, data{id: 7, seq: 50, n: 5}, 0, producer.ErrOutOfOrderSequence},
		{"a marker's new epoch wants sequence 0", append(six[:1:1], markerBatch(7, 3, true, 0)), data{id: 7, epoch: 3, seq: 10, n: 1}, 0, producer.ErrOutOfOrderSequence},
		{"a marker's new epoch fences the old", append(six[:1:1], markerBatch(7, 3, true, 0)), data{id: 7, epoch: 2, seq: 10, n: 1}, 0, producer.ErrInvalidProducerEpoch},
		{"a marker of the same epoch keeps the sequence", append(six[:1:1], markerBatch(7, 2, true, 0)), data{id: 7, epoch: 2, seq: 10, n: 1}, 0, nil},
		{"a marker of an unknown producer wants sequence 0", []record.Batch{markerBatch(7, 2, true, 0)}, data{id: 7, epoch: 2, seq: 10, n: 1}, 0, producer.ErrOutOfOrderSequence},
		{"in a transaction all batches are of it", []record.Batch{data{id: 7, n: 1, txn: true}.batch()}, data{id: 7, seq: 1, n: 1}, 0, producer.ErrInvalidTxnState},
		{"a transaction goes on", []record.Batch{data{id: 7, n: 1, txn: true}.batch()}, data{id: 7, seq: 1, n: 1, txn: true}, 0, nil},
		{"clients write no control batches", nil, data{id: 7, n: 1, txn: true, control: true}, 0, record.ErrInvalid},
		{"a transaction needs a producer", nil, data{id: -1, epoch: -1, seq: -1, n: 1, txn: true}, 0, record.ErrInvalid},
		{"a producer needs a sequence", nil, data{id: 7, seq: -1, n: 1}, 0, record.ErrInvalid},
		{"a producer needs an epoch", nil, data{id: 7, epoch: -1, n: 1}, 0, record.ErrInvalid},
		{"a producer id is -1 or above", nil, data{id: -2, n: 1}, 0, record.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			l := after(tt.had...)
			dup, err := l.state.Check(tt.batch.batch(), true)
			if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			switch {
			case dup == nil && tt.dup != 0:
				t.Error("not found to be a duplicate")
			case dup != nil && (tt.dup == 0 || dup.First != tt.dup || dup.Last != tt.dup+protocol.Offset(tt.batch.n)-1 || dup.AppendTime != 1000):
				t.Errorf("duplicate of %+v, want offset %d", *dup, tt.dup)
			}
			if dup, err := l.state.Check(tt.batch.batch(), false); !tt.batch.control && (dup != nil || err != nil) {
				t.Errorf("replication is checked: %v, %v", dup, err)
			}
		})
	}
}

func TestCheckOfCoordinatorBatches(t *testing.T) {
	offsets := data{id: 7, epoch: 2, seq: -1, n: 1, txn: true}
	broken := record.NewBuilder(0)
	broken.ProducerID, broken.ProducerEpoch, broken.Control = 7, 2, true
	broken.Add(record.Record{Key: []byte{0, 0, 0, 1}, Value: []byte{0, 0}})
	noKey := record.NewBuilder(0)
	noKey.ProducerID, noKey.ProducerEpoch, noKey.Control = 7, 2, true
	noKey.Add(record.Record{})
	otherEpoch := offsets
	otherEpoch.epoch = 1
	tests := []struct {
		rule  string
		batch record.Batch
		err   error
	}{
		{"offsets go on without sequences", offsets.batch(), nil},
		{"offsets of a zombie are fenced", otherEpoch.batch(), producer.ErrInvalidProducerEpoch},
		{"offsets outside of the open transaction", data{id: 7, epoch: 2, seq: -1, n: 1}.batch(), producer.ErrInvalidTxnState},
		{"offsets of an unknown producer", data{id: 8, epoch: 0, seq: -1, n: 1, txn: true}.batch(), nil},
		{"a marker of the same epoch", markerBatch(7, 2, true, 5), nil},
		{"a marker of the next epoch", markerBatch(7, 3, true, 6), nil},
		{"a marker of an older epoch", markerBatch(7, 1, true, 5), producer.ErrInvalidProducerEpoch},
		{"a marker of an older coordinator", markerBatch(7, 2, true, 4), producer.ErrCoordinatorFenced},
		{"a marker cut short", broken.Bytes(), record.ErrInvalid},
		{"a marker without a key", noKey.Bytes(), record.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			l := after(offsets.batch(), markerBatch(7, 2, true, 5), offsets.batch())
			if err := l.state.CheckCoordinator(tt.batch); !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Errorf("got %v, want %v", err, tt.err)
			}
		})
	}
	var s producer.State
	for _, b := range []record.Batch{broken.Bytes(), noKey.Bytes()} {
		if _, err := s.Check(b, false); !errors.Is(err, record.ErrInvalid) {
			t.Errorf("replicated marker that cannot be read: %v", err)
		}
	}
}

func TestTransactionsHoldTheLastStableOffset(t *testing.T) {
	l := after(
		data{id: 1, n: 10, txn: true}.batch(), // 0-9
		data{id: 2, n: 5, txn: true}.batch(),  // 10-14
		data{id: 3, n: 5}.batch(),             // 15-19
	)
	stable := func(hw, want protocol.Offset) {
		t.Helper()
		if got := l.state.LastStable(hw); got != want {
			t.Errorf("LSO at HW %d is %d, want %d", hw, got, want)
		}
	}
	stable(20, 0)
	stable(0, 0)
	if aborted, ok := l.apply(markerBatch(1, 0, false, 0)); !ok || aborted != (protocol.AbortedTxn{Producer: 1, First: 0, Last: 20, LastStable: 10}) {
		t.Errorf("aborted %+v, %v", aborted, ok)
	}
	stable(20, 0) // the marker at 20 is not below the HW
	stable(21, 10)
	if first, ok := l.state.FirstUndecided(); !ok || first != 10 {
		t.Errorf("first undecided %d, %v", first, ok)
	}
	if aborted, ok := l.apply(markerBatch(2, 0, true, 0)); ok {
		t.Errorf("a commit gave %+v", aborted)
	}
	stable(21, 10)
	stable(22, 22)
	if first, ok := l.state.FirstUndecided(); ok {
		t.Errorf("first undecided %d", first)
	}
	l.apply(data{id: 2, seq: 5, n: 1, txn: true}.batch()) // 22
	if aborted, ok := l.apply(markerBatch(2, 0, false, 0)); !ok || aborted != (protocol.AbortedTxn{Producer: 2, First: 22, Last: 23, LastStable: 24}) {
		t.Errorf("aborted %+v, %v", aborted, ok)
	}
	if aborted, ok := l.apply(markerBatch(2, 0, false, 0)); ok {
		t.Errorf("a second marker gave %+v", aborted)
	}
	stable(l.next, l.next)
}

// TestOtherControlRecordsChangeNothing: a control batch of an unknown type, one
// that compaction emptied, and one that cannot be read leave a transaction open.
func TestOtherControlRecordsChangeNothing(t *testing.T) {
	emptied := record.NewBuilder(0)
	emptied.ProducerID, emptied.Control = 1, true
	unreadable := markerBatch(1, 0, true, 0)
	unreadable[record.HeaderLen] = 0xff
	l := after(data{id: 1, n: 1, txn: true}.batch(), data{id: 1, n: 1, control: true}.batch(), emptied.Bytes(), unreadable)
	if got := l.state.LastStable(l.next); got != 0 {
		t.Errorf("LSO %d", got)
	}
	l.apply(markerBatch(1, 0, true, 0))
	if got := l.state.LastStable(l.next); got != l.next {
		t.Errorf("LSO %d", got)
	}
}

func TestExpireSparesOpenTransactions(t *testing.T) {
	l := after(data{id: 1, n: 1}.batch(), data{id: 2, n: 1, txn: true}.batch())
	l.now = 1500
	l.apply(data{id: 3, n: 1}.batch())
	if n := l.state.Expire(1999, 1000); n != 0 {
		t.Errorf("%d expired too early", n)
	}
	if n := l.state.Expire(2000, 1000); n != 1 || l.state.Len() != 2 {
		t.Errorf("%d expired, %d left", n, l.state.Len())
	}
	l.now = 3000
	l.apply(markerBatch(2, 0, true, 0))
	if n := l.state.Expire(3500, 1000); n != 1 || l.state.Len() != 1 {
		t.Errorf("%d expired, %d left: a marker counts as an append", n, l.state.Len())
	}
	if n := l.state.Expire(4000, 1000); n != 1 || l.state.Len() != 0 {
		t.Errorf("%d expired, %d left", n, l.state.Len())
	}
}

func TestTheStateHoldsTheLastBatchOfEachProducer(t *testing.T) {
	first, last := data{id: 1, n: 2}.batch(), data{id: 1, n: 3, seq: 2}.batch()
	older, newer := markerBatch(2, 4, false, 0), markerBatch(2, 5, false, 0)
	other := data{id: 3, n: 1}.batch()
	l := after(first, last, older, newer)
	offset := protocol.Offset(0)
	for _, b := range []record.Batch{first, last, older, newer} {
		b.SetBaseOffset(offset)
		offset = b.NextOffset()
	}
	other.SetBaseOffset(offset)
	for name, test := range map[string]struct {
		b    record.Batch
		want bool
	}{"superseded": {first, false}, "last": {last, true}, "marker of an older epoch": {older, false}, "marker of an epoch without data": {newer, true}, "unknown producer": {other, false}} {
		if l.state.Holds(test.b) != test.want {
			t.Errorf("%s: held %t, want %t", name, !test.want, test.want)
		}
	}
	l.apply(data{id: 2, epoch: 5, n: 1}.batch())
	if l.state.Holds(newer) {
		t.Error("the marker is held although its epoch has data by now")
	}
}

func TestCloneAndReset(t *testing.T) {
	l := after(data{id: 1, n: 1, txn: true}.batch())
	c := l.state.Clone()
	want := string(c.Encode())
	l.apply(markerBatch(1, 0, false, 0))
	l.apply(data{id: 2, n: 1, txn: true}.batch())
	if string(c.Encode()) != want || c.LastStable(l.next) != 0 {
		t.Error("the clone followed the original")
	}
	l.state.Reset()
	if l.state.Len() != 0 || l.state.LastStable(9) != 9 {
		t.Error("something is left after Reset")
	}
}

// TestIdlePartitionHoldsNoMemory: DESIGN D25.
func TestIdlePartitionHoldsNoMemory(t *testing.T) {
	plain, old := data{id: -1, epoch: -1, seq: -1, n: 1}.batch(), data{id: 1, n: 1}.batch()
	var s producer.State
	if n := testing.AllocsPerRun(100, func() {
		if _, err := s.Check(plain, true); err != nil {
			t.Error(err)
		}
		s.Apply(plain, 0, 0)
		s.LastStable(1)
		s.Expire(5, 1)
	}); n != 0 {
		t.Errorf("%g allocations without producers", n)
	}
	s.Apply(old, 0, 0)
	if n := testing.AllocsPerRun(100, func() { s.Apply(old, 1, 0) }); n != 0 {
		t.Errorf("%g allocations for a batch of a known producer", n)
	}
}
