package log

import (
	"fmt"
	"slices"

	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// Truncate removes all batches that end above to. It is durable on return. to
// must lie in [Start, LEO], above it nothing is done. A slice that was read from above to may
// fail or show other bytes. On an error after the first change the log is offline.
func (l *Log) Truncate(to protocol.Offset) error {
	l.admin.Lock()
	defer l.admin.Unlock()
	if to >= l.LEO() {
		return nil
	}
	if to < l.Start() {
		return fmt.Errorf("truncate %s: %w: %d is below the log start %d", l.name, ErrOffsetOutOfRange, to, l.Start())
	}
	last, end, err := l.endBefore(to)
	if err != nil {
		return fmt.Errorf("truncate %s: %w", l.name, err)
	}
	return l.cut(end.next, func() error { return l.truncate(last, end) })
}

// TruncateFully empties the log; it begins anew as init says. That the old
// records are gone is durable on return.
func (l *Log) TruncateFully(init Init) error {
	if _, err := decodeProducers(init.Producers); err != nil {
		return fmt.Errorf("truncate %s: %w", l.name, err)
	}
	l.admin.Lock()
	defer l.admin.Unlock()
	return l.cut(0, func() error { return l.restart(init) })
}

// cut runs what changes the log's past. Before it, what the journal holds of the log is
// given up durably, and the recovery point is lowered durably: after a crash nothing above
// it counts as synced.
func (l *Log) cut(to protocol.Offset, do func() error) error {
	l.part.Lock()
	defer l.part.Unlock()
	l.round.Lock()
	defer l.round.Unlock()
	told := l.Durable()
	if err := l.leaveJournal(to); err != nil {
		return fmt.Errorf("truncate %s: %w", l.name, err)
	}
	l.mu.Lock()
	err := l.usable()
	if err == nil {
		l.truncating, l.changed = true, true
		l.cuts++
		l.synced.Store(min(l.synced.Load(), int64(to)))
		l.durable.Store(min(l.durable.Load(), int64(to)))
	}
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("truncate %s: %w", l.name, err)
	}
	if err = l.dir.lowerRecoveryPoint(l.name, to); err == nil {
		err = l.dir.fatal(do())
	}
	l.mu.Lock()
	l.truncating = false
	if l.exists() && l.Durable() > told {
		l.pending.written = true // so that the next commit tells of it
	}
	if err != nil {
		err = fmt.Errorf("truncate %s: %w", l.name, err)
		l.goOffline(err)
	}
	l.mu.Unlock()
	if err == nil {
		l.dir.committer.dirty(l)
	}
	return err
}

// leaveJournal ends the life of the log's entries in the journal. What only they hold is synced in the
// log's file first, for the cut may leave some of it. It needs part and round.
func (l *Log) leaveJournal(to protocol.Offset) error {
	l.mu.Lock()
	err, epoch := l.usable(), l.epochs.latest()
	l.mu.Unlock()
	if err != nil || !l.dir.journal.holds(l.key) {
		return err
	}
	if l.RecoveryPoint() < l.Durable() {
		if _, _, err := l.syncRound(); err != nil {
			return err
		}
	}
	return l.dir.journal.reset(l.key, to, epoch)
}

// endBefore finds the segment (its index in the list) and the place in it where
// the last batch ends that lies wholly below to.
func (l *Log) endBefore(to protocol.Offset) (i int, end *extent, err error) {
	list := l.list()
	i = find(list, to)
	end = &extent{next: list[i].base}
	err = list[i].steps(0, list[i].filled.Load().size, func(h record.Batch, pos, total int64) (bool, error) {
		if h.NextOffset() > to {
			return false, nil
		}
		end = &extent{size: pos + total, next: h.NextOffset()}
		return true, nil
	})
	return i, end, err
}

