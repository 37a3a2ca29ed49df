package tiering_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/format"
)

// change makes a change that is worth a root and leaves the image as large as it is.
func (w *world) change() {
	w.t.Helper()
	broker, _ := w.log.Image().Broker(1)
	w.propose(&metadata.Command{Kind: &metadatapb.Command_AllocateProducerIds{AllocateProducerIds: &metadatapb.AllocateProducerIDs{
		Broker: 1, BrokerEpoch: int64(broker.Epoch), ExpectedNext: int64(w.log.Image().NextProducerID()), Count: 1000,
	}}})
}

func TestRootsUnderSteadyChangeKeepToTheirBytesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 50)
		size := int64(len(metadata.MarshalImage(w.log.Image())))
		r := tiering.NewRootWriter(tiering.RootWriterConfig{Store: w.store, Metadata: w.log, Rand: w.source(), BytesPerSec: size / 20})
		w.log.subscribe(r.Changed)
		w.start(r.Run)
		for range 3000 { // 10 min
			w.change()
			time.Sleep(200 * time.Millisecond)
		}
		if s := r.Stats(); s.Written < 20 || s.Bytes > 600*size/20+2*size {
			t.Errorf("%d roots of %d bytes, %d bytes in 10 min", s.Written, size, s.Bytes)
		}
		time.Sleep(time.Minute)
		before := r.Stats().Written
		w.change() // after a rest it does not wait, however large the image is
		time.Sleep(2 * time.Second)
		if s := r.Stats(); s.Written != before+1 || s.LagMs != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestRootsWithinTheGraceAreThinnedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const grace, interval = time.Hour, 10 * time.Minute
		w := newWorld(t, 1)
		w.start(w.rootWriter().Run)
		s := tiering.NewSweeper(tiering.SweeperConfig{Store: w.store, Metadata: w.log, Grace: grace, Interval: interval, ListPerSecond: -1})
		w.start(s.Run)
		w.seal(w.key(0), 10, 100, 1000)
		w.tier()
		var early metadata.Root // a root that will be let go before it is a grace old
		var reached []string    // what it reaches
		var cut time.Time
		for i := range 2 * 3600 {
			w.change()
			time.Sleep(time.Second)
			if i == 100 {
				early, _ = w.newestRoot()
				cut = time.Now()
				for key := range w.reachable() {
					if n, err := format.ParseKey(key); err == nil && n.Kind != format.RootObject {
						reached = append(reached, key)
					}
				}
				w.deleteTopic(w.topic)
			}
			if i > 100 && time.Since(cut) < grace-time.Minute && !w.has(early.Place.Key) {
				t.Fatalf("root %d is gone after %v", early.Seq, time.Since(cut))
			}
			for _, key := range reached {
				if time.Since(cut) < grace && !w.has(key) {
					t.Fatalf("%s is gone %v after the cut of a root that reaches it", key, time.Since(cut))
				}
			}
			// The newest ten, the first of 60 minutes, and what came since the last of four marks in 10 min.
			if roots := w.log.Image().Bucket().Roots; len(roots) > 10+62+152 {
				t.Fatalf("%d roots are retained after %d s", len(roots), i)
			}
		}
		if len(reached) < 2 {
			t.Errorf("it reached %q", reached)
		}
		roots := w.log.Image().Bucket().Roots
		for i := range len(roots) - 1 {
			if gap := time.Duration(roots[i+1].AtMs-roots[i].AtMs) * time.Millisecond; gap > time.Minute+2*time.Second {
				t.Errorf("%v between roots %d and %d", gap, roots[i].Seq, roots[i+1].Seq)
			}
		}
		if age := time.Duration(nowMs()-roots[0].AtMs) * time.Millisecond; age < grace-2*time.Minute {
			t.Errorf("the oldest is %v old", age)
		}
	})
}

func nowMs() protocol.Timestamp { return protocol.Timestamp(time.Now().UnixMilli()) }

// TestRootsFromTheFutureAreLetGo is a wall clock that jumped back ten hours.
func TestRootsFromTheFutureAreLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		img := w.log.Image()
		at := nowMs() + protocol.Timestamp((10 * time.Hour).Milliseconds())
		key := format.RootKey(1, 1, 42)
		body, place := format.EncodeRoot(format.Root{
			Generation: 1, Seq: 1, Cut: w.attempt(), AtMs: at, ClusterID: img.ClusterID(), Image: metadata.MarshalImage(img),
		}, key)
		if err := w.bucket.Put(t.Context(), key, bytes.NewReader(body), int64(len(body))); err != nil {
			t.Fatal(err)
		}
		w.propose(&metadata.Command{Kind: &metadatapb.Command_RetainRoot{RetainRoot: &metadatapb.RetainRoot{
			Seq: 1, AtMs: int64(at), Cut: &metadatapb.Attempt{Generation: 1, Index: w.attempt().Index},
			Place: &metadatapb.PagePlace{Key: place.Key, Offset: place.Offset, Length: place.Length, Crc: place.CRC},
		}}})
		w.start(w.rootWriter().Run)
		w.start(w.sweeper().Run)
		time.Sleep(2*testGrace + testInterval)
		if roots := w.log.Image().Bucket().Roots; len(roots) != 1 || roots[0].Seq != 2 {
			t.Errorf("retained are %+v", roots)
		}
		time.Sleep(2*testGrace + 2*testInterval)
		if w.has(key) {
			t.Error("its object is still there")
		}
	})
}
