package log

import (
	"sync"
	"sync/atomic"
	"time"
)

// reserveInterval is how long an answer of the file system is believed.
const reserveInterval = 100 * time.Millisecond

// reserve watches that the disk is not filled up (DESIGN D7).
type reserve struct {
	dir   *Dir
	asked atomic.Int64 // wall clock in ns
	low   atomic.Bool
	mu    sync.Mutex // held by the one that asks
}

func (r *reserve) below() bool {
	if r.dir.cfg.DiskReserve <= 0 {
		return false
	}
	now := r.dir.cfg.Now().UnixNano()
	if d := now - r.asked.Load(); d >= 0 && d < int64(reserveInterval) || !r.mu.TryLock() {
		return r.low.Load()
	}
	defer r.mu.Unlock()
	free, err := r.dir.Free()
	if err != nil {
		r.dir.cfg.Logger.Warn("free disk space is not known", "dir", r.dir.cfg.Path, "err", err)
		return r.low.Load()
	}
	low := free < r.dir.cfg.DiskReserve
	if r.low.Swap(low) != low {
		if low {
			r.dir.cfg.Logger.Error("disk reserve is reached, produce is refused", "dir", r.dir.cfg.Path, "free", free, "reserve", r.dir.cfg.DiskReserve)
		} else {
			r.dir.cfg.Logger.Info("disk reserve is free again, produce is served", "dir", r.dir.cfg.Path, "free", free)
		}
	}
	r.asked.Store(now)
	return low
}
