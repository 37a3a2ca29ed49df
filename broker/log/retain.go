package log

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stratabroker/strata/protocol"
)

// SetStart moves the local log start up to o (never back, never past the log
// end) and removes the segments that lie wholly below it; the active one too, by
// rolling first. That they are gone is durable on return.
func (l *Log) SetStart(o protocol.Offset) error {
	l.admin.Lock()
	defer l.admin.Unlock()
	err := l.lockCreated()
	if o > l.LEO() && err == nil {
		err = fmt.Errorf("%w: log start %d above the log end %d", ErrOffsetOutOfRange, o, l.LEO())
	}
	if err != nil {
		l.mu.Unlock()
		return fmt.Errorf("set log start of %s: %w", l.name, err)
	}
	if o > l.Start() {
		l.start.Store(int64(o))
		l.changed = true
	}
	l.epochs.cutStart(o)
	if l.exists() && o == l.LEO() {
		err = l.roll()
	}
	n := 0
	for list := l.list(); n+1 < len(list) && list[n+1].base <= o; {
		n++
	}
	l.mu.Unlock()
	if err == nil {
		_, err = l.removeFirst(n)
	}
	if err != nil {
		return fmt.Errorf("set log start of %s: %w", l.name, err)
	}
	return nil
}

// Evict removes sealed segments that lie wholly below an offset, oldest first,
// while the log is larger than keepBytes or they are older than keepAge (below 0: no
// such limit). The local start moves; the epochs of what is gone stay known.
func (l *Log) Evict(below protocol.Offset, keepBytes int64, keepAge time.Duration, now time.Time) (segments int, bytes int64, err error) {
	l.admin.Lock()
	defer l.admin.Unlock()
	l.mu.Lock()
	err = l.usable()
	l.mu.Unlock()
	if err != nil {
		return 0, 0, fmt.Errorf("evict from %s: %w", l.name, err)
	}
	list, total := l.list(), l.Size()
	n := 0
	for ; n+1 < len(list) && list[n+1].base <= below && list[n].synced.Load(); n++ {
		size := list[n].filled.Load().size
		due := keepBytes >= 0 && total-keepBytes >= size
		if !due && keepAge >= 0 {
			if due, err = list[n].olderThan(now.Add(-keepAge)); err != nil {
				return 0, 0, fmt.Errorf("evict from %s: %w", l.name, err)
			}
		}
		if !due {
			break
		}
		total -= size
	}
	if n == 0 {
		return 0, 0, nil
	}
	bytes, err = l.removeFirst(n)
	if err != nil {
		return 0, bytes, fmt.Errorf("evict from %s: %w", l.name, err)
	}
	return n, bytes, nil
}

// olderThan tells whether all of a sealed segment's records are from before t.
// A timestamp from after the seal counts as the time of the seal, so that
// records from the future go as well.
func (s *segment) olderThan(t time.Time) (bool, error) {
	greatest, _, err := s.maximum()
	if err != nil {
		return false, err
	}
	age := int64(greatest)
	if sealed := s.sealed.Load(); sealed > 0 && (age < 0 || age > sealed) {
		age = sealed
	}
	return age >= 0 && age < t.UnixMilli(), nil
}

// RetentionStart is where retention.ms and retention.bytes (below 0: no limit)
// say that the log start should be: Kafka's rules, looking only at segments that lie
// wholly below an offset. It changes nothing.
func (l *Log) RetentionStart(now time.Time, age time.Duration, bytes int64, below protocol.Offset) (protocol.Offset, error) {
	list, total := l.list(), l.Size()
	start := l.Start()
	for i, s := range list {
		filled := s.filled.Load()
		end := filled.next
		if i+1 < len(list) {
			end = list[i+1].base
		}
		if end > below || filled.size == 0 {
			break
		}
		due := end <= start || bytes >= 0 && total-bytes >= filled.size
		if !due && age >= 0 {
			var err error
			if due, err = s.olderThan(now.Add(-age)); err != nil {
				return start, fmt.Errorf("retention of %s: %w", l.name, err)
			}
		}
		if !due {
			break
		}
		total -= filled.size
		start = max(start, end)
	}
	return start, nil
}

// saveSnapshot makes sure that the producer state at the base of a segment is
// on the disk: without the segments below it cannot be told from the log.
func (l *Log) saveSnapshot(at protocol.Offset) error {
	l.mu.Lock()
	waiting := slices.ContainsFunc(l.pending.snapshots, func(s snapshotFile) bool { return s.at == at })
	l.mu.Unlock()
	if waiting {
		if err := l.Flush(context.Background()); err != nil {
			return err
		}
	}
	state, _, err := l.nearestSnapshot(at, at)
	if err != nil || state != nil {
		return err
	}
	state, unknownBelow, err := l.loadProducers(at, at, nil)
	if err != nil || unknownBelow > 0 {
		return err // what is not known now will not be known later
	}
	if err := l.dir.fatal(writeFile(l.dir.cfg.FS, l.snapshotPath(at), state.Encode(), true)); err != nil {
		return err
	}
	return l.dir.fatal(syncDir(l.dir.cfg.FS, l.path))
}

// saveSnapshots does that for each segment that is or may become the first: a crash may come
// after any of the removals.
func (l *Log) saveSnapshots(firsts []*segment) error {
	there, err := l.snapshots()
	if err != nil {
		return err
	}
	for i, s := range firsts {
		if i < len(firsts)-1 && slices.Contains(there, s.base) {
			continue
		}
		if err := l.saveSnapshot(s.base); err != nil {
			return err
		}
	}
	return nil
}

// removeFirst removes the n first segments, oldest first, each durably before
// the next, so that no crash leaves a gap. It needs admin.
func (l *Log) removeFirst(n int) (bytes int64, err error) {
	if n == 0 {
		return 0, nil
	}
	list := l.list()
	if err := l.saveSnapshots(list[1 : n+1]); err != nil {
		return 0, err
	}
	if _, err := l.saveEpochs(); err != nil {
		return 0, err
	}
	l.mu.Lock()
	list = l.list()
	gone, left := list[:n], slices.Clone(list[n:])
	// The start first: a reader that finds its segment gone then sees why.
	l.start.Store(max(l.start.Load(), int64(left[0].base)))
	l.segments.Store(&left)
	l.changed = true
	l.dropSealed(func(s *segment) bool { return slices.Contains(gone, s) })
	l.mu.Unlock()
	for _, s := range gone {
		bytes += s.filled.Load().size
		if err := l.remove(s); err != nil {
			return bytes, err
		}
		if err := removeFile(l.dir.cfg.FS, l.snapshotPath(s.base)); err != nil {
			return bytes, err
		}
	}
	return bytes, nil
}

// dropSealed forgets sealed segments that need no sync any more; it needs mu.
func (l *Log) dropSealed(gone func(*segment) bool) {
	l.pending.sealed = slices.DeleteFunc(l.pending.sealed, func(f sealedFile) bool {
		if !gone(f.segment) {
			return false
		}
		l.unpinFile(&f.pinned)
		return true
	})
}

// remove renames a segment's files, syncs that, and lets go of them. Where the
// renaming fails the log goes offline: what is on the disk is not what is served.
func (l *Log) remove(s *segment) error {
	err := s.markDeleted()
	if err == nil {
		err = l.dir.fatal(syncDir(l.dir.cfg.FS, l.path))
	}
	if err != nil {
		err = fmt.Errorf("remove %s: %w", s.name(), err)
		l.setOffline(err)
	}
	s.unpin()
	return err
}
