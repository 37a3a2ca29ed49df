package tiering_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object/objecttest"
	"github.com/stratabroker/strata/tiering/plan"
)

// put writes an object behind everybody's back.
func (w *world) put(key string) string {
	w.t.Helper()
	if err := w.bucket.Put(context.Background(), key, bytes.NewReader([]byte("x")), 1); err != nil {
		w.t.Fatal(err)
	}
	return key
}

func (w *world) has(key string) bool { return slices.Contains(w.bucket.Keys(), key) }

func (w *world) attempt() metadata.Attempt {
	img := w.log.Image()
	return metadata.Attempt{Generation: img.Bucket().Generation, Index: img.Index()}
}

func TestGarbageGoesInTheTimePromised(t *testing.T) {
	for _, test := range []struct{ grace, interval time.Duration }{
		{time.Minute, time.Minute}, {time.Minute, 5 * time.Second}, {time.Minute, 10 * time.Minute}, {time.Minute, 100 * time.Second}, {time.Hour, 7 * time.Minute},
	} {
		for phase := range 5 { // when in a round it is made
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				k := w.key(0)
				s := tiering.NewSweeper(tiering.SweeperConfig{Store: w.store, Metadata: w.log, Grace: test.grace, Interval: test.interval})
				w.start(s.Run)
				time.Sleep(3*(test.grace+test.interval) + time.Duration(phase)*test.interval/5 + time.Second/3)
				w.seal(k, 10, 100, 1000)
				w.tier()
				orphan := w.put(format.SegmentKey(k, 10, 20, 0, w.attempt(), 5))
				page := w.put(format.ManifestKey(k, 2, w.attempt(), 6))
				time.Sleep(test.grace)
				if !w.has(orphan) || !w.has(page) {
					t.Errorf("%+v: gone within a grace", test)
				}
				time.Sleep(test.grace + 2*test.interval)
				if w.has(orphan) || w.has(page) {
					t.Errorf("%+v phase %d: still there", test, phase)
				}
				w.deleteTopic(w.topic)
				time.Sleep(2*test.grace + 2*test.interval)
				if left := w.orphans(); len(left) > 0 {
					t.Errorf("%+v phase %d: left of the topic: %q", test, phase, left)
				}
			})
		}
	}
}

func TestSweeperLeavesWhatIsReachedForeignOrYoung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		for i := range 30 {
			w.seal(w.key(i%2), 5, 100, 1000)
			if i%3 == 0 {
				w.tier()
			}
		}
		prefix := format.PartitionPrefix(w.key(0))
		kept := []string{
			w.put("data/readme.txt"), w.put(prefix + "note"), w.put(prefix + "manifest/note.page"), w.put("tail/1/1-1/0/5-6.tail"),
			w.put("rescued/a"), w.put("elsewhere/b"), w.put("root/note"),
			w.put(format.SegmentKey(w.key(1), 900, 901, 0, metadata.Attempt{Generation: 9, Index: 1}, 1)), // of a later generation
		}
		s := w.sweeper()
		w.start(s.Run)
		for range 20 {
			time.Sleep(testInterval)
			w.log.tickIndex()
		}
		for _, key := range kept {
			if !w.has(key) {
				t.Errorf("%s is gone", key)
			}
		}
		w.checkBucket()
		if left := w.orphans(); len(left) != len(kept) {
			t.Errorf("left %q", left)
		}
		if st := s.Stats(); st.Deleted == 0 || st.DeletedBytes == 0 || st.Rounds < 15 || st.RoundErrors != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

