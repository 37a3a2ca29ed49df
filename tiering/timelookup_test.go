package tiering_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering"
)

// sealRandom seals one segment of batches of several records with any timestamps in [0, span).
func (w *world) sealRandom(k protocol.PartitionKey, rnd *rand.Rand, span int) {
	w.t.Helper()
	w.hot.mu.Lock()
	defer w.hot.mu.Unlock()
	l := w.hot.logs[k]
	s := hotSegment{r: tiering.SealedRange{Base: l.led.HW, Sealed: time.Now()}}
	next := l.led.HW
	s.epochs = []protocol.EpochStart{{Epoch: l.led.Epoch, Start: next}}
	for range 1 + rnd.IntN(6) {
		b := record.NewBuilder(next)
		b.LeaderEpoch = l.led.Epoch
		for range 1 + rnd.IntN(4) {
			b.Add(record.Record{Timestamp: protocol.Timestamp(rnd.IntN(span)), Value: make([]byte, rnd.IntN(3000))})
		}
		batch := b.Bytes()
		if rnd.IntN(8) == 0 {
			batch.SetLogAppendTime(protocol.Timestamp(rnd.IntN(span)))
		}
		s.r.MaxTimestamp = max(s.r.MaxTimestamp, batch.MaxTimestamp())
		s.batches = append(s.batches, batch...)
		next = batch.NextOffset()
	}
	s.r.End, s.r.Bytes = next, int64(len(s.batches))
	l.segments = append(l.segments, s)
	l.led.HW, l.led.LEO = next, next
}

// timeline lists all records of a partition from an offset on.
func (w *world) timeline(k protocol.PartitionKey, from protocol.Offset) (out []tiering.Found) {
	w.t.Helper()
	for rest := w.written(k, 0, 1<<62); len(rest) > 0; {
		b, next, err := record.Split(rest)
		if err != nil {
			w.t.Fatal(err)
		}
		for rec, err := range b.Records(1 << 20) {
			if err != nil {
				w.t.Fatal(err)
			}
			if rec.Offset >= from {
				out = append(out, tiering.Found{Offset: rec.Offset, Timestamp: rec.Timestamp, Epoch: b.LeaderEpoch()})
			}
		}
		rest = next
	}
	return out
}

func TestTimeLookupAgreesWithAScanOfTheLog(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			w := newWorld(t, 1)
			k := w.key(0)
			for range 1 + rnd.IntN(12) {
				w.sealRandom(k, rnd, 100)
			}
			w.tier()
			if rnd.IntN(2) == 0 {
				w.advance(k, protocol.Offset(rnd.IntN(int(w.row(k).Manifest.TieredEnd))))
			}
			r, start := w.reader(), w.row(k).LogStart
			for range 40 {
				from, ts := protocol.Offset(rnd.IntN(int(w.row(k).Manifest.TieredEnd)+2)), protocol.Timestamp(rnd.IntN(110))
				var want tiering.Found
				wantOK := false
				for _, f := range w.timeline(k, max(from, start)) {
					if f.Timestamp >= ts {
						want, wantOK = f, true
						break
					}
				}
				if got, ok, err := r.OffsetForTime(t.Context(), k, ts, from); got != want || ok != wantOK || err != nil {
					t.Fatalf("seed %d: time %d from %d: got %+v, %t, %v, want %+v, %t", seed, ts, from, got, ok, err, want, wantOK)
				}
			}
			var want tiering.Found
			wantOK := false
			for _, f := range w.timeline(k, start) {
				if !wantOK || f.Timestamp > want.Timestamp {
					want, wantOK = f, true
				}
			}
			if got, ok, err := r.MaxTimestamp(t.Context(), k); got != want || ok != wantOK || err != nil {
				t.Errorf("seed %d: max timestamp: got %+v, %t, %v, want %+v, %t", seed, got, ok, err, want, wantOK)
			}
		})
	}
}

func TestTimeLookupCostsTwoGets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		for i := range 30 {
			w.seal(k, 50, 10_000, protocol.Timestamp(1000*i))
		}
		w.tier()
		r := w.reader()
		w.store.reads = true
		for i := 1; i < 30; i += 7 {
			w.store.take()
			got, ok, err := r.OffsetForTime(t.Context(), k, protocol.Timestamp(1000*i+25), 0)
			synctest.Wait()
			if want := protocol.Offset(50*i + 25); got.Offset != want || !ok || err != nil {
				t.Errorf("got %+v, %t, %v, want offset %d", got, ok, err, want)
			}
			gets := slices.DeleteFunc(w.store.take(), func(s string) bool { return !strings.HasPrefix(s, "get segment") })
			if len(gets) > 2 {
				t.Errorf("%q", gets)
			}
		}
	})
}

func TestEmptyColdTierHasNoTimesEpochsOrState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		r := w.reader()
		if _, ok, err := r.OffsetForTime(t.Context(), k, 0, 0); ok || err != nil {
			t.Error(ok, err)
		}
		if _, ok, err := r.MaxTimestamp(t.Context(), k); ok || err != nil {
			t.Error(ok, err)
		}
		if _, _, ok, err := r.EpochEnd(t.Context(), k, 1); ok || err != nil {
			t.Error(ok, err)
		}
		if _, err := r.StateAt(t.Context(), k, 0); !errors.Is(err, tiering.ErrNoState) {
			t.Error(err)
		}
		if _, err := r.StateAt(t.Context(), protocol.PartitionKey{Partition: 9}, 0); !errors.Is(err, tiering.ErrUnknownPartition) {
			t.Error(err)
		}
	})
}

