package tiering_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/objecttest"
	"github.com/stratabroker/strata/tiering/plan"
)

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestUploadGoesSegmentManifestProposal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 10, 100, 1000)
		w.seal(k, 5, 100, 2000)
		a := w.archiver()
		w.start(a.Run)
		time.Sleep(time.Second)
		wantLines(t, w.store.take(), "put segment [0, 10)", "put segment [10, 15)", "put manifest 1", "commit manifest 1 over 0, [0, 15)")
		w.seal(k, 1, 100, 3000)
		if lag := a.Lag(k); lag.Segments != 1 || lag.Bytes == 0 {
			t.Errorf("lag %+v", lag)
		}
		w.store.reads = true
		a.Notify(k)
		time.Sleep(time.Millisecond)
		wantLines(t, w.store.take(), "put segment [15, 16)", "put manifest 2", "commit manifest 2 over 1, [15, 16)")
		w.checkBucket()
		if lag := a.Lag(k); lag != (tiering.Lag{}) {
			t.Errorf("lag %+v", lag)
		}
		time.Sleep(time.Hour)
		wantLines(t, w.store.take()) // nothing to do costs no request
		if s := a.Stats(); s.CopyRequests != 3 || s.Commits != 2 || s.Puts != 5 || s.PutErrors != 0 || s.Refused != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestBatchOfSegmentsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for range 3 {
			w.seal(w.key(0), 10, 1000, 1000)
		}
		a := tiering.NewArchiver(tiering.ArchiverConfig{Store: w.store, Metadata: w.log, Hot: w.hot, TurnBytes: 25000})
		w.start(a.Run)
		time.Sleep(time.Second)
		wantLines(t, w.store.take(),
			"put segment [0, 10)", "put segment [10, 20)", "put manifest 1", "commit manifest 1 over 0, [0, 20)",
			"put segment [20, 30)", "put manifest 2", "commit manifest 2 over 1, [20, 30)")
	})
}

func TestManyManifestPagesGrowAndStayReadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		a := w.archiver()
		w.start(a.Run)
		for i := range 40 {
			for p := range 3 {
				w.seal(w.key(p), 3, 50, protocol.Timestamp(1000+i))
				a.Notify(w.key(p))
			}
			time.Sleep(time.Second)
		}
		w.checkBucket()
		r := w.reader()
		for p := range 3 {
			if end := w.row(w.key(p)).Manifest.TieredEnd; end != 120 {
				t.Errorf("tiered end %d", end)
			}
			w.checkReplay(r, w.key(p))
		}
		if n := w.faulty.Count(objecttest.OpGet); n == 0 {
			t.Error("nothing was read")
		}
	})
}

// isCommit matches proposals of a manifest.
func isCommit(c *metadata.Command) bool {
	_, ok := c.GetKind().(*metadatapb.Command_CommitManifest)
	return ok
}

// once gives a verdict to the first command that matches.
func once(match func(*metadata.Command) bool, v verdict) func(*metadata.Command) verdict {
	used := false
	return func(c *metadata.Command) verdict {
		if used || !match(c) {
			return applied
		}
		used = true
		return v
	}
}

func TestUnknownOutcomeIsAskedOfTheImage(t *testing.T) {
	for name, test := range map[string]struct {
		verdict verdict
		want    []string
	}{
		"applied": {lostAnswer, []string{"put segment [0, 10)", "put manifest 1", "commit manifest 1 over 0, [0, 10)"}},
		"not applied": {lostProposal, []string{
			"put segment [0, 10)", "put manifest 1", "put segment [0, 10)", "put manifest 1", "commit manifest 1 over 0, [0, 10)",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.seal(w.key(0), 10, 100, 1000)
				w.log.judge = once(isCommit, test.verdict)
				w.start(w.archiver().Run)
				time.Sleep(10 * time.Second)
				wantLines(t, w.store.take(), test.want...)
				w.checkBucket()
			})
		})
	}
}