// TestLateAttemptIsRefusedAndDoneAgain holds an upload back for longer than sweep rounds need to condemn it.
func TestLateAttemptIsRefusedAndDoneAgain(t *testing.T) {
	for _, held := range []string{`\.seg$`, `manifest/`} {
		t.Run(held, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				k := w.key(0)
				w.seal(k, 10, 100, 1000)
				gate := objecttest.NewHold()
				w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Key: held, Times: 1, Hold: gate})
				a := tiering.NewArchiver(tiering.ArchiverConfig{Store: w.store, Metadata: w.log, Hot: w.hot, Deadline: time.Hour, Rand: w.source()})
				w.start(a.Run)
				w.start(w.sweeper().Run)
				time.Sleep(10 * (testGrace + testInterval))
				if w.row(k).Manifest.TieredEnd != 0 {
					t.Fatal("it was not held")
				}
				gate.Release()
				time.Sleep(time.Second)
				if s := a.Stats(); s.Refused != 1 {
					t.Errorf("stats %+v", s)
				}
				time.Sleep(time.Minute)
				if end := w.row(k).Manifest.TieredEnd; end != 10 {
					t.Errorf("tiered end %d", end)
				}
				w.checkBucket()
				time.Sleep(2*testGrace + 2*testInterval)
				w.checkBucket()
				w.checkReplay(w.reader(), k)
				if left := w.orphans(); len(left) > 0 {
					t.Errorf("orphans %q", left)
				}
			})
		})
	}
}

// TestPutThatLandsAfterItsDeadline is one that the archiver has given up, and that takes effect long after.
func TestPutThatLandsAfterItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 10, 100, 1000)
		gate := objecttest.NewHold()
		w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Times: 2, Hold: gate})
		w.start(w.archiver().Run)
		w.start(w.sweeper().Run)
		time.Sleep(10*testGrace + time.Second) // between two rounds
		w.checkBucket()
		if end := w.row(k).Manifest.TieredEnd; end != 10 {
			t.Errorf("tiered end %d", end)
		}
		gate.Release()
		if err := gate.Finished(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if len(w.orphans()) != 2 {
			t.Errorf("orphans %q", w.orphans())
		}
		time.Sleep(2*testGrace + 2*testInterval)
		w.checkBucket()
		if left := w.orphans(); len(left) > 0 {
			t.Errorf("orphans %q", left)
		}
	})
}

func TestNothingIsDeletedUnderAnotherOwner(t *testing.T) {
	for name, owner := range map[string]format.Owner{
		"generation": {Generation: 2, ClusterID: "test-cluster"},
		"cluster":    {Generation: 1, ClusterID: "another"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				orphan := w.put(format.SegmentKey(w.key(0), 10, 20, 0, w.attempt(), 5))
				s := w.sweeper()
				var err error
				for range 4 {
					if err = s.Round(t.Context()); err != nil {
						break
					}
					w.bucket.Change(format.OwnerKey, func([]byte) []byte { return owner.Encode() })
					time.Sleep(testGrace)
				}
				if !errors.Is(err, tiering.ErrNotOwner) || !w.has(orphan) {
					t.Errorf("%v, still there: %t", err, w.has(orphan))
				}
			})
		})
	}
}

func TestSweepIsListedOnceAndOwnerReadBeforeEachDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.put(format.SegmentKey(k, 10, 20, 0, w.attempt(), 5))
		s := w.sweeper()
		w.store.reads = true
		var got []string
		for range 3 {
			if err := s.Round(t.Context()); err != nil {
				t.Fatal(err)
			}
			got = append(got, "--")
			got = append(got, w.store.take()...)
			time.Sleep(testGrace)
		}
		wantLines(t, got,
			"--",
			"--", "set sweep floor", "list data/",
			"--", "set sweep floor", "list data/", "get OWNER", "delete segment [10, 20)")
	})
}

// TestRootKeepsWhatItReaches retains a root, changes the world, and lets rounds go by.
func TestRootKeepsWhatItReaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 10, 100, 1000)
		w.tier()
		roots := w.rootWriter()
		stop := w.start(roots.Run)
		time.Sleep(5 * time.Second)
		stop() // from now on no newer root lets this one go
		if n := len(w.log.Image().Bucket().Roots); n != 1 {
			t.Fatalf("%d roots", n)
		}
		first := w.segment(k, 0)
		w.deleteTopic(w.topic)
		w.start(w.sweeper().Run)
		time.Sleep(10 * (testGrace + testInterval))
		if !w.has(first) {
			t.Error("the newest root reaches it, and it is gone")
		}
		w.orphans() // fails where a retained root reaches what is not there
		roots = w.rootWriter()
		w.start(roots.Run)
		time.Sleep(2*testGrace + 2*testInterval + time.Minute)
		if w.has(first) {
			t.Error("no root reaches it, and it is there")
		}
		if left := w.orphans(); len(left) > 0 {
			t.Errorf("orphans %q", left)
		}
		if n := len(w.log.Image().Bucket().Roots); n != 1 {
			t.Errorf("%d roots", n)
		}
	})
}

