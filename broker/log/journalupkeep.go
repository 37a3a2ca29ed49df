package log

import (
	"math"
	"slices"
	"time"
)

// oldest is the first round that must stay; it needs mu.
func (j *journal) oldest() int64 {
	if e := j.live.Front(); e != nil {
		return e.Value.(*journaled).first
	}
	return math.MaxInt64
}

// removable is the number of segments that nobody needs and that are not
// written any more. It needs mu.
func (j *journal) removable(active *journalSegment) int {
	oldest := j.oldest()
	n := slices.IndexFunc(j.segments, func(s *journalSegment) bool { return s == active || s.last >= oldest })
	if n < 0 {
		return len(j.segments)
	}
	return n
}

// full tells whether the bound is reached by n more bytes. It needs mu.
func (j *journal) full(n int64) bool { return j.bytes+n > j.limits.bytes }

// crowd is how many logs may have entries that are not in their files: each
// keeps a file handle open. More logs than that in turn cost a sync an append.
func (j *journal) crowd() int { return max(1, j.dir.handles.max*3/4) }

// needed is what cannot be removed, the prepared segment aside. It needs write and mu.
func (j *journal) needed() (segments []*journalSegment, bytes int64) {
	segments = j.segments[j.removable(j.active):]
	for _, s := range segments {
		bytes += s.size
	}
	return segments, bytes
}

// kept is how many segments stay although nobody needs them, while the journal has room: the next
// one is made of them, where a new one would be filled with zeros while rounds wait for the disk. It needs mu.
func (j *journal) kept() int {
	if j.next != nil && j.bytes <= j.limits.bytes/2 {
		return 1
	}
	return 0
}

// overdue lists the logs whose files are to be synced so that the journal
// keeps its bounds: beyond half of its bytes, those with an entry in the older half; beyond
// the number of handles, the older half. It needs write and mu.
func (j *journal) overdue() []*Log {
	limit := int64(0)
	segments, bytes := j.needed()
	if bytes > j.limits.bytes/2 {
		limit = segments[len(segments)/2].last
	}
	count := 0
	if j.live.Len() > j.crowd() {
		count = j.live.Len() / 2
	}
	var out []*Log
	for e := j.live.Front(); e != nil; e = e.Next() {
		at := e.Value.(*journaled)
		if at.first > limit && count <= 0 {
			break
		}
		count--
		if at.log != nil && at.log.forced.CompareAndSwap(false, true) {
			out = append(out, at.log)
		}
	}
	return out
}

// aged adds to logs the one with the oldest entry once the journal is a quarter full, unless its file is to
// be synced already. It needs write and mu.
func (j *journal) aged(logs []*Log) []*Log {
	_, bytes := j.needed()
	if e := j.live.Front(); e != nil && bytes > j.limits.bytes/4 {
		if l := e.Value.(*journaled).log; l != nil && l.behind.CompareAndSwap(false, true) {
			logs = append(logs, l)
		}
	}
	return logs
}

// arm sees to it that idle runs after d. It needs mu.
func (j *journal) arm(d time.Duration) {
	if j.armed || j.stopped {
		return
	}
	j.armed = true
	if j.timer == nil {
		j.timer = time.AfterFunc(d, j.fire)
	} else {
		j.timer.Reset(d)
	}
}

func (j *journal) fire() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.armed = false
	if !j.stopped {
		j.wg.Go(j.idle)
	}
}

// idle empties the journal once it has been quiet: the logs are synced, then it
// looks again, and when none is left the segments go.
func (j *journal) idle() {
	j.mu.Lock()
	if wait := j.limits.quiet - time.Since(j.last); wait > 0 {
		j.arm(wait)
		j.mu.Unlock()
		return
	}
	j.refuse = false
	var logs []*Log
	for e := j.live.Front(); e != nil; e = e.Next() {
		if l := e.Value.(*journaled).log; l != nil {
			logs = append(logs, l)
		}
	}
	j.mu.Unlock()
	for _, l := range logs {
		l.forced.Store(true)
		j.dir.committer.file(l)
	}
	if len(logs) == 0 {
		j.trim(true)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.arm(j.limits.quiet / 4)
}

// tidy removes segments that are no longer needed, in the background. A file
// commit calls it.
func (j *journal) tidy() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.startTrim()
}

