package log_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

// full lets every write of an epoch checkpoint fail while it is set, and counts them.
type full struct {
	set   atomic.Bool
	tries atomic.Int64
}

func (f *full) hook(o vfs.Op) error {
	if f.set.Load() && o.Kind == vfs.OpCreate && strings.Contains(o.Path, "leader-epoch-checkpoint") {
		f.tries.Add(1)
		return vfs.ErrNoSpace
	}
	return nil
}

func TestAFailedCommitIsTriedAgainUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys, disk := vfs.NewMem(), &full{}
		fsys.Fail(disk.hook)
		w := start(t, fsys)
		p := w.open(small)
		disk.set.Store(true)
		p.add(1, "waits")
		synctest.Wait()
		if p.Durable() != 0 || disk.tries.Load() != 1 {
			t.Fatalf("durable offset %d after %d tries", p.Durable(), disk.tries.Load())
		}
		// 0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 11.3, ..., 56.3 s after the first
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := disk.tries.Load(); n != 17 {
			t.Errorf("%d tries in a minute", n)
		}
		disk.set.Store(false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if p.reported.Load() != 1 {
			t.Errorf("durable offset %d five seconds after there is space", p.reported.Load())
		}
		// The next failure starts at the short wait again.
		disk.set.Store(true)
		must(p.Append(plain(1, "of a new epoch"), 2, log.AppendOptions{Client: true}))(t)
		check(t, p.Roll())
		synctest.Wait()
		disk.set.Store(false)
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		if p.Durable() != 2 || disk.tries.Load() < 18 {
			t.Errorf("durable offset %d", p.Durable())
		}
		check(t, w.dir.Close(true))
	})
}

func TestACommitThatFailsAtTheStopIsNotTriedAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys, disk := vfs.NewMem(), &full{}
		fsys.Fail(disk.hook)
		w := start(t, fsys)
		p := w.open(small)
		disk.set.Store(true)
		p.add(1, "waits")
		synctest.Wait()
		check(t, w.dir.Close(false))
		before := disk.tries.Load()
		time.Sleep(time.Minute)
		if n := disk.tries.Load(); n != before {
			t.Errorf("%d tries after the stop", n-before)
		}
	})
}

func TestADuplicateOfWhatIsNotDurableAsksForACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys, disk := vfs.NewMem(), &full{}
		fsys.Fail(disk.hook)
		w := start(t, fsys)
		p := w.open(small)
		disk.set.Store(true)
		first := idempotent(7, 0, 0, "once")
		must(p.Append(first, 1, log.AppendOptions{Client: true}))(t)
		synctest.Wait()
		disk.set.Store(false)
		info := must(p.Append(idempotent(7, 0, 0, "once"), 1, log.AppendOptions{Client: true}))(t)
		synctest.Wait()
		if !info.Duplicate || p.Durable() != info.Next {
			t.Errorf("%+v, durable offset %d", info, p.Durable())
		}
		check(t, w.dir.Close(true))
	})
}

func TestAFlushIntervalBelowZeroSyncsEveryAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			interval time.Duration
			want     protocol.Offset
		}{{-1, 2}, {0, 0}, {time.Hour, 0}} {
			w := start(t, vfs.NewMem(), replicated)
			cfg := small
			cfg.FlushInterval = c.interval
			p := w.open(cfg)
			p.add(1, "a")
			synctest.Wait()
			p.add(1, "b")
			synctest.Wait()
			if got := p.RecoveryPoint(); got != c.want {
				t.Errorf("flush interval %s: recovery point %d, want %d", c.interval, got, c.want)
			}
			check(t, w.dir.Close(true))
		}
	})
}
