package tiering_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/compact"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/plan"
)

// keyed is a compacted partition: everything that was written to it, and what it amounts to.
type keyed struct {
	*world
	k       protocol.PartitionKey
	written map[protocol.Offset]record.Record
	ends    producerEnds // as they are at the end
	salt    byte
}

// producerEnds is a producer state: the last batch of each producer.
type producerEnds map[protocol.ProducerID]protocol.Offset

func (p producerEnds) Holds(b record.Batch) bool {
	last, ok := p[b.ProducerID()]
	return ok && last == b.LastOffset()
}

func decodeEnds(b []byte) (compact.Producers, error) {
	p := producerEnds{}
	return p, json.Unmarshal(b, &p)
}

const deleteRetention = 10 * time.Minute

func newKeyed(tb testing.TB) *keyed {
	tb.Helper()
	w := &keyed{world: newWorld(tb, 1), written: map[protocol.Offset]record.Record{}, ends: producerEnds{}}
	w.k = w.key(0)
	w.setCompaction(plan.Compaction{MinDirtyRatio: 0.1, MaxLagMs: plan.Unlimited, DeleteRetentionMs: deleteRetention.Milliseconds(), SegmentBytes: 1 << 20})
	return w
}

func (w *keyed) setCompaction(c plan.Compaction) {
	w.setPolicy(w.k, plan.Policy{RetentionMs: -1, RetentionBytes: -1, Compact: true, Compaction: c})
}

func (w *keyed) compactorConfig() tiering.CompactorConfig {
	return tiering.CompactorConfig{
		Store: w.store, Metadata: w.log, Hot: w.hot, Spool: newSpool, Producers: decodeEnds, Rand: w.source(), Interval: 5 * time.Second,
		Salt: func() [16]byte { return [16]byte{w.salt} },
	}
}

// spool is one in memory.
type spool struct{ bytes.Buffer }

func newSpool(int64) (tiering.Spool, error) { return &spool{}, nil }

func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(s.Bytes()).ReadAt(p, off)
}

func (s *spool) Close() error { return nil }

// both runs an archiver and a compactor beside it.
func (w *keyed) both(change func(*tiering.CompactorConfig)) (*tiering.Compactor, func()) {
	a := w.archiver()
	cfg := w.compactorConfig()
	cfg.Archiver = a
	if change != nil {
		change(&cfg)
	}
	c := tiering.NewCompactor(cfg)
	stopArchiver, stopCompactor := w.start(a.Run), w.start(c.Run)
	return c, func() { stopCompactor(); stopArchiver() }
}

// write seals a segment of batches; nil values are tombstones. Each batch is of one of two producers or of none.
func (w *keyed) write(batches ...[]record.Record) {
	w.t.Helper()
	w.hot.mu.Lock()
	defer w.hot.mu.Unlock()
	l := w.hot.logs[w.k]
	next := l.led.HW
	s := hotSegment{r: tiering.SealedRange{Base: next, MaxTimestamp: protocol.NoTimestamp, Sealed: time.Now()}}
	s.epochs = []protocol.EpochStart{{Epoch: l.led.Epoch, Start: next}}
	for i, records := range batches {
		b := record.NewBuilder(next)
		b.LeaderEpoch = l.led.Epoch
		if id := protocol.ProducerID(i % 3); id < 2 {
			b.ProducerID, b.ProducerEpoch, b.BaseSequence = id, 0, int32(next)
			w.ends[id] = next + protocol.Offset(len(records)) - 1
		}
		for j, r := range records {
			r.Offset = next + protocol.Offset(j)
			w.written[r.Offset] = r
			b.Add(r)
		}
		batch := b.Bytes()
		s.r.MaxTimestamp = max(s.r.MaxTimestamp, batch.MaxTimestamp())
		s.batches = append(s.batches, batch...)
		next = batch.NextOffset()
	}
	s.producers, _ = json.Marshal(w.ends)
	s.r.End, s.r.Bytes = next, int64(len(s.batches))
	l.segments = append(l.segments, s)
	l.led.HW, l.led.LEO = next, next
}

