package tiering_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object/objecttest"
	"github.com/stratabroker/strata/tiering/plan"
)

// segments writes so many small ones of overlapping keys, with tombstones.
func (w *keyed) segments(n int) {
	w.t.Helper()
	for i := range n {
		w.write([]record.Record{put("a", fmt.Sprint(i)), put(fmt.Sprint("k", i%3), "x")}, []record.Record{del(fmt.Sprint("k", (i+1)%4)), put(fmt.Sprint("only", i), "y")})
	}
}

// directReader reads the bucket without the faults.
func (w *keyed) directReader() *tiering.Reader {
	r := tiering.NewReader(tiering.ReaderConfig{Store: w.bucket, Metadata: w.log, Rand: w.source()})
	w.t.Cleanup(r.Close)
	return r
}

func (w *keyed) compacted() bool {
	_, dirty, err := w.manifest(w.log.Image(), w.k).FindUncompacted(w.load)
	if err != nil {
		w.t.Fatal(err)
	}
	return !dirty && w.row(w.k).Manifest.Version > 0
}

// TestCrashAtEachStepOfACompaction ends the process at each PUT and proposal, before and after its effect, while
// uploads go on beside the compaction. Another one takes over what is left.
func TestCrashAtEachStepOfACompaction(t *testing.T) {
	steps := 0
	for step := 0; ; step++ {
		reached := false
		for _, effect := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) { reached = crashCompaction(t, step, effect) || reached })
		}
		if !reached {
			break
		}
		steps++
	}
	t.Logf("%d steps", steps)
	if steps < 12 {
		t.Errorf("only %d steps", steps)
	}
}

func crashCompaction(t *testing.T, step int, effect bool) bool {
	t.Helper()
	w := newKeyed(t)
	policy := plan.Compaction{MinDirtyRatio: 0.1, MaxLagMs: -1, DeleteRetentionMs: 60_000, SegmentBytes: 900}
	w.setCompaction(policy)
	w.segments(6)
	w.tier()
	sweeper := w.sweeper()
	ctx, crash := context.WithCancel(t.Context())
	c := &crasher{Store: w.store, log: w.log, step: step, effect: effect, crash: crash}
	a := tiering.NewArchiver(tiering.ArchiverConfig{Store: c, Metadata: c, Hot: w.hot, Fanout: 4, Rand: w.source()})
	cfg := w.compactorConfig()
	cfg.Store, cfg.Metadata, cfg.Archiver = c, c, a
	compactor := tiering.NewCompactor(cfg)
	finished := make(chan struct{}, 2)
	for _, run := range []func(context.Context){a.Run, compactor.Run} {
		go func() { run(ctx); finished <- struct{}{} }()
	}
	w.segments(2)
	a.Notify(w.k)
	time.Sleep(3 * time.Minute) // long enough for tombstones to go
	crash()
	<-finished
	<-finished
	r := w.directReader()
	w.check(r, 500)
	_, stop := w.both(nil)
	w.start(sweeper.Run)
	time.Sleep(2*testGrace + 2*testInterval)
	w.check(r, 500)
	if !w.compacted() || w.tierUp() != 32 {
		t.Errorf("step %d: tiered up to %d, compacted: %t", step, w.tierUp(), w.compacted())
	}
	stop()
	time.Sleep(2*testGrace + 2*testInterval)
	w.check(r, 500)
	w.checkProducers()
	if got := w.orphans(); len(got) > 0 {
		t.Errorf("step %d: orphans %q", step, got)
	}
	return c.reached
}

func TestACompactionThatSleptThroughASweepIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeyed(t)
		w.segments(6)
		w.tier()
		held := false
		w.log.mu.Lock()
		w.log.judge = func(c *metadata.Command) verdict {
			if c.GetCommitManifest() == nil || held {
				return applied
			}
			held = true
			return heldProposal
		}
		w.log.mu.Unlock()
		_, stop := w.both(func(cfg *tiering.CompactorConfig) { cfg.RetryBackoff = time.Hour })
		time.Sleep(30 * time.Second)
		stop() // the zombie: its object is there, its commit is on its way
		before := w.row(w.k).Manifest
		if !held || before.Version == 0 {
			t.Fatal("nothing was held")
		}
		w.log.mu.Lock()
		w.log.judge = nil
		w.log.mu.Unlock()
		w.start(w.sweeper().Run)
		time.Sleep(2*testGrace + 2*testInterval)
		if got := w.orphans(); len(got) > 0 {
			t.Errorf("orphans %q", got)
		}
		w.log.applyLate()
		if now := w.row(w.k).Manifest; now != before {
			t.Errorf("the manifest is %+v, was %+v", now, before)
		}
		w.check(w.reader(), 500)
		w.both(nil)
		time.Sleep(time.Minute)
		if !w.compacted() {
			t.Error("nothing is compacted after all")
		}
		w.check(w.reader(), 500)
	})
}

func TestADamagedObjectStopsItsPartitionAndNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeyed(t)
		w.segments(6)
		w.tier()
		var bad format.Entry
		for e, err := range w.manifest(w.log.Image(), w.k).Scan(w.load, 9) {
			if err != nil {
				t.Fatal(err)
			}
			bad = e
			break
		}
		body, _, err := w.bucket.GetAll(t.Context(), bad.ObjectKey, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		body[bad.DataBytes/2] ^= 1
		w.overwrite(bad.ObjectKey, body)
		before := w.row(w.k).Manifest
		c, stop := w.both(nil)
		time.Sleep(time.Hour)
		if s := c.Stats(); s.Stopped != 1 || s.Errors != 1 || s.LastError == "" || s.Objects != 0 || w.row(w.k).Manifest != before {
			t.Errorf("%+v, manifest %+v, was %+v", s, w.row(w.k).Manifest, before)
		}
		// Uploads go on, and what is damaged is left as it is.
		w.segments(1)
		time.Sleep(time.Hour)
		if s := c.Stats(); w.tierUp() != 28 || s.Stopped != 1 || s.Objects != 0 {
			t.Errorf("tiered up to %d, %+v", w.tierUp(), s)
		}
		stop()
		body[bad.DataBytes/2] ^= 1
		w.overwrite(bad.ObjectKey, body)
		w.both(nil)
		time.Sleep(time.Minute)
		if !w.compacted() {
			t.Error("the mended partition is not compacted")
		}
		w.check(w.reader(), 500)
	})
}

func (w *world) overwrite(key string, body []byte) {
	w.t.Helper()
	if err := w.bucket.Delete(context.Background(), []string{key}); err != nil {
		w.t.Fatal(err)
	}
	if err := w.bucket.Put(context.Background(), key, bytes.NewReader(body), int64(len(body))); err != nil {
		w.t.Fatal(err)
	}
}

func TestARecompactedObjectOfTheSameSizeOutlivesTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeyed(t)
		// The timestamp is what the delete horizon will be, so that it takes as many bytes to count from there.
		r := del("a")
		r.Timestamp += protocol.Timestamp((time.Second + deleteRetention).Milliseconds())
		w.write([]record.Record{r})
		w.tier() // takes a second
		first := w.only()
		w.both(nil)
		w.start(w.sweeper().Run)
		time.Sleep(time.Minute)
		second := w.only() // the tombstone has its delete horizon now
		if second.DataBytes != first.DataBytes || second.Base != first.Base || second.End != first.End || second.ObjectKey == first.ObjectKey || second.DeleteHorizon == 0 {
			t.Fatalf("first %+v, then %+v", first, second)
		}
		time.Sleep(2*testGrace + 2*testInterval)
		if keys := w.bucket.Keys(); slices.Contains(keys, first.ObjectKey) || !slices.Contains(keys, second.ObjectKey) {
			t.Errorf("after the sweep: %q", keys)
		}
		w.check(w.reader(), 500)
	})
}

// only is the one entry of the manifest.
func (w *keyed) only() (only format.Entry) {
	w.t.Helper()
	n := 0
	for e, err := range w.manifest(w.log.Image(), w.k).Scan(w.load, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		only = e
		n++
	}
	if n != 1 {
		w.t.Fatalf("%d entries", n)
	}
	return only
}

