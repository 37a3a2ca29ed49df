package log

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/stratabroker/strata/protocol"
)

// maxSyncs is how many files of one log directory are synced at a time.
const maxSyncs = 8

// committer makes the appends of a directory's logs durable (DESIGN D6). It
// calls Log.commit, which says what has become so.
type committer interface {
	// dirty says that l has something to commit. It does not block, and may be
	// called for the same log at any time; one commit that begins after the call serves it.
	dirty(l *Log)
	// file says that l's file is to be synced, whatever the journal holds of it.
	file(l *Log)
	// stop waits for the commits under way; those not begun are left.
	stop()
}

// commitState is where a log is with its committer, which guards it.
type commitState uint8

const (
	commitIdle commitState = iota
	commitQueued
	commitRunning
	commitAgain // running, and to be queued again
)

// groupCommit syncs log by log, or many small ones together through the journal: a log is queued
// once, and one commit serves everybody who waited for that log. Workers live while there is work.
type groupCommit struct {
	dir *Dir

	mu       sync.Mutex
	queue    []*Log // to be synced by their files
	small    []*Log // for the next round of the journal
	behind   []*Log // to be synced by their files, one at a time
	syncing  bool   // one of behind is
	workers  int    // of queue
	rounding bool   // a round of the journal is under way
	stopped  bool
	wg       sync.WaitGroup
	failed   map[*Log]retry // logs whose last commit failed; nil while there are none
	timer    *time.Timer    // of the earliest in failed; nil before the first failure
	next     time.Time      // when it fires; zero while it does not run
}

// retry is when a failed commit is tried again without anybody asking for it.
type retry struct {
	at   time.Time
	wait time.Duration // before at
}

// A commit that failed, but for a failed sync, is tried again after minRetry,
// then after twice that, up to maxRetry: who waits for it may not ask again.
const (
	minRetry = 100 * time.Millisecond
	maxRetry = 5 * time.Second
)

func newGroupCommit(d *Dir) *groupCommit { return &groupCommit{dir: d} }

func (g *groupCommit) dirty(l *Log) { g.add(l, g.dir.journal.takes(l)) }

func (g *groupCommit) file(l *Log) {
	l.forced.Store(true)
	g.add(l, false)
}

func (g *groupCommit) add(l *Log, journal bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.stopped {
		g.enqueue(l, journal)
	}
}

// enqueue needs mu.
func (g *groupCommit) enqueue(l *Log, journal bool) {
	switch l.commitState {
	case commitIdle:
		g.push(l, journal)
	case commitRunning:
		l.commitState = commitAgain
	case commitQueued, commitAgain:
	}
}

// push queues a log. For the journal it is only a proposal: the round looks
// again whether it can take the log. It needs mu.
func (g *groupCommit) push(l *Log, journal bool) {
	l.commitState = commitQueued
	if journal {
		g.small = append(g.small, l)
		g.startRound()
		return
	}
	g.queue = append(g.queue, l)
	if g.workers < maxSyncs {
		g.workers++
		g.wg.Go(g.work)
	}
}

// startRound needs mu.
func (g *groupCommit) startRound() {
	if len(g.small) > 0 && !g.rounding && !g.stopped {
		g.rounding = true
		g.wg.Go(g.round)
	}
}

// round does one round of the journal. The next may begin while the events are told.
func (g *groupCommit) round() {
	g.mu.Lock()
	logs := g.small
	g.small = nil
	for _, l := range logs {
		l.commitState = commitRunning
	}
	g.mu.Unlock()
	r := g.dir.journal.commit(logs)
	g.mu.Lock()
	for _, p := range r.done {
		g.finish(p.log, true)
	}
	for _, l := range r.idle {
		g.finish(l, true)
	}
	for _, l := range r.files {
		g.push(l, false)
	}
	for _, l := range r.later {
		g.push(l, true)
	}
	g.rounding = false
	g.startRound()
	g.mu.Unlock()
	for _, l := range r.overdue {
		g.file(l)
	}
	g.follow(r.behind)
	r.tell()
}