func TestUnreadableRootStopsTheRoundBeforeAnyDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		orphan := w.put(format.SegmentKey(w.key(0), 10, 20, 0, w.attempt(), 5))
		roots := w.rootWriter()
		stop := w.start(roots.Run)
		time.Sleep(5 * time.Second)
		stop()
		w.bucket.Change(w.log.Image().Bucket().Roots[0].Place.Key, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		s := w.sweeper()
		w.start(s.Run)
		time.Sleep(10 * testGrace)
		if !w.has(orphan) || s.Stats().RoundErrors == 0 {
			t.Errorf("stats %+v", s.Stats())
		}
	})
}

func TestDamagedManifestDoesNotStopOtherPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		var orphans []string
		for p := range 2 {
			w.seal(w.key(p), 10, 100, 1000)
			orphans = append(orphans, w.put(format.SegmentKey(w.key(p), 10, 20, 0, w.attempt(), 5)))
		}
		w.tier()
		w.remove(w.row(w.key(0)).Manifest.Root.Key)
		s := w.sweeper()
		w.start(s.Run)
		time.Sleep(5 * testGrace)
		if !w.has(orphans[0]) || w.has(orphans[1]) || s.Stats().RoundErrors == 0 {
			t.Errorf("kept %t, %t, stats %+v", w.has(orphans[0]), w.has(orphans[1]), s.Stats())
		}
	})
}

func TestSweeperSurvivesOutagesAndUnknownOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.seal(w.key(0), 10, 100, 1000)
		w.tier()
		orphan := w.put(format.SegmentKey(w.key(0), 10, 20, 0, w.attempt(), 5))
		n := 0
		w.log.judge = func(*metadata.Command) verdict { n++; return verdict(n % 3) }
		w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpList}, Times: 3, Err: objecttest.ErrInjected})
		w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpDelete}, Times: 1, LoseAck: true})
		w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpList}, Skip: 6, Times: 2, Short: true})
		s := w.sweeper()
		w.start(s.Run)
		time.Sleep(20 * testGrace)
		if w.has(orphan) || s.Stats().DeleteErrors != 1 {
			t.Errorf("stats %+v", s.Stats())
		}
		w.checkBucket()
	})
}

func TestInactiveSweeperDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		var active atomic.Bool
		s := tiering.NewSweeper(tiering.SweeperConfig{Store: w.store, Metadata: w.log, Grace: testGrace, Interval: testInterval, Active: active.Load})
		orphan := w.put(format.SegmentKey(w.key(0), 10, 20, 0, w.attempt(), 5))
		w.start(s.Run)
		time.Sleep(10 * testGrace)
		if lines := w.store.take(); len(lines) > 0 || s.Stats().Rounds > 0 {
			t.Errorf("%q, %+v", lines, s.Stats())
		}
		active.Store(true)
		time.Sleep(2*testGrace + 2*testInterval)
		if w.has(orphan) {
			t.Error("not swept")
		}
	})
}

func TestLargeTopicIsSweptInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 10, 100, 1000)
		w.tier()
		a := w.attempt()
		for i := range 9000 {
			base := protocol.Offset(i * 10)
			w.put(format.SegmentKey(k, base, base+10, 0, a, uint64(i)))
		}
		s := w.sweeper()
		w.start(s.Run)
		time.Sleep(2*testGrace + 2*testInterval)
		if st := s.Stats(); st.Deleted != 9000 || st.DeleteRequests < 9 || st.DeleteRequests > 15 {
			t.Errorf("stats %+v", st)
		}
		w.checkBucket()
	})
}