// truncate needs admin and truncating.
func (l *Log) truncate(i int, end *extent) error {
	list := l.list()
	keep, last, gone := list[:i+1], list[i], list[i+1:]
	l.mu.Lock()
	l.dropSealed(func(s *segment) bool { return s == last || slices.Contains(gone, s) })
	l.unpinFile(&l.pending.pinned)
	l.pending.written = l.RecoveryPoint() < end.next // the next commit says that it is durable
	l.pending.durable = end.size
	if l.pending.written {
		l.pending.durable = -1
	}
	l.pending.snapshots = slices.DeleteFunc(l.pending.snapshots, func(s snapshotFile) bool { return s.at > end.next })
	l.epochs.cutEnd(end.next)
	last.filled.Store(end)
	last.sealed.Store(0)
	last.synced.Store(false)
	l.leo.Store(int64(end.next))
	l.start.Store(min(l.start.Load(), int64(end.next)))
	l.setSegments(slices.Clone(keep))
	l.synced.Store(min(l.synced.Load(), int64(end.next)))
	l.durable.Store(min(l.durable.Load(), int64(end.next)))
	if end.size > 0 {
		l.firstAppend.Store(l.dir.cfg.Now().UnixMilli())
	}
	l.mu.Unlock()
	if err := l.removeAbove(gone, end.next); err != nil {
		return err
	}
	if err := last.shorten(end); err != nil {
		return err
	}
	state, _, err := l.loadProducers(end.next, end.next, nil)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.producers = *state
	l.countProducers()
	l.mu.Unlock()
	return nil
}

// removeAbove removes segments from the top down, each durably before the next
// so that no crash leaves a gap, and the producer snapshots above end.
func (l *Log) removeAbove(gone []*segment, end protocol.Offset) error {
	for i, s := range slices.Backward(gone) {
		if err := l.remove(s); err != nil {
			for _, left := range gone[:i] {
				left.unpin() // the log is offline now, and its list has none of them
			}
			return err
		}
	}
	return l.removeSnapshots(func(at protocol.Offset) bool { return at > end })
}

// shorten cuts the segment's files, durably.
func (s *segment) shorten(end *extent) error {
	err := s.log.dir.handles.with(s, logKind, func(f vfs.File) error {
		if err := f.Truncate(end.size); err != nil {
			return err
		}
		return syncFile(f)
	})
	if err != nil {
		return err
	}
	if err := s.reindex(end.size); err != nil {
		return err
	}
	if !s.txns.Load() {
		return nil
	}
	aborted, err := s.aborted()
	if err != nil {
		return err
	}
	n := slices.IndexFunc(aborted, func(t protocol.AbortedTxn) bool { return t.Last >= end.next })
	if n < 0 {
		return nil
	}
	return s.log.dir.handles.with(s, txnKind, func(f vfs.File) error {
		return f.Truncate(int64(n * producer.AbortedLen))
	})
}

// restart needs admin and truncating.
func (l *Log) restart(init Init) error {
	existed := l.exists()
	gone := l.list()
	l.mu.Lock()
	l.dropSealed(func(*segment) bool { return true })
	l.unpinFile(&l.pending.pinned)
	created, names := l.pending.created, l.pending.names
	l.pending = pending{created: created, names: names}
	l.segments.Store(nil) // readers shall not look for what is being removed
	l.mu.Unlock()
	if err := l.removeAbove(gone, -1); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onDisk.Store(false) // until the first commit; before reset shows the new recovery point
	if err := l.reset(init); err != nil {
		return err
	}
	if !existed {
		return nil
	}
	// The directory stays, with an empty segment that says where the log begins.
	s, err := l.createSegment(init.Start)
	if err != nil {
		return err
	}
	if init.Start > 0 {
		l.addSnapshot(init.Start)
	}
	l.epochs.changes++
	l.pending.created = true
	l.setSegments([]*segment{s})
	return nil
}

// removeSnapshots removes the producer snapshots for which gone holds, durably.
func (l *Log) removeSnapshots(gone func(protocol.Offset) bool) error {
	snapshots, err := l.snapshots()
	if err != nil {
		return err
	}
	return l.removeOf(snapshots, gone)
}

// removeOf is removeSnapshots where it is known which there are.
func (l *Log) removeOf(snapshots []protocol.Offset, gone func(protocol.Offset) bool) error {
	removed := false
	for _, at := range snapshots {
		if gone(at) {
			if err := removeFile(l.dir.cfg.FS, l.snapshotPath(at)); err != nil {
				return err
			}
			removed = true
		}
	}
	if !removed {
		return nil
	}
	return syncDir(l.dir.cfg.FS, l.path)
}

// snapshots lists the offsets of the snapshot files, ascending.
func (l *Log) snapshots() ([]protocol.Offset, error) {
	entries, err := l.dir.cfg.FS.List(l.path)
	if ignoreMissing(err) != nil {
		return nil, err
	}
	var out []protocol.Offset
	for _, e := range entries {
		if at, suffix, ok := parseFileName(e.Name); ok && suffix == snapshotSuffix {
			out = append(out, at)
		}
	}
	return out, nil
}
