package tiering_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object/objecttest"
)

// newestRoot decodes the newest retained root.
func (w *world) newestRoot() (metadata.Root, *metadata.Image) {
	w.t.Helper()
	roots := w.log.Image().Bucket().Roots
	if len(roots) == 0 {
		w.t.Fatal("no root is retained")
	}
	row := roots[len(roots)-1]
	body, err := w.load(row.Place)
	if err != nil {
		w.t.Fatal(err)
	}
	root, err := format.DecodeRoot(body)
	if err != nil {
		w.t.Fatal(err)
	}
	img, err := metadata.UnmarshalImage(root.Image)
	if err != nil {
		w.t.Fatal(err)
	}
	if root.Seq != row.Seq || root.Cut != row.Cut || root.ClusterID != "test-cluster" || root.Cut.Index != img.Index() {
		w.t.Errorf("row %+v, root of %s seq %d cut %s, image at %d", row, root.ClusterID, root.Seq, root.Cut, img.Index())
	}
	return row, img
}

func TestRootFollowsAChangeWithinTwoSecondsAndThenNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		r := w.rootWriter()
		w.start(r.Run)
		time.Sleep(10 * time.Second)
		wantLines(t, w.store.take(), "put root 1", "retain root 1")
		for range 5 { // a burst makes one
			w.createTopic("t"+time.Now().Format("150405.000"), 3)
			time.Sleep(time.Millisecond)
		}
		w.store.take()
		if s := r.Stats(); s.LagMs == 0 {
			t.Errorf("stats %+v", s)
		}
		time.Sleep(2 * time.Second)
		wantLines(t, w.store.take(), "put root 2", "retain root 2")
		if _, img := w.newestRoot(); img.TopicCount() != 6 {
			t.Errorf("%d topics", img.TopicCount())
		}
		w.start(w.sweeper().Run) // what it does to the image is not worth a root
		time.Sleep(5 * time.Minute)
		w.store.take()
		time.Sleep(2 * time.Hour)
		for _, line := range w.store.take() {
			if line != "set sweep floor" {
				t.Errorf("an idle cluster does %q", line)
			}
		}
		if s := r.Stats(); s.Written != 2 || s.LagMs != 0 || s.Bytes == 0 || s.Errors != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestProducerIDBlocksAreWorthARoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.start(w.rootWriter().Run)
		time.Sleep(5 * time.Second)
		broker, _ := w.log.Image().Broker(1)
		w.propose(&metadata.Command{Kind: &metadatapb.Command_AllocateProducerIds{AllocateProducerIds: &metadatapb.AllocateProducerIDs{
			Broker: 1, BrokerEpoch: int64(broker.Epoch), ExpectedNext: int64(w.log.Image().NextProducerID()), Count: 1000,
		}}})
		time.Sleep(5 * time.Second)
		if _, img := w.newestRoot(); img.NextProducerID() != w.log.Image().NextProducerID() {
			t.Errorf("next producer id %d", img.NextProducerID())
		}
	})
}

func TestRootsUnderSteadyChangeAreOneASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		r := w.rootWriter()
		w.start(r.Run)
		a := w.archiver()
		w.start(a.Run)
		w.start(w.sweeper().Run)
		for range 600 {
			w.seal(w.key(0), 2, 50, 1000)
			a.Notify(w.key(0))
			time.Sleep(500 * time.Millisecond)
		}
		if s := r.Stats(); s.Written > 301 || s.Written < 200 {
			t.Errorf("stats %+v", s)
		}
		if n := len(w.log.Image().Bucket().Roots); n > 100 {
			t.Errorf("%d roots are retained", n)
		}
		time.Sleep(2*testGrace + 2*testInterval)
		if left := w.orphans(); len(left) > 0 {
			t.Errorf("orphans %q", left)
		}
		if row, img := w.newestRoot(); img.Index() == 0 || len(w.log.Image().Bucket().Roots) != 1 {
			t.Errorf("newest %+v of %d", row, len(w.log.Image().Bucket().Roots))
		}
	})
}

func TestRootThatFailsIsTriedAgain(t *testing.T) {
	for name, fault := range map[string]func(w *world){
		"put fails":        func(w *world) { w.faulty.Add(objecttest.Rule{Key: "^root/", Times: 3, Err: objecttest.ErrInjected}) },
		"answer lost":      func(w *world) { w.faulty.Add(objecttest.Rule{Key: "^root/", Times: 3, LoseAck: true}) },
		"proposal lost":    func(w *world) { w.log.judge = once(isRetain, lostProposal) },
		"its answer lost":  func(w *world) { w.log.judge = once(isRetain, lostAnswer) },
		"proposal is late": func(w *world) { w.log.judge = once(isRetain, heldProposal) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				fault(w)
				w.start(w.rootWriter().Run)
				time.Sleep(time.Minute)
				w.log.applyLate() // refused by now
				if _, img := w.newestRoot(); img.TopicCount() != 1 {
					t.Errorf("%d topics", img.TopicCount())
				}
				w.start(w.sweeper().Run)
				time.Sleep(2*testGrace + 2*testInterval)
				if left := w.orphans(); len(left) > 0 {
					t.Errorf("orphans %q", left)
				}
			})
		})
	}
}

func isRetain(c *metadata.Command) bool {
	_, ok := c.GetKind().(*metadatapb.Command_RetainRoot)
	return ok
}

// TestLateRootIsRefused holds a root's PUT back for longer than the sweeper needs to condemn what it reaches.
func TestLateRootIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.seal(w.key(0), 10, 100, 1000)
		w.tier()
		gate := objecttest.NewHold()
		w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Key: "^root/", Times: 1, Hold: gate})
		r := tiering.NewRootWriter(tiering.RootWriterConfig{Store: w.store, Metadata: w.log, Deadline: time.Hour, Rand: w.source()})
		w.log.subscribe(r.Changed)
		r.Changed(metadata.Delta{Topics: nil, Brokers: nil, Partitions: nil, Bucket: true}, w.log.Image())
		w.start(r.Run)
		if err := gate.Held(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		w.deleteTopic(w.topic)
		w.start(w.sweeper().Run)
		time.Sleep(3*testGrace + 3*testInterval)
		gate.Release()
		time.Sleep(time.Minute)
		if s := r.Stats(); s.Errors != 1 || s.Written != 1 {
			t.Errorf("stats %+v", s)
		}
		if _, img := w.newestRoot(); img.TopicCount() != 0 {
			t.Error("the newest root is the one that slept")
		}
		w.orphans() // fails where a retained root reaches what is not there
	})
}

func TestInactiveRootWriterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		var active atomic.Bool
		r := tiering.NewRootWriter(tiering.RootWriterConfig{Store: w.store, Metadata: w.log, Active: active.Load})
		r.Changed(metadata.Delta{Bucket: true}, w.log.Image())
		w.start(func(ctx context.Context) { r.Run(ctx) })
		time.Sleep(time.Minute)
		wantLines(t, w.store.take())
		active.Store(true)
		time.Sleep(2 * time.Second)
		wantLines(t, w.store.take(), "put root 1", "retain root 1")
	})
}