// startTrim needs mu.
func (j *journal) startTrim() {
	spare := j.kept() // and the newest is being written, or was the last to be
	if j.stopped || j.trimming || len(j.segments) < 2+spare || j.segments[spare].last >= j.oldest() {
		return
	}
	j.trimming = true
	j.wg.Go(func() {
		j.trim(false)
		j.mu.Lock()
		j.trimming = false
		j.mu.Unlock()
	})
}

// trim removes the segments that nobody needs, the oldest first, each durably before the next; with
// all also the one that is being written. Before, the recovery points are written: what lies
// below them is not asked of the journal again.
func (j *journal) trim(all bool) {
	j.trims.Lock()
	defer j.trims.Unlock()
	j.write.Lock()
	j.mu.Lock()
	ends := all && j.active != nil && j.active.last < j.oldest()
	j.mu.Unlock()
	if ends {
		if err := j.seal(); err != nil {
			j.dir.cfg.Logger.Warn("journal segment was not ended", "dir", j.dir.cfg.Path, "err", j.dir.fatal(err))
		}
	}
	j.mu.Lock()
	n := j.removable(j.active)
	gone := slices.Clone(j.segments[:n])
	j.mu.Unlock()
	j.write.Unlock()
	if n == 0 {
		return
	}
	if err := j.dir.writePoints(); err != nil {
		j.dir.cfg.Logger.Warn("recovery points were not written, the journal keeps its segments", "dir", j.dir.cfg.Path, "err", err)
		return
	}
	for i, s := range gone {
		drop := j.remove
		switch wanted, kept := j.wantsNext(); {
		case s.size >= j.limits.segment && wanted:
			drop = j.recycle
		case !all && len(gone)-i <= kept:
			return
		}
		if err := drop(s); err != nil {
			j.dir.cfg.Logger.Warn("journal segment was not removed", "file", s.path, "err", err)
			return
		}
	}
	if err := j.dropUnused(); err != nil {
		j.dir.cfg.Logger.Warn("prepared journal segment was not removed", "dir", j.dir.cfg.Path, "err", err)
	}
}

// dropUnused removes the prepared segment where no round is written any more.
func (j *journal) dropUnused() error {
	j.write.Lock()
	defer j.write.Unlock()
	if j.active != nil {
		return nil
	}
	return j.dropNext()
}

// remove deletes the oldest segment, durably.
func (j *journal) remove(s *journalSegment) error {
	fsys := j.dir.cfg.FS
	if err := removeFile(fsys, s.path); err != nil {
		return err
	}
	if err := j.dir.fatal(syncDir(fsys, j.path)); err != nil {
		return err
	}
	j.gone(s)
	return nil
}

// gone forgets the oldest segment.
func (j *journal) gone(s *journalSegment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.segments[0] != s {
		panic("log: journal segments are removed out of order")
	}
	j.segments = slices.Delete(j.segments, 0, 1)
	j.bytes -= s.size
	j.refuse = j.refuse && j.full(0)
	for _, e := range j.logs {
		if e.last <= s.last {
			j.drop(e)
		}
	}
}

func (j *journal) stop() {
	j.mu.Lock()
	j.stopped = true
	if j.timer != nil {
		j.timer.Stop()
	}
	j.mu.Unlock()
	j.wg.Wait()
}

// empty removes, after stop, all segments but those that hold what logs need that
// could not be opened. The recovery points of the others must have been written.
func (j *journal) empty() error {
	j.mu.Lock()
	gone := slices.Clone(j.segments[:j.removable(nil)])
	j.mu.Unlock()
	for _, s := range gone {
		if err := j.remove(s); err != nil {
			return err
		}
	}
	return j.dropNext()
}
