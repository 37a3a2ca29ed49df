package log

import (
	"maps"
	"sync"
	"time"
)

// What a start after a crash scans lies above the recovery points that were
// written last, so they are written while there is load, and not only by Checkpoint.
const (
	// pointBytes is how much is committed in the directory before the points are
	// written whatever else holds them back: what a start has to scan for it takes
	// about a second.
	pointBytes = 256 << 20
	// pointPause is the least time between two writes otherwise.
	pointPause = time.Second
	// pointShare bounds what the writing costs where there are many partitions or
	// the disk is slow: it rests that many times as long as it took.
	pointShare = 20
)

// pointWriter writes the recovery points of a directory's logs after a synced
// seal and after pointBytes. Its goroutine lives while there is something to write.
type pointWriter struct {
	dir   *Dir
	pause time.Duration
	share time.Duration
	limit int64

	mu      sync.Mutex
	due     bool
	bytes   int64     // committed since the last write began
	next    time.Time // not before it, unless bytes has reached limit
	running bool
	stopped bool
	wake    chan struct{} // ends the pause
	wg      sync.WaitGroup
}

func newPointWriter(d *Dir) *pointWriter {
	return &pointWriter{dir: d, pause: pointPause, share: pointShare, limit: pointBytes, wake: make(chan struct{}, 1)}
}

// committed says that bytes have become durable, with a sealed segment or not.
// It does not block.
func (w *pointWriter) committed(bytes int64, sealed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes += bytes
	urgent := w.bytes >= w.limit
	if w.stopped || !sealed && !urgent {
		return
	}
	w.due = true
	switch {
	case !w.running:
		w.running = true
		w.wg.Go(w.run)
	case urgent:
		w.interrupt()
	}
}

func (w *pointWriter) interrupt() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *pointWriter) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.due && !w.stopped {
		if wait := time.Until(w.next); wait > 0 && w.bytes < w.limit {
			w.mu.Unlock()
			w.sleep(wait)
			w.mu.Lock()
			continue
		}
		w.due, w.bytes = false, 0
		w.mu.Unlock()
		began := time.Now()
		if err := w.dir.writePoints(); err != nil {
			w.dir.cfg.Logger.Warn("recovery points were not written, the next seal tries again", "dir", w.dir.cfg.Path, "err", err)
		}
		took := time.Since(began)
		w.mu.Lock()
		w.next = began.Add(took + max(w.pause, w.share*took))
	}
	w.running = false
}

func (w *pointWriter) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.wake:
	}
}

func (w *pointWriter) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.interrupt()
	w.wg.Wait()
}

// writePoints makes the recovery points of all open logs durable. Entries of
// other logs stay as they are: only Checkpoint drops those of what is gone.
func (d *Dir) writePoints() error {
	d.files.Lock()
	defer d.files.Unlock()
	d.mu.Lock()
	logs := maps.Clone(d.logs)
	d.mu.Unlock()
	for name, l := range logs {
		if point, ok := l.checkpointPoint(); ok {
			d.recovery.values[name] = point
		}
	}
	return d.fatal(d.write(&d.recovery))
}

// checkpointPoint is the recovery point as a checkpoint may tell it; ok is
// false while it must not speak of the log, which may be nil.
func (l *Log) checkpointPoint() (point int64, ok bool) {
	if l == nil {
		return 0, false
	}
	// The point first: a log that begins anew is not named before its new point shows.
	point = int64(l.RecoveryPoint())
	return point, l.named()
}