func TestACompactionDoesNotBreakAReaderOfTheOldManifest(t *testing.T) {
	for _, swept := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newKeyed(t)
			w.segments(6)
			w.tier()
			r := w.reader()
			hold := objecttest.NewHold()
			w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGet}, Key: `\.seg$`, Skip: 1, Times: 1, Hold: hold}) // it has the first index
			type answer struct {
				f   tiering.Fetched
				err error
			}
			got := make(chan answer, 1)
			go func() {
				f, err := r.Read(context.Background(), w.k, 0, 1<<20, true)
				got <- answer{f, err}
			}()
			synctest.Wait()
			w.both(nil)
			time.Sleep(time.Minute)
			if !w.compacted() {
				t.Fatal("nothing is compacted while the reader waits")
			}
			if swept {
				w.start(w.sweeper().Run)
				time.Sleep(2*testGrace + 2*testInterval)
			}
			hold.Release()
			a := <-got
			if a.err != nil || len(a.f.Batches) == 0 || a.f.Next != w.tierUp() {
				t.Errorf("swept %t: %d bytes up to %d, %v", swept, len(a.f.Batches), a.f.Next, a.err)
			}
			w.check(r, 300)
		})
	}
}

func TestACompactedAndDeletedTopicExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeyed(t)
		w.setPolicy(w.k, plan.Policy{RetentionMs: time.Hour.Milliseconds(), RetentionBytes: -1, Compact: true, Compaction: plan.Compaction{MinDirtyRatio: 0.1, MaxLagMs: -1, DeleteRetentionMs: 1}})
		w.segments(4)
		w.both(nil)
		time.Sleep(50 * time.Minute)
		w.check(w.reader(), 500)
		if !w.compacted() || w.row(w.k).LogStart != 0 {
			t.Errorf("compacted %t, log start %d", w.compacted(), w.row(w.k).LogStart)
		}
		time.Sleep(15 * time.Minute)
		if row := w.row(w.k); row.LogStart != 16 || row.Manifest.Segments != 0 {
			t.Errorf("%+v", row)
		}
	})
}

func TestAnyCompactionsUnderFaultsReplayAsTheMap(t *testing.T) {
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) { faultyWorkload(t, seed) })
	}
}

// faultyWorkload has a store that fails, proposals that are lost or late, restarts, other leaders and zombies, and a sweeper behind them all.
func faultyWorkload(t *testing.T, seed uint64) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 11))
	w := newKeyed(t)
	s := &sim{world: w.world, rnd: rnd, births: 1, topics: []protocol.TopicID{w.topic}}
	policy := plan.Compaction{MinDirtyRatio: 0.2, MaxLagMs: -1, DeleteRetentionMs: 50_000, SegmentBytes: int64(500 + rnd.IntN(4000))}
	w.setCompaction(policy)
	small := func(cfg *tiering.CompactorConfig) { cfg.MapBytes = 24 * int64(8+rnd.IntN(100)) }
	_, stop := w.both(small)
	w.start(w.sweeper().Run)
	w.start(w.rootWriter().Run)
	r := w.directReader()
	var zombies []func()
	for range 60 {
		switch n := rnd.IntN(20); {
		case n < 9:
			w.random(rnd, 20)
		case n < 12:
			s.fault()
		case n < 13:
			w.faulty.Reset()
		case n < 14:
			s.openGate()
		case n < 15:
			w.cleanHot()
		case n < 16:
			s.judgeProposals()
		case n < 17:
			w.log.applyLate()
		case n < 18:
			stop()
			_, stop = w.both(small)
		case n < 19:
			zombies = append(zombies, stop)
			s.archiver = func() {}
			s.failover()
			s.archiver()
			w.hot = s.hot
			_, stop = w.both(small)
		}
		time.Sleep(time.Duration(rnd.IntN(30)) * time.Second)
		w.check(r, 1+rnd.IntN(2000))
	}
	w.faulty.Reset()
	for _, g := range s.gates {
		g.Release()
	}
	w.log.mu.Lock()
	w.log.judge = nil
	w.log.mu.Unlock()
	for _, z := range zombies {
		z()
	}
	time.Sleep(10 * time.Minute) // the longest backoff
	w.log.applyLate()
	policy.MinDirtyRatio = 0
	w.setCompaction(policy)
	w.random(rnd, 20)
	time.Sleep(2*testGrace + 2*testInterval + 10*time.Minute)
	w.check(r, 1000)
	if !w.compacted() {
		t.Errorf("seed %d: not all is compacted", seed)
	}
	stop()
	time.Sleep(2*testGrace + 2*testInterval + 5*time.Second)
	w.check(r, 1000)
	w.checkProducers()
	for _, key := range w.orphans() {
		t.Errorf("seed %d: orphan %s", seed, key)
	}
}
