package tiering_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/protocol"
)

func TestUploadsKeepToTheirQuotaAndARaiseActsOnWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		for range 5 {
			w.seal(w.key(0), 10, 1000, 1000)
			w.seal(w.key(1), 10, 1000, 1000)
		}
		one := w.hot.logs[w.key(0)].segments[0].r.Bytes
		a := w.archiver()
		a.SetQuota(one / 10) // a segment every ten seconds
		w.start(a.Run)
		time.Sleep(35 * time.Second)
		if n := a.Stats().CopyRequests; n != 4 {
			t.Errorf("%d segments in 35 s, want 4", n)
		}
		a.SetQuota(one * 1000)
		time.Sleep(5 * time.Second)
		if n := a.Stats().CopyRequests; n != 10 {
			t.Errorf("%d segments after the raise, want all 10", n)
		}
		w.checkBucket()
	})
}

func TestColdReadsKeepToTheirQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		for i := range 10 {
			w.seal(k, 10, 1000, protocol.Timestamp(1000*i))
		}
		w.start(w.archiver().Run)
		time.Sleep(time.Second)
		r := w.reader()
		r.SetQuota(10_000) // of some 110 kB
		began := time.Now()
		w.checkReplay(r, k)
		if took := time.Since(began); took < 9*time.Second || took > 30*time.Second {
			t.Errorf("took %v", took)
		}
		began = time.Now()
		w.checkReplay(r, k)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("out of the cache: took %v", took)
		}
	})
}
