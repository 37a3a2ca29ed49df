package replica_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/protocol"
)

func TestAPollCostsWhatChangedAndNotWhatIsIdle(t *testing.T) {
	cost := func(partitions int32) float64 {
		w := newWorld(t)
		leaders := w.topic("t", partitions)
		s := newSession(t, w, starts(leaders)...)
		fill(t, leaders[0], 1, 10)
		got := make(chan []replica.FetchResult, 1)
		q := replica.FetchRequest{FetchOptions: replica.FetchOptions{MaxBytes: enough}, Reply: func(r []replica.FetchResult) { got <- r }}
		return testing.AllocsPerRun(100, func() {
			s.set.Fetch(q)
			for _, r := range <-got {
				r.Records.Release()
			}
		})
	}
	if few, many := cost(10), cost(2000); many > few {
		t.Errorf("%v allocations with 10 partitions, %v with 2,000", few, many)
	}
}

func TestASessionTakesLittleMemory(t *testing.T) {
	const partitions, budget = 10_000, 384 // what package api charges
	w := newWorld(t)
	leaders := w.topic("t", partitions)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	s := &session{set: w.set(), told: map[replica.FetchKey]replica.FetchResult{}}
	defer s.set.Close()
	parts := starts(leaders)
	before := heap()
	for _, r := range <-s.ask(replica.FetchRequest{Put: parts, Full: true}) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	s.set.Keep()
	each := (int64(heap()) - int64(before)) / partitions
	t.Logf("%d bytes of heap a partition of a session", each)
	if each > budget {
		t.Errorf("%d bytes of heap a partition, at most %d are charged", each, budget)
	}
	runtime.KeepAlive(parts)
}

// One partition of many is written to at every poll.
func BenchmarkPoll(b *testing.B) {
	for _, partitions := range []int32{10, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			w := newWorld(b)
			leaders := w.topic("t", partitions)
			s := newSession(b, w, starts(leaders)...)
			record, written := batch(1, 100), make(chan error, 1)
			var put []replica.FetchPartition
			b.ReportAllocs()
			for next := protocol.Offset(1); b.Loop(); next++ {
				got := s.wait(put...)
				leaders[0].Append(append(record[:0:0], record...), replica.AcksAll, time.Now(), func(_ replica.Appended, err error) { written <- err })
				if err := <-written; err != nil {
					b.Fatal(err)
				}
				for _, r := range <-got {
					r.Records.Release()
				}
				put = append(put[:0], part(leaders[0], next, enough))
			}
		})
	}
}