func TestProposalAppliedLateWinsOrIsRefused(t *testing.T) {
	for _, after := range []time.Duration{100 * time.Millisecond, 10 * time.Second} { // before and after the next try commits
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1)
			w.seal(w.key(0), 10, 100, 1000)
			w.log.judge = once(isCommit, heldProposal)
			a := w.archiver()
			w.start(a.Run)
			time.Sleep(after)
			w.log.applyLate()
			w.seal(w.key(0), 10, 100, 2000)
			a.Notify(w.key(0))
			time.Sleep(time.Minute)
			w.checkBucket()
			if end := w.row(w.key(0)).Manifest.TieredEnd; end != 20 {
				t.Errorf("tiered end %d", end)
			}
		})
	}
}

func TestFailedPutsAreDoneAgainUnderFreshNames(t *testing.T) {
	for name, test := range map[string]struct {
		rule objecttest.Rule
		want int // orphans
	}{
		"second segment fails":        {objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Key: `\.seg$`, Skip: 1, Times: 1, Err: objecttest.ErrInjected}, 1}, // the version without the second
		"second segment's answer":     {objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Key: `\.seg$`, Skip: 1, Times: 1, LoseAck: true}, 2},
		"manifest fails":              {objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Key: `manifest/`, Times: 1, Err: objecttest.ErrInjected}, 0},
		"manifest's answer is lost":   {objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Key: `manifest/`, Times: 1, LoseAck: true}, 1},
		"manifest fails for the turn": {objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Key: `manifest/`, Times: 3, LoseAck: true}, 6},
		"store hangs":                 {objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Times: 1, Delay: time.Hour}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				for range 3 {
					w.seal(w.key(0), 10, 100, 1000)
				}
				w.faulty.Add(test.rule)
				w.start(w.archiver().Run)
				time.Sleep(5 * time.Minute)
				w.checkBucket()
				if end := w.row(w.key(0)).Manifest.TieredEnd; end != 30 {
					t.Errorf("tiered end %d", end)
				}
				if got := w.orphans(); len(got) != test.want {
					t.Errorf("orphans %q, want %d", got, test.want)
				}
			})
		})
	}
}

func TestStormHalvesConcurrencyAndPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 20)
		storm := w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Err: object.ErrThrottled})
		for p := range 20 {
			w.seal(w.key(p), 10, 100, 1000)
		}
		a := tiering.NewArchiver(tiering.ArchiverConfig{Store: w.store, Metadata: w.log, Hot: w.hot, Parallel: 8, Rand: w.source()})
		w.start(a.Run)
		time.Sleep(time.Minute)
		if s := a.Stats(); s.Parallel != 1 || s.Throttled == 0 || s.Throttled > 200 {
			t.Errorf("in the storm: %+v", s)
		}
		storm()
		time.Sleep(2 * time.Minute)
		if s := a.Stats(); s.Parallel != 8 || s.Commits != 20 {
			t.Errorf("after the storm: %+v", s)
		}
		w.checkBucket()
	})
}

func TestParallelTurnsAreBoundedAndOneAPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		for p := range 10 {
			w.seal(w.key(p), 10, 100, 1000)
		}
		gate := objecttest.NewHold()
		w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Hold: gate})
		a := w.archiver()
		w.start(a.Run)
		for range 5 {
			for p := range 10 {
				a.Notify(w.key(p))
			}
			synctest.Wait()
		}
		if n := w.faulty.Count(objecttest.OpPut); n != 4 {
			t.Errorf("%d uploads at once, want 4", n)
		}
		gate.Release()
		time.Sleep(time.Second)
		if s := a.Stats(); s.Commits != 10 || s.CopyRequests != 10 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestZombieArchiverIsRefused has two archivers on one partition: the old
