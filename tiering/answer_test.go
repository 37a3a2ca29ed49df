package tiering_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/object/objecttest"
)

func (w *world) readerWith(answerBytes int64) *tiering.Reader {
	r := tiering.NewReader(tiering.ReaderConfig{Store: w.store, Metadata: w.log, Rand: w.source(), AnswerBytes: answerBytes})
	w.t.Cleanup(r.Close)
	return r
}

// TestAnswersOfManyReadersStayWithinTheirBudget has 50 readers ask for 50 MiB
// each, and hold what they get. The bound: AnswerBytes, and the first batch of each that got one.
func TestAnswersOfManyReadersStayWithinTheirBudget(t *testing.T) {
	const readers, ask, answerBytes, batch = 50, 50 << 20, 4 << 20, 200_000 + 200
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		for range 4 {
			w.seal(k, 10, 200_000, 1000) // 8 MB in all, in batches that are larger than a chunk
		}
		w.tier()
		r := w.readerWith(answerBytes)
		var mu sync.Mutex
		var held []tiering.Fetched
		var heap int64
		var wg sync.WaitGroup
		for range readers {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				f, err := r.Read(ctx, k, 0, ask, true)
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				held, heap = append(held, f), heap+int64(cap(f.Batches))
			})
		}
		wg.Wait()
		served := 0
		for _, f := range held {
			if len(f.Batches) > 0 {
				served++
			}
		}
		if now := r.Stats().AnswerBytes; now != heap || heap > answerBytes+int64(served)*batch || served < 5 {
			t.Errorf("%d answers hold %d bytes, the budget counts %d", served, heap, now)
		}
		// Who needs no batch gets none, and does not wait.
		began := time.Now()
		if f, err := r.Read(t.Context(), k, 3, ask, false); err != nil || f.Batches != nil || f.Next != 3 || time.Since(began) > 0 {
			t.Errorf("%d bytes up to %d after %v, %v", len(f.Batches), f.Next, time.Since(began), err)
		}
		for _, f := range held {
			f.Release()
			f.Release() // twice does no harm
		}
		if now := r.Stats().AnswerBytes; now != 0 {
			t.Errorf("%d bytes are left", now)
		}
	})
}

// TestReadersThatReleaseAllGetOn has many readers go through all of the log with a budget for few of them.
func TestReadersThatReleaseAllGetOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		for range 4 {
			w.seal(k, 10, 100_000, 1000)
		}
		w.tier()
		want := w.written(k, 0, 40)
		for _, answerBytes := range []int64{1, 100_000, 1 << 20, 64 << 20} {
			r := w.readerWith(answerBytes)
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					var got []byte
					for from := protocol.Offset(0); from < 40; {
						f, err := r.Read(t.Context(), k, from, 50<<20, true)
						if err != nil || f.Next <= from {
							t.Errorf("%d bytes of budget: from %d to %d, %v", answerBytes, from, f.Next, err)
							return
						}
						time.Sleep(time.Millisecond) // on its way to a client
						got, from = append(got, f.Batches...), f.Next
						f.Release()
					}
					if !bytes.Equal(got, want) {
						t.Errorf("%d bytes of budget: read %d bytes, want %d", answerBytes, len(got), len(want))
					}
				})
			}
			wg.Wait()
			if now := r.Stats().AnswerBytes; now != 0 {
				t.Errorf("%d bytes of budget: %d are left", answerBytes, now)
			}
		}
	})
}

// TestAnswerHoldsNoMoreThanItsSize is about what is reserved for an answer that turns out to be smaller.
func TestAnswerHoldsNoMoreThanItsSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 100, 10_000, 1000)
		w.seal(k, 100, 10_000, 1000)
		w.tier()
		r := w.readerWith(64 << 20)
		for name, test := range map[string]struct {
			from protocol.Offset
			most int
		}{"all": {0, 2_100_000}, "across the border": {90, 1_200_000}, "the end": {199, 10_300}} {
			f, err := r.Read(t.Context(), k, test.from, 50<<20, true)
			if held := r.Stats().AnswerBytes; err != nil || f.Next != 200 || held != int64(cap(f.Batches)) || held > int64(test.most) {
				t.Errorf("%s: %d bytes up to %d hold %d, %v", name, len(f.Batches), f.Next, held, err)
			}
			f.Release()
		}
		// One that a deadline cuts short.
		fresh := w.readerWith(64 << 20)
		w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGet}, Skip: 3, Delay: time.Minute})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f, err := fresh.Read(ctx, k, 90, 50<<20, true)
		if held := fresh.Stats().AnswerBytes; err != nil || len(f.Batches) == 0 || held != int64(cap(f.Batches)) || held > 2*int64(len(f.Batches)) {
			t.Errorf("%d bytes up to %d hold %d, %v", len(f.Batches), f.Next, held, err)
		}
		f.Release()
		// One that fails.
		if _, err := r.Read(t.Context(), k, 300, 50<<20, true); err == nil || r.Stats().AnswerBytes != 0 {
			t.Errorf("%v, %d bytes are left", err, r.Stats().AnswerBytes)
		}
	})
}

func TestStateIsKnownWhereAnEntryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		for range 3 {
			w.seal(k, 10, 100, 1000)
		}
		w.tier()
		r := w.reader()
		for at, want := range map[protocol.Offset]string{10: "producers at 10", 20: "producers at 20", 30: "producers at 30"} {
			s, err := r.StateAt(t.Context(), k, at)
			if err != nil || s.End != at || string(s.Producers) != want || len(s.Epochs) != 1 || s.Epochs[0].Start != at-10 {
				t.Errorf("at %d: %+v, %v", at, s, err)
			}
		}
		for _, at := range []protocol.Offset{-1, 0, 1, 15, 29, 31, 40} {
			if s, err := r.StateAt(t.Context(), k, at); !errors.Is(err, tiering.ErrNoState) {
				t.Errorf("at %d: %+v, %v", at, s, err)
			}
		}
		w.advance(k, 20)
		if _, err := r.StateAt(t.Context(), k, 20); !errors.Is(err, tiering.ErrNoState) {
			t.Errorf("at the log start: %v", err)
		}
		if s, err := r.StateAt(t.Context(), k, 30); err != nil || s.End != 30 {
			t.Errorf("at the tiered end: %+v, %v", s, err)
		}
		if _, err := r.StateAt(t.Context(), protocol.PartitionKey{}, 30); !errors.Is(err, tiering.ErrUnknownPartition) {
			t.Errorf("unknown partition: %v", err)
		}
	})
}
