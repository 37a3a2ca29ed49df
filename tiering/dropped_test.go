package tiering_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering"
)

func TestTheHotCopyMayLoseWhatAManifestCoversWithoutIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeyed(t)
		_, stop := w.both(nil)
		defer stop()
		r := w.reader()
		d := tiering.NewDropped(r)
		w.write([]record.Record{put("gone", "1"), put("stays", "1")})
		w.write([]record.Record{del("gone")})
		if d.At(w.k, 2) {
			t.Error("before it is in the bucket")
		}
		for at := time.Duration(0); at < deleteRetention; at += time.Minute {
			time.Sleep(time.Minute)
			there := false
			for _, rec := range w.replay(r, 0, 1<<20) {
				there = there || rec.Offset == 2
			}
			if d.At(w.k, 2) == there {
				t.Errorf("after %v: dropped and there are both %t", at, there)
			}
		}
		time.Sleep(5 * time.Minute)
		if !d.At(w.k, 2) || !d.At(w.k, 0) || d.At(w.k, 1) {
			t.Errorf("at the end: %t %t %t", d.At(w.k, 0), d.At(w.k, 1), d.At(w.k, 2))
		}
	})
}

func TestWhatCannotBeReadIsNotDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeyed(t)
		_, stop := w.both(nil)
		w.write([]record.Record{put("a", "1")})
		w.write([]record.Record{put("a", "2")})
		time.Sleep(10 * time.Minute)
		stop()
		end := w.outage()
		d := tiering.NewDropped(w.reader())
		if d.At(w.k, 0) {
			t.Error("in an outage")
		}
		end()
		if d.At(w.k, 0) {
			t.Error("it asks again at once")
		}
		time.Sleep(time.Minute)
		if !d.At(w.k, 0) || d.At(w.k, 1) || d.At(w.k, 2) || d.At(protocol.PartitionKey{}, 0) {
			t.Errorf("after the outage: %t %t %t", d.At(w.k, 0), d.At(w.k, 1), d.At(w.k, 2))
		}
	})
}

func TestDroppedAgreesWithAReplayOfAnyWorkload(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w, rnd := newKeyed(t), rand.New(rand.NewPCG(seed, 9))
			_, stop := w.both(nil)
			r := w.reader()
			d := tiering.NewDropped(r)
			for range 12 {
				w.random(rnd, 15)
				time.Sleep(time.Duration(rnd.IntN(400)) * time.Second)
				if rnd.IntN(3) == 0 {
					d.At(w.k, protocol.Offset(rnd.IntN(20))) // a window of an older version
				}
			}
			stop()
			there := map[protocol.Offset]bool{}
			for _, rec := range w.replay(r, 0, 1<<20) {
				there[rec.Offset] = true
			}
			for o := range w.tierUp() {
				if d.At(w.k, o) == there[o] {
					t.Errorf("seed %d, offset %d: dropped and there are both %t", seed, o, there[o])
				}
			}
		})
	}
}