// leader's uploads are held back while the new one leads.
func TestZombieArchiverIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 10, 100, 1000)
		gate := objecttest.NewHold()
		w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Times: 1, Hold: gate})
		zombie := w.archiver()
		w.start(zombie.Run)
		if err := gate.Held(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		w.register(2, true) // the leader epoch is raised
		next := &fakeHot{logs: map[protocol.PartitionKey]*hotLog{}}
		log := *w.hot.logs[k]
		log.led.Epoch = w.row(k).LeaderEpoch
		next.logs[k] = &log
		if log.led.Epoch == w.hot.logs[k].led.Epoch {
			t.Fatal("the leader epoch stayed")
		}
		b := tiering.NewArchiver(tiering.ArchiverConfig{Store: w.store, Metadata: w.log, Hot: next, Rand: w.source()})
		w.start(b.Run)
		time.Sleep(time.Second)
		gate.Release()
		time.Sleep(time.Minute)
		if s := zombie.Stats(); s.Commits != 0 || s.Refused == 0 {
			t.Errorf("zombie: %+v", s)
		}
		if s := b.Stats(); s.Commits != 1 {
			t.Errorf("leader: %+v", s)
		}
		w.checkBucket()
	})
}

func TestLeaderThatLostThePartitionStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.seal(w.key(0), 10, 100, 1000)
		w.hot.logs[w.key(0)].leading = false
		other := w.createTopic("other", 1)
		gone := protocol.PartitionKey{Topic: other}
		w.seal(gone, 10, 100, 1000)
		hold := objecttest.NewHold()
		w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Hold: hold})
		a := w.archiver()
		w.start(a.Run)
		synctest.Wait()
		w.deleteTopic(other) // in the middle of its upload
		hold.Release()
		time.Sleep(time.Minute)
		wantLines(t, slices.DeleteFunc(w.store.take(), func(s string) bool { return strings.HasPrefix(s, "*") }),
			"put segment [0, 10)", "put manifest 1", "commit manifest 1 over 0, [0, 10): refused")
		if s := a.Stats(); s.Refused != 1 || s.CopyRequests != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestUploadContinuesInsideASegmentAndABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 10, 100, 1000)
		w.seal(k, 10, 100, 2000)
		// Log start moved into the first segment before anything was uploaded (DeleteRecords).
		w.propose(&metadata.Command{Kind: &metadatapb.Command_AdvanceLogStarts{AdvanceLogStarts: &metadatapb.AdvanceLogStarts{
			Rows: []*metadatapb.LogStart{{TopicId: k.Topic[:], Offset: 4}},
		}}})
		w.start(w.archiver().Run)
		time.Sleep(time.Second)
		wantLines(t, w.store.take()[1:], "put segment [4, 10)", "put segment [10, 20)", "put manifest 1", "commit manifest 1 over 0, [4, 20)")
		w.checkBucket()
		w.checkReplay(w.reader(), k)
	})
}

func TestRetentionMovesLogStartThenDropsEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		now := protocol.Timestamp(time.Now().UnixMilli())
		for i := range 6 {
			w.seal(k, 10, 100, now+protocol.Timestamp(i)*1000)
		}
		w.setPolicy(k, plan.Policy{RetentionMs: 3600_000, RetentionBytes: -1})
		a := w.archiver()
		w.start(a.Run)
		time.Sleep(time.Minute)
		w.store.take()
		time.Sleep(time.Hour)
		lines := w.store.take()
		wantLines(t, lines, "advance log starts 0:60", "put manifest 2", "commit manifest 2 over 1, [60, 60)")
		row := w.row(k)
		if row.LogStart != 60 || row.Manifest.TieredEnd != 60 || row.Manifest.Segments != 0 || row.Manifest.Bytes != 0 {
			t.Errorf("row %+v", row)
		}
		w.checkBucket()
		w.seal(k, 10, 100, now)
		w.setPolicy(k, plan.Policy{RetentionMs: -1, RetentionBytes: -1})
		a.Notify(k)
		time.Sleep(time.Second)
		if row := w.row(k); row.Manifest.TieredEnd != 70 || row.Manifest.Segments != 1 {
			t.Errorf("row %+v", row)
		}
		w.checkBucket()
	})
}

