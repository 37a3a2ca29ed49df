package producer_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// broker is a log of one partition that can be stopped and cut.
type broker struct {
	log
	batches []data
	durable int    // batches that a crash keeps, and whose replies are sent
	snap    []byte // producer state at snapAt batches
	snapAt  int
}

// restart loses what is not durable and rebuilds the state from the snapshot
// and the batches after it, as the log does.
func (b *broker) restart(t *testing.T) {
	t.Helper()
	b.batches = b.batches[:b.durable]
	if b.snapAt > b.durable {
		b.snap, b.snapAt = nil, 0 // truncation drops the snapshots above
	}
	b.state.Reset()
	b.next = 0
	if b.snap != nil {
		s, err := producer.Decode(b.snap)
		if err != nil {
			t.Fatal(err)
		}
		b.state = *s
	}
	for i, d := range b.batches {
		if i < b.snapAt {
			b.next += protocol.Offset(d.n)
			continue
		}
		b.apply(d.batch())
	}
}

// TestIdempotentStreamAppearsOnce: a client keeps up to five batches in
// flight (one until the first is acknowledged), repeats what is not acknowledged, over
// a network that loses, doubles and reorders requests and replies, to a broker
// that snapshots, restarts, and loses what is not durable. Each batch is in the log
// once, in order, and no reply names a wrong offset.
func TestIdempotentStreamAppearsOnce(t *testing.T) {
	for seed := range uint64(300) {
		runStream(t, seed)
	}
}

func runStream(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 7))
	var (
		b        broker
		stream   []data // all that the client will write
		acked    = map[int]bool{}
		first    = 0   // of the stream that is not acknowledged
		network  []int // requests under way
		sequence = int64(0)
	)
	for range 60 {
		n := int32(1 + rng.IntN(20))
		if seed%2 == 1 {
			n = int32(1 + rng.IntN(math.MaxInt32/8)) // wraps several times
		}
		stream = append(stream, data{id: 7, seq: int32(sequence & math.MaxInt32), n: n})
		sequence += int64(n)
	}
	for step := 0; first < len(stream); step++ {
		if step > 200_000 {
			t.Fatalf("seed %d: stuck at batch %d of %d, log holds %d", seed, first, len(stream), len(b.batches))
		}
		b.now++
		switch rng.IntN(12) {
		case 0:
			b.durable = len(b.batches)
		case 1:
			b.snap, b.snapAt = b.state.Encode(), len(b.batches)
			b.durable = len(b.batches) // a roll is synced
		case 2:
			if rng.IntN(4) == 0 {
				b.restart(t)
			}
		case 3, 4, 5, 6:
			window := 5
			if first == 0 {
				window = 1
			}
			network = append(network, min(first+rng.IntN(window), len(stream)-1))
		default:
			if len(network) == 0 {
				continue
			}
			at := rng.IntN(len(network))
			request := network[at]
			if rng.IntN(8) > 0 {
				network = slices.Delete(network, at, at+1) // else it comes once more, later
			}
			deliver(t, &b, stream, request, acked, rng.IntN(4) > 0)
			for acked[first] {
				first++
			}
		}
	}
	if !slices.Equal(b.batches, stream) {
		t.Fatalf("seed %d: the log holds %d batches, the stream %d", seed, len(b.batches), len(stream))
	}
}

// deliver hands request i to the broker; its reply comes if it is durable and the network lets it through.
func deliver(t *testing.T, b *broker, stream []data, i int, acked map[int]bool, reply bool) {
	t.Helper()
	want := protocol.Offset(0)
	for _, d := range stream[:i] {
		want += protocol.Offset(d.n)
	}
	dup, err := b.state.Check(stream[i].batch(), true)
	switch {
	case errors.Is(err, producer.ErrDuplicateSequence):
		if i >= len(b.batches) {
			t.Fatalf("batch %d is taken for a duplicate, the log holds %d", i, len(b.batches))
		}
	case err != nil:
		return // the client tries again
	case dup != nil:
		if dup.First != want || dup.Last != want+protocol.Offset(stream[i].n)-1 {
			t.Fatalf("batch %d is a duplicate of %+v, want offset %d", i, *dup, want)
		}
	default:
		if i != len(b.batches) || b.next != want {
			t.Fatalf("batch %d is appended at %d as number %d", i, b.next, len(b.batches))
		}
		b.apply(stream[i].batch())
		b.batches = append(b.batches, stream[i])
	}
	if reply && i < b.durable {
		acked[i] = true
	}
}

// TestTransactionsAgainstModel: LSO, first undecided offset and aborted entries
// of random transactions are those of a plain search through the log.
func TestTransactionsAgainstModel(t *testing.T) {
	type ended struct {
		first, marker protocol.Offset
	}
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 9))
		l := &log{}
		open := map[protocol.ProducerID]protocol.Offset{}
		seqs := map[protocol.ProducerID]int32{}
		var done []ended
		hw := protocol.Offset(0)
		for range 300 {
			id := protocol.ProducerID(rng.IntN(6))
			at := l.next
			var b record.Batch
			if rng.IntN(3) > 0 {
				d := data{id: id, seq: seqs[id], n: int32(1 + rng.IntN(5)), txn: true}
				seqs[id] += d.n
				b = d.batch()
				if _, err := l.state.Check(b, true); err != nil {
					t.Fatal(err)
				}
				if _, isOpen := open[id]; !isOpen {
					open[id] = at
				}
				l.apply(b)
			} else {
				commit := rng.IntN(2) == 0
				b = markerBatch(id, 0, commit, 0)
				if err := l.state.CheckCoordinator(b); err != nil {
					t.Fatal(err)
				}
				first, had := open[id]
				delete(open, id)
				aborted, ok := l.apply(b)
				if ok != (had && !commit) {
					t.Fatalf("seed %d: aborted entry %v, had %v, commit %v", seed, ok, had, commit)
				}
				want := protocol.AbortedTxn{Producer: id, First: first, Last: at, LastStable: at + 1}
				for _, o := range open {
					want.LastStable = min(want.LastStable, o)
				}
				if ok && aborted != want {
					t.Fatalf("seed %d: %+v, want %+v", seed, aborted, want)
				}
				if had {
					done = append(done, ended{first, at})
				}
			}
			hw += protocol.Offset(rng.Int64N(int64(l.next-hw) + 1))
			stable := hw
			for _, o := range open {
				stable = min(stable, o)
			}
			for _, e := range done {
				if e.marker >= hw {
					stable = min(stable, e.first)
				}
			}
			if got := l.state.LastStable(hw); got != stable {
				t.Fatalf("seed %d: LSO %d at HW %d, want %d", seed, got, hw, stable)
			}
			if rng.IntN(20) == 0 && hw == l.next { // nothing has ended above the HW: a snapshot holds it all
				s, err := producer.Decode(l.state.Encode())
				if err != nil {
					t.Fatal(err)
				}
				l.state = *s
			}
		}
	}
}
