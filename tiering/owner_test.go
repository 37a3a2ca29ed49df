package tiering_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/objecttest"
)

// TestNothingIsCommittedUnderAnotherOwner replaces the bucket under a running
// archiver: what it puts there would be committed and then be lost with the hot copy.
func TestNothingIsCommittedUnderAnotherOwner(t *testing.T) {
	for name, replace := range map[string]func(w *world){
		"missing": func(w *world) { w.remove(format.OwnerKey) },
		"generation": func(w *world) {
			w.bucket.Change(format.OwnerKey, func([]byte) []byte { return format.Owner{Generation: 2, ClusterID: "test-cluster"}.Encode() })
		},
		"cluster": func(w *world) {
			w.bucket.Change(format.OwnerKey, func([]byte) []byte { return format.Owner{Generation: 1, ClusterID: "another"}.Encode() })
		},
		"damaged": func(w *world) { w.bucket.Change(format.OwnerKey, func([]byte) []byte { return []byte("?") }) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				var log bytes.Buffer
				a := tiering.NewArchiver(tiering.ArchiverConfig{
					Store: w.store, Metadata: w.log, Hot: w.hot, Rand: w.source(), Logger: slog.New(slog.NewTextHandler(&log, nil)),
				})
				stop := w.start(a.Run)
				w.seal(w.key(0), 10, 100, 1000)
				a.Notify(w.key(0))
				time.Sleep(5 * time.Second)
				if end := w.row(w.key(0)).Manifest.TieredEnd; end != 10 {
					t.Fatalf("tiered up to %d", end)
				}
				good, _, err := w.bucket.GetAll(t.Context(), format.OwnerKey, 1000)
				if err != nil {
					t.Fatal(err)
				}
				replace(w)
				w.store.take()
				for p := range 2 {
					w.seal(w.key(p), 10, 100, 1000)
					a.Notify(w.key(p))
				}
				time.Sleep(5 * time.Minute)
				wantLines(t, w.store.take()) // neither uploads nor proposals
				if err := w.bucket.Put(t.Context(), format.OwnerKey, bytes.NewReader(good), int64(len(good))); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				stop()
				if n := strings.Count(log.String(), "uploads stand still"); n != 1 || !strings.Contains(log.String(), format.OwnerKey) {
					t.Errorf("said %d times in\n%s", n, log.String())
				}
				if w.row(w.key(0)).Manifest.TieredEnd != 20 || w.row(w.key(1)).Manifest.TieredEnd != 10 {
					t.Error("uploads did not go on once OWNER was ours again")
				}
				w.checkBucket()
			})
		})
	}
}

// ownerReads counts GETs of OWNER.
type ownerReads struct {
	object.Store
	n atomic.Int64
}

func (s *ownerReads) GetAll(ctx context.Context, key string, limit int64) ([]byte, string, error) {
	if key == format.OwnerKey {
		s.n.Add(1)
	}
	return s.Store.GetAll(ctx, key, limit)
}

// TestOwnerThatChangesDuringAnUploadStopsItsCommit has the segment on its way for longer than an answer about OWNER counts.
func TestOwnerThatChangesDuringAnUploadStopsItsCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.seal(w.key(0), 10, 100, 1000)
		a := w.archiver()
		w.slow("\\.seg$", 10*time.Second)
		w.start(a.Run)
		time.Sleep(5 * time.Second)
		w.remove(format.OwnerKey)
		time.Sleep(time.Minute)
		wantLines(t, w.store.take(), "put segment [0, 10)", "put manifest 1") // and then no proposal, and no second try
		if s := a.Stats(); s.Commits != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestNoRootIsWrittenUnderAnotherOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		r := w.rootWriter()
		w.start(r.Run)
		time.Sleep(5 * time.Second)
		w.bucket.Change(format.OwnerKey, func([]byte) []byte { return format.Owner{Generation: 1, ClusterID: "another"}.Encode() })
		w.change()
		w.store.take()
		time.Sleep(time.Minute)
		wantLines(t, w.store.take())
		w.bucket.Change(format.OwnerKey, func([]byte) []byte { return format.Owner{Generation: 1, ClusterID: "test-cluster"}.Encode() })
		time.Sleep(time.Minute)
		wantLines(t, w.store.take(), "put root 2", "retain root 2")
	})
}

func TestOwnerIsReadEveryTwoSecondsAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		counted := &ownerReads{Store: w.store}
		a := tiering.NewArchiver(tiering.ArchiverConfig{Store: counted, Metadata: w.log, Hot: w.hot, Rand: w.source()})
		w.start(a.Run)
		for range 200 { // 20 s
			for p := range 8 {
				w.seal(w.key(p), 1, 100, 1000)
				a.Notify(w.key(p))
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := counted.n.Load(); n < 5 || n > 11 || a.Stats().Commits < 500 {
			t.Errorf("%d GETs of OWNER for %d commits in 20 s", n, a.Stats().Commits)
		}
		before := counted.n.Load()
		time.Sleep(time.Hour)
		if n := counted.n.Load() - before; n != 0 {
			t.Errorf("an archiver with nothing to do read OWNER %d times", n)
		}
	})
}

// slow has PUTs of keys that match take their time.
func (w *world) slow(key string, delay time.Duration) {
	w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Key: key, Delay: delay})
}