// finish ends a log's commit, or queues the next one. It needs mu.
func (g *groupCommit) finish(l *Log, journal bool) {
	if l.commitState == commitAgain {
		g.push(l, journal)
	} else {
		l.commitState = commitIdle
	}
}

func (g *groupCommit) work() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.queue) > 0 && !g.stopped {
		l := g.queue[0]
		g.queue = slices.Delete(g.queue, 0, 1)
		l.commitState = commitRunning
		g.mu.Unlock()
		err := l.commit() // who waits learns of it from the log
		g.dir.journal.tidy()
		journal := err == nil && g.dir.journal.takes(l)
		g.mu.Lock()
		g.note(l, err)
		g.finish(l, journal)
	}
	g.workers--
}

// note remembers what came of a commit. It needs mu.
func (g *groupCommit) note(l *Log, err error) {
	if err == nil {
		delete(g.failed, l)
		return
	}
	if g.failed == nil {
		g.failed = map[*Log]retry{}
	}
	wait := min(max(minRetry, 2*g.failed[l].wait), maxRetry)
	r := retry{at: time.Now().Add(wait), wait: wait}
	g.failed[l] = r
	g.wake(r.at)
}

// wake sees to it that again runs at the given time. It needs mu.
func (g *groupCommit) wake(at time.Time) {
	if g.stopped || !g.next.IsZero() && !at.Before(g.next) {
		return
	}
	g.next = at
	if g.timer == nil {
		g.timer = time.AfterFunc(time.Until(at), g.again)
	} else {
		g.timer.Reset(time.Until(at))
	}
}

// again queues the failed commits that are due.
func (g *groupCommit) again() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next = time.Time{}
	if g.stopped {
		return
	}
	now := time.Now()
	for l, r := range g.failed {
		if !r.at.After(now) {
			r.at = now.Add(maxRetry) // unless this try says otherwise
			g.failed[l] = r
			g.enqueue(l, false)
		}
		g.wake(r.at)
	}
}

func (g *groupCommit) stop() {
	g.mu.Lock()
	g.stopped = true
	if g.timer != nil {
		g.timer.Stop()
	}
	g.mu.Unlock()
	g.wg.Wait()
}

// sealedFile is a sealed segment that is not synced yet. pinned is the handle
// that keeps its file open since it was written, so that the kernel has
// somebody to tell of a failed write-back; nil in replicated mode.
type sealedFile struct {
	segment *segment
	pinned  *handle
}

// snapshotFile is a producer snapshot that is not written yet.
type snapshotFile struct {
	at    protocol.Offset
	state []byte
}

// pending is what a log has to make durable before its recovery point may
// move. Log.mu guards it.
type pending struct {
	written   bool         // the active segment has bytes that were not synced in its file
	durable   int64        // its bytes below the durable offset; -1: not known before the next sync
	pinned    *handle      // of the active segment, as in sealedFile
	sealed    []sealedFile // in order
	snapshots []snapshotFile
	names     int   // how often the partition's directory got new names
	created   bool  // the log directory has the new name of the partition's
	force     bool  // sync the active segment in replicated mode too
	bytes     int64 // appended since the last sync

	namesSynced int // as of the last sync of the directory
}

// round is one commit: what was pending when it began.
type round struct {
	target    protocol.Offset // synced when the round is done
	active    *segment        // nil: not to be synced
	sealed    []*segment
	snapshots []snapshotFile
	names     int
	current   *segment // the active one
	size      int64    // of its bytes, those that are durable when the round is done
	bytes     int64    // appended since the round before
	syncNames bool
	created   bool
	journal   journalMark
}

// commit makes durable what is pending. An error has been dealt with.
func (l *Log) commit() error {
	target, sealed, err := l.runRound()
	if err != nil {
		return err
	}
	if target >= 0 && l.dir.cfg.Fsync {
		l.tellDurable(target)
	}
	if sealed && l.events.Sealed != nil {
		l.events.Sealed()
	}
	return nil
}

// runRound does one round; target is NoOffset where there was nothing to do.
func (l *Log) runRound() (target protocol.Offset, sealed bool, err error) {
	l.round.Lock()
	defer l.round.Unlock()
	return l.syncRound()
}