// TestCrashAtEachStepOfARound ends a sweeper at each of its steps; the next one begins anew.
func TestCrashAtEachStepOfARound(t *testing.T) {
	steps := 0
	for step := 0; ; step++ {
		reached := false
		for _, effect := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) { reached = crashSweep(t, step, effect) || reached })
		}
		if !reached {
			break
		}
		steps++
	}
	t.Logf("%d steps", steps)
	if steps < 10 {
		t.Errorf("only %d steps", steps)
	}
}

func crashSweep(t *testing.T, step int, effect bool) bool {
	t.Helper()
	w := newWorld(t, 2)
	k := w.key(0)
	w.seal(k, 10, 100, 1000)
	w.seal(w.key(1), 10, 100, 1000)
	w.tier()
	w.setPolicy(w.key(1), plan.Policy{RetentionMs: 0, RetentionBytes: -1})
	w.start(w.archiver().Run)
	w.start(w.rootWriter().Run)
	w.put(format.SegmentKey(k, 10, 20, 0, w.attempt(), 5))
	w.put(format.RootKey(1, 1, 77))
	ctx, crash := context.WithCancel(t.Context())
	c := &crasher{Store: w.store, log: w.log, step: step, effect: effect, crash: crash}
	s := tiering.NewSweeper(tiering.SweeperConfig{Store: c, Metadata: c, Grace: testGrace, Interval: testInterval, ListPerSecond: -1})
	finished := make(chan struct{})
	go func() { s.Run(ctx); close(finished) }()
	time.Sleep(5 * testGrace)
	crash()
	<-finished
	w.checkBucket()
	w.start(w.sweeper().Run)
	time.Sleep(2*testGrace + 2*testInterval)
	w.checkBucket()
	w.checkReplay(w.reader(), k)
	if left := w.orphans(); len(left) > 0 {
		t.Errorf("step %d: orphans %q", step, left)
	}
	return c.reached
}

func TestRoundsOverABucketAtRestReadNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		for p := range 3 {
			for range 10 {
				w.seal(w.key(p), 5, 100, 1000)
			}
		}
		w.tier()
		s := w.sweeper()
		w.start(s.Run)
		time.Sleep(5*testGrace + time.Second)
		before := w.faulty.Count(objecttest.OpGet)
		time.Sleep(10 * testGrace)
		if n := w.faulty.Count(objecttest.OpGet) - before; n != 0 {
			t.Errorf("%d GETs", n)
		}
		orphan := w.put(format.SegmentKey(w.key(1), 50, 60, 0, w.attempt(), 5))
		w.seal(w.key(2), 5, 100, 1000)
		w.tier() // replaces a manifest object
		time.Sleep(2*testGrace + 2*testInterval)
		if w.has(orphan) || len(w.orphans()) > 0 {
			t.Errorf("orphans %q", w.orphans())
		}
		w.checkBucket()
	})
}

// TestLongListingDoesNotHoldBackMarks has a listing that takes longer than an interval.
func TestLongListingDoesNotHoldBackMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		a := w.attempt()
		for i := range 3000 {
			base := protocol.Offset(i * 10)
			w.put(format.SegmentKey(w.key(0), base, base+10, 0, a, uint64(i)))
		}
		s := tiering.NewSweeper(tiering.SweeperConfig{Store: w.store, Metadata: w.log, Grace: testGrace, Interval: testInterval, ListPerSecond: 10})
		w.start(s.Run)
		time.Sleep(testGrace + 10*time.Second) // the first listing has begun; it takes five minutes
		first := w.log.Image().Bucket().Floor
		time.Sleep(2 * testGrace)
		if floor := w.log.Image().Bucket().Floor; s.Stats().Rounds != 1 || floor.Compare(first) <= 0 {
			t.Errorf("floor %s after %s, %+v", floor, first, s.Stats())
		}
		time.Sleep(15 * time.Minute)
		if s.Stats().Deleted != 3000 {
			t.Errorf("%+v", s.Stats())
		}
	})
}