func TestRetentionBySizeCountsBothTiersAndCompactedTopicsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		for i := range 5 {
			for p := range 2 {
				w.seal(w.key(p), 10, 1000, protocol.Timestamp(i))
			}
		}
		a := w.archiver()
		w.start(a.Run)
		time.Sleep(time.Second)
		w.hot.mu.Lock()
		one := w.hot.logs[w.key(0)].segments[0].r.Bytes
		w.hot.logs[w.key(0)].active = one / 2 // an active segment
		w.hot.mu.Unlock()
		w.setPolicy(w.key(0), plan.Policy{RetentionMs: -1, RetentionBytes: 3 * one})
		w.setPolicy(w.key(1), plan.Policy{RetentionMs: plan.Unlimited, RetentionBytes: plan.Unlimited, Compact: true})
		time.Sleep(2 * time.Minute)
		if row := w.row(w.key(0)); row.LogStart != 20 || row.Manifest.Segments != 3 {
			t.Errorf("by size: %+v", row)
		}
		if row := w.row(w.key(1)); row.LogStart != 0 || row.Manifest.Segments != 5 {
			t.Errorf("compacted: %+v", row)
		}
		w.checkBucket()
	})
}

func TestTimestampsFromTheFutureExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 10, 100, 1<<50)
		stop := w.start(w.archiver().Run)
		time.Sleep(time.Second)
		stop()
		w.setPolicy(k, plan.Policy{RetentionMs: 3600_000, RetentionBytes: -1})
		w.start(w.archiver().Run) // it has to find out when the segment was written
		time.Sleep(50 * time.Minute)
		if row := w.row(k); row.LogStart != 0 {
			t.Errorf("expired early: %+v", row)
		}
		time.Sleep(20 * time.Minute)
		if row := w.row(k); row.LogStart != 10 {
			t.Errorf("never expired: %+v", row)
		}
	})
}

func TestExpiredHotSegmentsAreNotUploaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.setPolicy(k, plan.Policy{RetentionMs: 3600_000, RetentionBytes: -1})
		now := protocol.Timestamp(time.Now().UnixMilli())
		w.seal(k, 10, 100, 1000)
		w.seal(k, 10, 100, 2000)
		w.seal(k, 10, 100, now)
		w.start(w.archiver().Run)
		time.Sleep(time.Minute)
		wantLines(t, w.store.take(), "advance log starts 0:20", "put segment [20, 30)", "put manifest 1", "commit manifest 1 over 0, [20, 30)")
	})
}

func TestCopyDisabledStillExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 10, 100, 1000)
		a := w.archiver()
		w.start(a.Run)
		time.Sleep(time.Second)
		w.setPolicy(k, plan.Policy{RetentionMs: 0, RetentionBytes: -1, CopyDisabled: true})
		w.seal(k, 10, 100, protocol.Timestamp(time.Now().Add(time.Hour).UnixMilli()))
		time.Sleep(time.Hour / 2)
		if row := w.row(k); row.LogStart == 0 || row.Manifest.Segments != 0 {
			t.Errorf("row %+v", row)
		}
		if a.Stats().CopyRequests != 1 {
			t.Errorf("stats %+v", a.Stats())
		}
	})
}

// busyHot has a writer that seals one more segment whenever it is looked at.
type busyHot struct {
	*fakeHot
	w    *world
	left int
}

func (h *busyHot) Sealed(k protocol.PartitionKey, from protocol.Offset) ([]tiering.SealedRange, error) {
	if h.left--; h.left >= 0 {
		h.w.seal(k, 2, 100, 1000)
	}
	return h.fakeHot.Sealed(k, from)
}

func TestHighWatermarkThatMovesDuringATurnIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		var log bytes.Buffer
		a := tiering.NewArchiver(tiering.ArchiverConfig{
			Store: w.store, Metadata: w.log, Hot: &busyHot{fakeHot: w.hot, w: w, left: 5}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		w.start(a.Run)
		time.Sleep(5 * time.Minute)
		if end := w.row(w.key(0)).Manifest.TieredEnd; end != 10 || log.Len() > 0 {
			t.Errorf("tiered end %d, log %s", end, log.String())
		}
		w.checkBucket()
	})
}