func TestEpochEndFollowsTheLineage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		// Epochs begin where segments begin and in their middles; the uploader's epoch is another matter.
		var lineage []protocol.EpochStart
		for i, epochs := range [][]protocol.Epoch{{0}, {0, 2}, {2}, {2}, {3, 4, 6}, {9}, {9}} {
			w.seal(k, 10, 100, 1000)
			s := &w.hot.logs[k].segments[i]
			s.epochs = nil
			for j, e := range epochs {
				start := s.r.Base + protocol.Offset(3*j)
				if n := len(lineage); n > 0 && lineage[n-1].Epoch == e {
					start = lineage[n-1].Start
				} else {
					lineage = append(lineage, protocol.EpochStart{Epoch: e, Start: start})
				}
				s.epochs = append(s.epochs, protocol.EpochStart{Epoch: e, Start: start})
			}
		}
		w.tier()
		r := w.reader()
		for epoch := range protocol.Epoch(12) {
			want := "none"
			for i, s := range lineage {
				if s.Epoch > epoch {
					want = fmt.Sprint(lineage[i-1].Epoch, s.Start)
					break
				}
			}
			floor, end, ok, err := r.EpochEnd(t.Context(), k, epoch)
			got := fmt.Sprint(floor, end)
			if !ok {
				got = "none"
			}
			if err != nil || got != want {
				t.Errorf("epoch %d: got %s, %v, want %s", epoch, got, err, want)
			}
		}
		w.advance(k, 45) // epochs 0, 2 and 3 are gone, but for what the straddling entry says
		if floor, end, ok, err := r.EpochEnd(t.Context(), k, 3); floor != 3 || end != 43 || !ok || err != nil {
			t.Errorf("after the log start moved: %d %d %t %v", floor, end, ok, err)
		}
		s, err := r.StateAt(t.Context(), k, 70)
		if err != nil || s.End != 70 || fmt.Sprint(s.Epochs) != "[{9 50}]" || string(s.Producers) != "producers at 70" {
			t.Errorf("state %+v, %v", s, err)
		}
	})
}

func TestAbortedTransactionsOfARangeComeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		for range 3 {
			w.seal(k, 10, 100, 1000)
		}
		spans := protocol.AbortedTxn{Producer: 7, First: 5, Last: 14, LastStable: 20}
		late := protocol.AbortedTxn{Producer: 8, First: 22, Last: 25, LastStable: 26}
		segments := w.hot.logs[k].segments
		segments[0].aborted = []protocol.AbortedTxn{spans}
		segments[1].aborted = []protocol.AbortedTxn{spans}
		segments[2].aborted = []protocol.AbortedTxn{late}
		w.tier()
		r := w.reader()
		for _, test := range []struct {
			from, to protocol.Offset
			want     string
		}{{0, 5, "[]"}, {0, 20, fmt.Sprint([]protocol.AbortedTxn{spans})}, {15, 22, "[]"}, {14, 23, fmt.Sprint([]protocol.AbortedTxn{spans, late})}, {26, 30, "[]"}} {
			f, err := r.Read(t.Context(), k, test.from, len(w.written(k, test.from, test.to)), true)
			if got := fmt.Sprint(f.Aborted); err != nil || f.Next != test.to || got != test.want {
				t.Errorf("[%d, %d): %s up to %d, %v, want %s", test.from, test.to, got, f.Next, err, test.want)
			}
		}
	})
}

func TestBatchThatCannotBeDecodedCountsAsItsFirstRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 3, 100, 1000)
		w.tier()
		r := tiering.NewReader(tiering.ReaderConfig{Store: w.store, Metadata: w.log, DecodeBytes: 1 << 20})
		defer r.Close()
		b := record.NewBuilder(3)
		for i := range 4 {
			b.Add(record.Record{Timestamp: protocol.Timestamp(2000 + i), Value: []byte("value")})
		}
		batch := b.Bytes()
		batch[22] |= byte(record.Zstd) // what is in it is not zstd
		binary.BigEndian.PutUint32(batch[17:], record.CRC(batch[21:]))
		w.hot.mu.Lock()
		l := w.hot.logs[k]
		l.segments = append(l.segments, hotSegment{
			r:       tiering.SealedRange{Base: 3, End: 7, Bytes: int64(len(batch)), MaxTimestamp: 2003, Sealed: time.Now()},
			batches: batch, epochs: []protocol.EpochStart{{Epoch: 0, Start: 3}},
		})
		l.led.HW, l.led.LEO = 7, 7
		w.hot.mu.Unlock()
		w.tier()
		for from, want := range map[protocol.Offset]protocol.Offset{0: 3, 5: 5} {
			got, ok, err := r.OffsetForTime(t.Context(), k, 2002, from)
			if got.Offset != want || got.Timestamp != 2003 || !ok || err != nil {
				t.Errorf("from %d: got %+v, %t, %v, want offset %d", from, got, ok, err, want)
			}
		}
		w.checkReplay(r, k)
	})
}
