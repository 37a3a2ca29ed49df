package log_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
)

const pointsFile = dataDir + "/recovery-point-offset-checkpoint"

func TestAStartAfterAKillScansLittle(t *testing.T) {
	for _, mode := range []option{boot("boot-1"), replicated} {
		fsys := vfs.NewMem()
		w := start(t, fsys, mode)
		p := w.open(small)
		for p.Segments() < 50 {
			p.add(1, strings.Repeat("v", 400))
		}
		p.flush()
		w.dir.AwaitPoints()
		left := fsys.Kill()
		check(t, w.dir.Close(false))
		q := start(t, left, mode).open(small)
		if n := q.recovery.ScannedBytes; n > small.SegmentBytes {
			t.Errorf("%d bytes scanned", n)
		}
		if len(q.readAll()) != int(p.LEO()) {
			t.Errorf("log end %d, want %d", q.LEO(), p.LEO())
		}
	}
}

func TestPointsAreWrittenAfterManyBytesWithoutASeal(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	w.dir.SetPoints(time.Hour, 20, 10_000)
	p := w.open(log.Config{})
	for i := range 100 {
		p.add(1, strings.Repeat("v", 900))
		p.flush()
		if i%25 == 0 {
			w.dir.AwaitPoints()
		}
	}
	w.dir.AwaitPoints()
	points := must(log.ParseOffsets(must(vfs.ReadFile(fsys, pointsFile))(t)))(t)
	if at := points["t-0"]; at < 85 || at > 100 {
		t.Errorf("recovery point %d is checkpointed", at)
	}
	check(t, w.dir.Close(true))
}

func TestPointsAreWrittenAboutOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		var writes atomic.Int64
		fsys.Fail(func(o vfs.Op) error {
			if o.Kind == vfs.OpRename && o.To == pointsFile {
				writes.Add(1)
			}
			return nil
		})
		w := start(t, fsys)
		w.dir.SetPoints(time.Second, 20, 1<<30)
		p := w.open(small)
		for range 1000 {
			p.add(1, "v")
			check(t, p.Roll())
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := writes.Load(); n < 10 || n > 12 {
			t.Errorf("%d writes in ten seconds", n)
		}
		points := must(log.ParseOffsets(must(vfs.ReadFile(fsys, pointsFile))(t)))(t)
		if points["t-0"] != 1000 {
			t.Errorf("recovery point %d is checkpointed", points["t-0"])
		}
		check(t, w.dir.Close(true))
	})
}

func TestAppendsGoOnWhilePointsAreWritten(t *testing.T) {
	fsys := vfs.NewMem()
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	fsys.Fail(func(o vfs.Op) error {
		if o.Path == pointsFile+".tmp" && once.CompareAndSwap(false, true) {
			close(begun)
			<-goOn
		}
		return nil
	})
	w := start(t, fsys)
	p := w.open(small)
	p.add(1, "a")
	check(t, p.Roll())
	<-begun
	for range 100 {
		p.add(1, strings.Repeat("v", 400))
		p.flush()
	}
	close(goOn)
	w.dir.AwaitPoints()
	check(t, w.dir.Close(true))
}

func TestALogThatBeginsAnewIsNotTakenForSynced(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p, other := w.open(small), w.open2(t, 1)
	p.add(1, "a")
	p.flush()
	other.add(1, "a")
	// Another log's seal has the points written just before the new segment is
	// made, and then the power fails.
	var left *vfs.Mem
	fsys.Fail(func(o vfs.Op) error {
		if o.Kind == vfs.OpCreate && strings.HasSuffix(o.Path, "/00000000000000000070.log") {
			check(t, other.Roll())
			other.flush()
			w.dir.AwaitPoints()
			left = fsys.Crash(vfs.DropAll)
		}
		return nil
	})
	check(t, p.TruncateFully(log.Init{Start: 70}))
	check(t, w.dir.Close(true))
	q := must(start(t, left, boot("boot-2")).tryOpen("t", key, small, log.Init{Start: 70}))(t)
	if q.LEO() != 70 {
		t.Errorf("log end %d", q.LEO())
	}
}