func put(key, value string) record.Record {
	return record.Record{Timestamp: protocol.Timestamp(time.Now().UnixMilli()), Key: []byte(key), Value: []byte(value)}
}

func del(key string) record.Record {
	return record.Record{Timestamp: protocol.Timestamp(time.Now().UnixMilli()), Key: []byte(key)}
}

// random seals a segment of random changes of so many keys.
func (w *keyed) random(rnd *rand.Rand, keys int) {
	var batches [][]record.Record
	for range 1 + rnd.IntN(6) {
		var records []record.Record
		for range 1 + rnd.IntN(5) {
			r := put(fmt.Sprint("key", rnd.IntN(keys)), fmt.Sprint("value", rnd.Uint64()))
			if rnd.IntN(4) == 0 {
				r.Value = nil
			}
			records = append(records, r)
		}
		batches = append(batches, records)
	}
	w.write(batches...)
}

// cleanHot is a pass of the hot cleaner over what is not uploaded yet and what is: it drops what is superseded.
func (w *keyed) cleanHot() {
	w.t.Helper()
	w.hot.mu.Lock()
	defer w.hot.mu.Unlock()
	l := w.hot.logs[w.k]
	keys := compact.NewMap(1<<20, 0.9, [16]byte{})
	scan := compact.NewScan(keys, 0, l.led.HW)
	each := func(s hotSegment, do func(record.Batch)) {
		for rest := s.batches; len(rest) > 0; {
			b, after, err := record.Split(rest)
			if err != nil {
				panic(err)
			}
			do(b)
			rest = after
		}
	}
	for _, s := range l.segments {
		each(s, func(b record.Batch) { scan.Batch(b) })
	}
	f := compact.NewFilter(keys, compact.Rules{Now: protocol.Timestamp(time.Now().UnixMilli()), FirstDirty: l.led.HW, Covered: l.led.HW, SupersededOnly: true, Producers: w.ends})
	for i := range l.segments {
		var out []byte
		s := &l.segments[i]
		each(*s, func(b record.Batch) {
			v, err := f.Batch(b, b.NextOffset() == s.r.End)
			if err != nil {
				panic(err)
			}
			out = append(out, v.Batch...)
		})
		s.batches, s.r.Bytes = out, int64(len(out))
	}
}

// tierUp is the tiered end.
func (w *keyed) tierUp() protocol.Offset { return w.row(w.k).Manifest.TieredEnd }

// state is what the records below an offset amount to, in offsets.
func (w *keyed) state(below protocol.Offset) map[string]protocol.Offset {
	out := map[string]protocol.Offset{}
	for _, o := range slices.Sorted(maps.Keys(w.written)) {
		if r := w.written[o]; o < below && r.Value != nil {
			out[string(r.Key)] = o
		} else if o < below {
			delete(out, string(r.Key))
		}
	}
	return out
}

// replay reads the cold tier from an offset to its end as a consumer does: each record must be the one that was
// written at its offset, in order; a read that gives nothing must go on.
func (w *keyed) replay(r *tiering.Reader, from protocol.Offset, size int) []record.Record {
	w.t.Helper()
	records, _ := w.replayTo(r, from, size)
	return records
}