// syncRound needs l.round.
func (l *Log) syncRound() (target protocol.Offset, sealed bool, err error) {
	r, ok := l.beginRound()
	if !ok {
		return protocol.NoOffset, false, nil
	}
	defer r.unpin()
	if err := l.sync(r); err != nil {
		return protocol.NoOffset, false, l.failRound(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return r.target, l.endRound(r), nil
}

// beginRound collects what there is to do.
func (l *Log) beginRound() (round, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.pending
	syncActive := p.written && (l.dir.cfg.Fsync || p.force)
	if l.closed || l.offline != nil && !l.dir.journal.pinnedBy(l) || !l.commitPending() {
		return round{}, false
	}
	r := round{snapshots: slices.Clone(p.snapshots), names: p.names, bytes: p.bytes, syncNames: p.names != p.namesSynced, created: p.created}
	for _, s := range p.sealed {
		s.segment.refs.Add(1)
		r.sealed = append(r.sealed, s.segment)
	}
	active := l.active()
	end := active.filled.Load()
	r.target, r.current, r.size = end.next, active, end.size
	r.journal = l.dir.journal.mark(l)
	switch {
	case syncActive:
		active.refs.Add(1)
		r.active = active
	case p.written:
		r.target, r.size = max(l.RecoveryPoint(), active.base), -1
	}
	return r, true
}

func (r round) unpin() {
	for _, s := range r.sealed {
		s.unpin()
	}
	if r.active != nil {
		r.active.unpin()
	}
}

// sync does the round's work, without a lock: first the files, then what names
// them. Only then does the durable offset pass a roll.
func (l *Log) sync(r round) error {
	fsys := l.dir.cfg.FS
	for _, s := range r.sealed {
		if err := s.syncFiles(); err != nil {
			return err
		}
	}
	for _, s := range r.snapshots {
		if err := l.writeSnapshot(s); err != nil {
			return err
		}
	}
	if r.created {
		if err := l.syncNamed(path.Join(l.path, metadataFile)); err != nil {
			return err
		}
	}
	if r.active != nil {
		if err := l.dir.handles.with(r.active, logKind, syncFile); err != nil {
			return err
		}
	}
	written, err := l.saveEpochs() // which syncs the names as well
	if err != nil {
		return err
	}
	if !written && (r.syncNames || len(r.snapshots) > 0) {
		if err := syncDir(fsys, l.path); err != nil {
			return err
		}
	}
	if r.created {
		return syncDir(fsys, l.dir.cfg.Path)
	}
	return nil
}

// writeSnapshot fails only where a sync did: a snapshot can be had from the log again.
func (l *Log) writeSnapshot(s snapshotFile) error {
	err := writeFile(l.dir.cfg.FS, l.snapshotPath(s.at), s.state, true)
	if err == nil || errors.As(err, new(*syncError)) {
		return err
	}
	l.dir.cfg.Logger.Warn("producer snapshot was not written", "log", l.name, "offset", int64(s.at), "err", err)
	return removeFile(l.dir.cfg.FS, l.snapshotPath(s.at))
}

// syncFresh makes a file durable and lets the next reads show what the disk holds.
func (l *Log) syncFresh(name string) (err error) {
	f, err := l.dir.cfg.FS.Open(name, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := syncFile(f); err != nil {
		return err
	}
	return f.DropCache(0)
}

func (l *Log) syncNamed(name string) (err error) {
	f, err := l.dir.cfg.FS.Open(name, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return syncFile(f)
}

// syncFiles makes all files of a sealed segment durable.
func (s *segment) syncFiles() error {
	for kind := range kinds {
		if kind == txnKind && !s.txns.Load() {
			continue
		}
		if err := s.log.dir.handles.with(s, kind, syncFile); err != nil {
			if s.deleted() && !errors.As(err, new(*syncError)) {
				return nil // removed meanwhile: nobody needs it
			}
			return err
		}
	}
	return nil
}

// failRound deals with an error of sync. A failed sync is fatal. Any other leaves
// the round pending: the committer tries again.
func (l *Log) failRound(err error) error {
	err = fmt.Errorf("commit %s: %w", l.name, err)
	if errors.As(err, new(*syncError)) {
		err = l.dir.fatal(err) // before who waits learns of it
		l.setOffline(err)
		return err
	}
	l.mu.Lock()
	if !l.failing {
		l.failing = true // said once, however often it is tried
		l.dir.cfg.Logger.Error("commit failed, it is tried again until it succeeds", "err", err)
	}
	l.wakeFlushers(err)
	l.mu.Unlock()
	return err
}

// endRound takes note of what the round did and tells whether that was a seal;
// the caller holds mu.
func (l *Log) endRound(r round) (sealed bool) {
	p := &l.pending
	for _, s := range r.sealed {
		i := slices.IndexFunc(p.sealed, func(f sealedFile) bool { return f.segment == s })
		if i < 0 {
			continue // removed meanwhile
		}
		s.synced.Store(true)
		sealed = true
		l.unpinFile(&p.sealed[i].pinned)
		p.sealed = slices.Delete(p.sealed, i, i+1)
	}
	p.snapshots = slices.DeleteFunc(p.snapshots, func(s snapshotFile) bool {
		return slices.ContainsFunc(r.snapshots, func(done snapshotFile) bool { return done.at == s.at })
	})
	if len(p.snapshots) == 0 {
		p.snapshots = nil
	}
	if len(p.sealed) == 0 {
		p.sealed = nil
	}
	if active := l.active(); active == r.active && active.filled.Load().next == r.target {
		p.written, p.force = false, false
		l.unpinFile(&p.pinned)
	}
	p.namesSynced = r.names
	if r.created {
		p.created = false
		l.onDisk.Store(true)
	}
	p.bytes -= r.bytes
	if l.active() == r.current && (r.size < 0 || r.size > p.durable) {
		p.durable = r.size
	}
	l.advance(r.target)
	l.forced.Store(false)
	l.behind.Store(false)
	if l.dir.cfg.Fsync {
		l.dir.journal.fileSynced(l, r.journal)
	}
	l.dir.points.committed(r.bytes, sealed)
	if l.failing {
		l.failing = false
		l.dir.cfg.Logger.Info("commit has succeeded again", "log", l.name, "durable", int64(r.target))
	}
	l.wakeFlushers(nil)
	return sealed
}

// advance moves the recovery point, and in fsync mode the durable offset, unless the
// journal has moved that further.
func (l *Log) advance(to protocol.Offset) {
	if to < l.RecoveryPoint() || to > l.LEO() {
		panic(fmt.Sprintf("log %s: recovery point from %d to %d with durable offset %d, log end %d", l.name, l.RecoveryPoint(), to, l.Durable(), l.LEO()))
	}
	l.synced.Store(int64(to))
	if l.dir.cfg.Fsync {
		l.durable.Store(max(l.durable.Load(), int64(to)))
	}
}

func (l *Log) unpinFile(h **handle) {
	if *h != nil {
		l.dir.handles.release(*h)
		*h = nil
	}
}

// flushWait is what callers of Flush wait for: the end of the next round.
type flushWait struct {
	done chan struct{}
	err  error // set before done is closed
}

// Flush makes everything appended so far durable, in replicated mode too.
func (l *Log) Flush(ctx context.Context) error {
	for {
		l.mu.Lock()
		if err := l.usable(); err != nil {
			l.mu.Unlock()
			return err
		}
		done := l.RecoveryPoint()
		if l.dir.cfg.Fsync {
			done = l.Durable()
		}
		if done >= l.LEO() && len(l.pending.sealed) == 0 && !l.pending.created {
			l.mu.Unlock()
			return nil
		}
		l.pending.force = true
		if l.flushing == nil {
			l.flushing = &flushWait{done: make(chan struct{})}
		}
		wait := l.flushing
		l.mu.Unlock()
		l.dir.committer.dirty(l)
		select {
		case <-wait.done:
			if wait.err != nil {
				return wait.err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wakeFlushers needs mu.
func (l *Log) wakeFlushers(err error) {
	if l.flushing != nil {
		l.flushing.err = err
		close(l.flushing.done)
		l.flushing = nil
	}
}