// replayTo tells where the tier ended, too.
func (w *keyed) replayTo(r *tiering.Reader, from protocol.Offset, size int) (records []record.Record, end protocol.Offset) {
	w.t.Helper()
	for last := from - 1; from < w.tierUp(); {
		f, err := r.Read(w.t.Context(), w.k, from, size, true)
		if err != nil {
			w.t.Fatalf("read from %d: %v", from, err)
		}
		if f.Next <= from {
			w.t.Fatalf("read from %d goes on at %d", from, f.Next)
		}
		for rest := f.Batches; len(rest) > 0; {
			b, after, err := record.Split(rest)
			if err == nil {
				err = b.Check()
			}
			if err != nil {
				w.t.Fatal(err)
			}
			for rec, err := range b.Records(1 << 20) {
				if err != nil {
					w.t.Fatal(err)
				}
				want, ok := w.written[rec.Offset]
				if !ok || string(want.Key) != string(rec.Key) || string(want.Value) != string(rec.Value) || (want.Value == nil) != (rec.Value == nil) || want.Timestamp != rec.Timestamp {
					w.t.Fatalf("offset %d holds %q=%q at %d, written was %q=%q at %d", rec.Offset, rec.Key, rec.Value, rec.Timestamp, want.Key, want.Value, want.Timestamp)
				}
				if rec.Offset <= last && rec.Offset >= from {
					w.t.Fatalf("offset %d after %d", rec.Offset, last)
				}
				last = max(last, rec.Offset)
				if rec.Offset >= from {
					records = append(records, rec)
				}
			}
			rest = after
		}
		f.Release()
		from = f.Next
	}
	return records, from
}

// check replays all, and compares what it amounts to with what was written.
func (w *keyed) check(r *tiering.Reader, size int) {
	w.t.Helper()
	got := map[string]protocol.Offset{}
	records, end := w.replayTo(r, w.row(w.k).LogStart, size)
	for _, rec := range records {
		if rec.Value != nil {
			got[string(rec.Key)] = rec.Offset
		} else {
			delete(got, string(rec.Key))
		}
	}
	if want := w.state(end); !maps.Equal(got, want) {
		w.t.Fatalf("replay amounts to %v, want %v", got, want)
	}
}

func TestACompactionLeavesTheLastRecordOfEachKeyAtItsOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeyed(t)
		for i := range 20 {
			w.write([]record.Record{put("a", fmt.Sprint(i)), put(fmt.Sprint("only", i), "x")}, []record.Record{put("a", fmt.Sprint(i, "again"))})
		}
		c, stop := w.both(nil)
		defer stop()
		time.Sleep(time.Minute)
		r := w.reader()
		w.check(r, 300)
		if got := len(w.replay(r, 0, 1<<20)); got != 21 {
			t.Errorf("%d records are left, want 20 single ones and the last of a", got)
		}
		var sum int64
		for e, err := range w.manifest(w.log.Image(), w.k).Scan(w.load, 0) {
			if err != nil || e.Compactions == 0 {
				t.Errorf("%+v, %v", e, err)
			}
			sum++
		}
		if s := c.Stats(); sum != 1 || s.RecordsDropped != 39 || s.Errors != 0 || s.LastError != "" {
			t.Errorf("%d objects, %+v", sum, s)
		}
		// The state that a restored broker starts from is that of the end of the run.
		s, err := r.StateAt(t.Context(), w.k, w.tierUp())
		want, _ := json.Marshal(w.ends)
		if err != nil || string(s.Producers) != string(want) {
			t.Errorf("state %s, %v, want %s", s.Producers, err, want)
		}
		passes := c.Stats().Passes
		w.store.take()
		w.store.reads = true
		time.Sleep(10 * time.Hour)
		if lines := w.store.take(); c.Stats().Passes != passes || len(lines) > 0 {
			t.Errorf("at rest: %d passes, %q", c.Stats().Passes-passes, lines)
		}
	})
}

func TestADeletedKeyNeverComesBackThroughTheColdTier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeyed(t)
		c, stop := w.both(nil)
		defer stop()
		r := w.reader()
		w.write([]record.Record{put("gone", "1"), put("stays", "1")})
		w.write([]record.Record{put("gone", "2")})
		time.Sleep(time.Minute)
		w.write([]record.Record{del("gone")})
		deleted := w.tierUp()
		// From now on, at every moment: who has read the tombstone, or reads all, does not see the key.
		tombstone := func() (there bool) {
			t.Helper()
			live := false
			for _, rec := range w.replay(r, 0, 1<<20) {
				if string(rec.Key) == "gone" {
					live = rec.Value != nil
					there = there || !live
				}
			}
			if live {
				t.Fatal("the deleted key is back")
			}
			for _, rec := range w.replay(r, deleted, 1<<20) {
				if string(rec.Key) == "gone" && rec.Value != nil {
					t.Fatal("the deleted key is back above its tombstone")
				}
			}
			return there
		}
		time.Sleep(time.Minute)
		for at := time.Duration(0); at < deleteRetention-2*time.Minute; at += 30 * time.Second {
			if !tombstone() {
				t.Fatalf("the tombstone went after %v, it must stay for %v", at, deleteRetention)
			}
			w.cleanHot()
			time.Sleep(30 * time.Second)
		}
		time.Sleep(5 * time.Minute)
		if tombstone() {
			t.Error("the tombstone stays for ever")
		}
		w.check(r, 100)
		if got := len(w.replay(r, 0, 1<<20)); got != 1 {
			t.Errorf("%d records are left", got)
		}
		if s := c.Stats(); s.Errors != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAnyCompactionsOfARandomWorkloadReplayAsTheMap(t *testing.T) {
	for seed := range uint64(15) {
		synctest.Test(t, func(t *testing.T) { randomWorkload(t, seed) })
	}
}

// randomWorkload changes keys while the archiver uploads, both cleaners work, and one of them has a map far too small.
func randomWorkload(t *testing.T, seed uint64) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 9))
	w := newKeyed(t)
	w.salt = byte(seed)
	policy := plan.Compaction{
		MinDirtyRatio: rnd.Float64() / 2, MaxLagMs: plan.Unlimited, MinLagMs: int64(rnd.IntN(2)) * 90_000,
		DeleteRetentionMs: int64(rnd.IntN(4)) * 100_000, SegmentBytes: int64(1 + rnd.IntN(4000)),
	}
	w.setCompaction(policy)
	small := rnd.IntN(2) == 0
	c, stop := w.both(func(cfg *tiering.CompactorConfig) {
		if small {
			cfg.MapBytes = 24 * int64(2+rnd.IntN(8))
		}
	})
	r := w.reader()
	for range 40 {
		switch n := rnd.IntN(10); {
		case n < 6:
			w.random(rnd, 3+rnd.IntN(30))
		case n < 8:
			w.cleanHot()
		default:
			if end := w.tierUp(); end > 0 && rnd.IntN(3) == 0 {
				w.write([]record.Record{put("x", "y")})
			}
		}
		time.Sleep(time.Duration(rnd.IntN(60)) * time.Second)
		if size := 1 + rnd.IntN(3000); policy.DeleteRetentionMs > 0 {
			w.check(r, size)
		} else {
			w.replay(r, 0, size) // commits may overtake it: who is slower than delete.retention.ms may miss a tombstone
		}
		if end := w.tierUp(); end > 0 {
			w.replay(r, protocol.Offset(rnd.Int64N(int64(end))), 1+rnd.IntN(500))
		}
	}
	time.Sleep(2 * time.Hour)
	w.check(r, 1000)
	if s := c.Stats(); s.Errors != 0 || s.Passes == 0 {
		t.Errorf("seed %d: %+v", seed, s)
	}
	stop()
	w.checkProducers()
}

// checkProducers sees to it that the last batch of each producer of the tier is there, with or without records.
func (w *keyed) checkProducers() {
	w.t.Helper()
	ends := producerEnds{}
	r := w.reader()
	for from := w.row(w.k).LogStart; from < w.tierUp(); {
		f, err := r.Read(context.Background(), w.k, from, 1<<20, true)
		if err != nil {
			w.t.Fatal(err)
		}
		for rest := f.Batches; len(rest) > 0; {
			b, after, err := record.Split(rest)
			if err != nil {
				w.t.Fatal(err)
			}
			if b.ProducerID() >= 0 {
				ends[b.ProducerID()] = b.LastOffset()
			}
			rest = after
		}
		from = f.Next
	}
	if !maps.Equal(ends, w.ends) {
		w.t.Errorf("the last batches of producers are %v, want %v", ends, w.ends)
	}
}
