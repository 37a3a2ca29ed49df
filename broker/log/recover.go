package log

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// found is what a partition's directory holds.
type found struct {
	segments  []*segment // ascending; filled holds sizes only
	sizes     map[fileKey]int64
	snapshots []protocol.Offset
	marked    bool // found corrupt at an earlier start
}

// recovering is one log's recovery.
type recovering struct {
	l      *Log
	found  found
	point  protocol.Offset // recovery point
	known  bool            // a checkpoint knows the log
	first  int             // first segment to be scanned
	epochs epochCache      // of the scanned batches
	rec    Recovery
}

// recover opens a log that has a directory (DESIGN D3).
func (l *Log) recover(entries []vfs.Entry) (Recovery, error) {
	point, known, hw, age := l.dir.checkpointed(l.name)
	r := &recovering{l: l, point: protocol.Offset(point), known: known, rec: Recovery{Existed: true, HighWatermark: protocol.Offset(hw)}}
	entries, err := l.finishCleaning(entries)
	if err == nil {
		err = r.sort(entries)
	}
	if err != nil {
		return r.rec, l.dir.fatal(err)
	}
	list := r.found.segments
	if len(list) == 0 {
		return r.rec, r.withoutSegments()
	}
	l.segments.Store(&list)
	clean, err := r.openClean()
	if err == nil && !clean {
		err = l.dir.fatal(r.openScanning())
	}
	if err != nil {
		l.closeFiles()
		return r.rec, err
	}
	end := l.active().filled.Load().next
	l.start.Store(int64(list[0].base))
	l.leo.Store(int64(end))
	l.synced.Store(int64(end))
	l.durable.Store(int64(end))
	l.hw.Store(min(hw, int64(end)))
	l.onDisk.Store(true)
	l.changed = !clean
	l.setSegments(l.list())
	l.pending.durable = l.active().filled.Load().size
	l.dir.journal.opened(l.key)
	if l.active().filled.Load().size > 0 {
		if now := l.dir.cfg.Now().UnixMilli(); age <= 0 || age > now {
			age = now
		}
		l.firstAppend.Store(age)
	}
	return r.rec, nil
}

// closeFiles gives up what a failed recovery opened.
func (l *Log) closeFiles() {
	for _, s := range l.list() {
		s.unpin()
	}
	l.segments.Store(nil)
}

// withoutSegments deals with a directory that has none.
func (r *recovering) withoutSegments() error {
	if _, end, ok := r.l.dir.journal.found(r.l.key); ok || r.point > 0 {
		return &CorruptError{File: r.l.name, From: 0, To: protocol.NoOffset, Reason: fmt.Sprintf("no segment is left, it was durable up to %d", max(r.point, end))}
	}
	if err := r.l.removeSnapshots(func(protocol.Offset) bool { return true }); err != nil {
		return err
	}
	// The first append writes partition.metadata anew: torn, it must not be taken for that of a log that was known.
	if err := r.l.dir.lowerRecoveryPoint(r.l.name, protocol.NoOffset); err != nil {
		return err
	}
	return r.l.reset(r.l.init)
}

// sort lists the files and removes what a deletion, a failed write or a crash left.
func (r *recovering) sort(entries []vfs.Entry) error {
	l, f := r.l, &r.found
	f.sizes = map[fileKey]int64{}
	sealed := max(1, l.dir.cfg.Now().UnixMilli())
	if slices.ContainsFunc(entries, func(e vfs.Entry) bool { return strings.HasSuffix(e.Name, deletedSuffix) }) {
		// The process may have ended between the renaming and its sync: nothing else
		// may go before the segment is gone for good.
		if err := l.dir.fatal(syncDir(l.dir.cfg.FS, l.path)); err != nil {
			return err
		}
	}
	for _, e := range entries { // in the order of names, so bases ascend
		base, suffix, ok := parseFileName(e.Name)
		switch {
		case e.Name == corruptFile:
			f.marked = true
		case strings.HasSuffix(e.Name, deletedSuffix), strings.HasSuffix(e.Name, ".tmp"):
			if err := removeFile(l.dir.cfg.FS, path.Join(l.path, e.Name)); err != nil {
				return err
			}
		case ok && suffix == snapshotSuffix:
			f.snapshots = append(f.snapshots, base)
		case ok && suffix == logKind.suffix():
			s := newSegment(l, base)
			s.filled.Store(&extent{size: e.Size, next: base})
			s.sealed.Store(sealed)
			s.synced.Store(true)
			f.segments = append(f.segments, s)
		}
	}
	for i, s := range f.segments {
		if i+1 < len(f.segments) {
			s.filled.Store(&extent{size: s.filled.Load().size, next: f.segments[i+1].base})
		} else {
			s.sealed.Store(0)
			s.synced.Store(false)
		}
	}
	return r.sortIndexes(entries)
}

// sortIndexes matches index files with segments; those without one go.
func (r *recovering) sortIndexes(entries []vfs.Entry) error {
	for _, e := range entries {
		base, suffix, ok := parseFileName(e.Name)
		if !ok {
			continue
		}
		for kind := indexKind; kind < kinds; kind++ {
			if suffix != kind.suffix() {
				continue
			}
			i := find(r.found.segments, base)
			if i < 0 || r.found.segments[i].base != base {
				if err := removeFile(r.l.dir.cfg.FS, path.Join(r.l.path, e.Name)); err != nil {
					return err
				}
				continue
			}
			s := r.found.segments[i]
			r.found.sizes[fileKey{s, kind}] = e.Size
			s.txns.Store(s.txns.Load() || kind == txnKind && e.Size > 0)
		}
	}
	return nil
}

// adopt takes a segment's index files as they are, if they can be right.
func (r *recovering) adopt(s *segment) bool {
	index, ok1 := r.found.sizes[fileKey{s, indexKind}]
	times, ok2 := r.found.sizes[fileKey{s, timeKind}]
	return ok1 && ok2 && s.adoptIndex(index, times)
}

// openClean opens the log as a clean stop left it. false means that it is not
// what a clean stop leaves, and has to be scanned.
func (r *recovering) openClean() (bool, error) {
	l := r.l
	if _, end, ok := l.dir.journal.found(l.key); !l.dir.clean || !r.known || r.found.marked || ok && end > r.point {
		return false, nil
	}
	list := r.found.segments
	for _, s := range list {
		if !r.adopt(s) {
			return false, nil
		}
	}
	last := list[len(list)-1]
	size := last.filled.Load().size
	pos, err := last.lookupPosition(size)
	if err != nil || pos > size {
		return false, nil //nolint:nilerr // the scan will say what is wrong
	}
	next := last.base
	err = last.steps(pos, size, func(h record.Batch, _, _ int64) (bool, error) {
		next = h.NextOffset()
		return true, nil
	})
	if err != nil || next != r.point {
		l.dir.cfg.Logger.Warn("log is not as the clean stop left it and is scanned", "log", l.name, "end", int64(next), "recovery point", int64(r.point), "err", err)
		return false, nil
	}
	last.filled.Store(&extent{size: size, next: next})
	epochs, ok, err := r.readEpochs()
	if err != nil || !ok {
		return false, err
	}
	l.epochs = epochCache{entries: epochs}
	state, unknown, err := l.loadProducersOf(r.found.snapshots, next, next, nil)
	if err != nil {
		return false, err
	}
	l.producers, r.rec.ProducersUnknownBelow, r.rec.Clean = *state, unknown, true
	l.countProducers()
	return true, r.dropSnapshots(next)
}

// readEpochs reads the epoch checkpoint; ok is false where it is missing or torn.
func (r *recovering) readEpochs() (epochs []protocol.EpochStart, ok bool, err error) {
	b, err := readFile(r.l.dir.cfg.FS, path.Join(r.l.path, epochFile))
	if err != nil || b == nil {
		return nil, false, err
	}
	epochs, err = parseEpochs(b)
	if err != nil {
		r.l.dir.cfg.Logger.Warn("epoch checkpoint cannot be read and is rebuilt", "log", r.l.name, "err", err)
		return nil, false, nil
	}
	return epochs, true, nil
}

// openScanning opens a log after an unclean stop. On return all that was kept is durable.
func (r *recovering) openScanning() error {
	l := r.l
	// A segment that ends at the recovery point may have been sealed after it was
	// synced, so that its indexes were not.
	r.first = max(0, find(r.found.segments, r.point-1))
	for _, s := range r.found.segments[:r.first] {
		if r.adopt(s) {
			continue
		}
		l.dir.cfg.Logger.Warn("indexes are rebuilt", "segment", s.name())
		if err := s.reindex(s.filled.Load().size); err != nil {
			return err
		}
		if err := s.flushIndex(true); err != nil {
			return err
		}
		if err := s.syncFiles(); err != nil {
			return err
		}
	}
	bad, err := r.scanAll()
	if err != nil {
		return err
	}
	if bad != nil {
		if err := r.judge(bad); err != nil {
			return err
		}
	}
	end := l.active().filled.Load().next
	if end < r.point {
		return r.mark(&CorruptError{
			File: l.active().name(), Position: l.active().filled.Load().size, From: end, To: protocol.NoOffset,
			Reason: fmt.Sprintf("the log ends below its recovery point %d", r.point),
		})
	}
	if end, err = r.replay(); err != nil {
		return err
	}
	if err := r.rebuildEpochs(); err != nil {
		return err
	}
	if err := r.rebuildProducers(end); err != nil {
		return err
	}
	return r.settle()
}

// rebuildEpochs takes from the checkpoint what lies below the scanned part, and
// the rest from the batches.
func (r *recovering) rebuildEpochs() error {
	l := r.l
	scanned := l.list()[r.first].base
	saved, ok, err := r.readEpochs()
	if err != nil {
		return err
	}
	l.epochs = epochCache{entries: slices.Clone(saved)}
	if ok {
		l.epochs.cutEnd(scanned + 1) // one that begins just there may have no batch yet
	} else {
		for _, e := range l.init.Epochs {
			if e.Start < l.list()[0].base {
				l.epochs.assign(e.Epoch, e.Start)
			}
		}
		for _, s := range l.list()[:r.first] {
			err := s.steps(0, s.filled.Load().size, func(h record.Batch, _, _ int64) (bool, error) {
				l.epochs.assign(h.LeaderEpoch(), h.BaseOffset())
				return true, nil
			})
			if err != nil {
				return err
			}
		}
	}
	for _, e := range r.epochs.entries {
		l.epochs.assign(e.Epoch, e.Start)
	}
	l.epochs.saved = l.epochs.changes
	if ok && slices.Equal(saved, l.epochs.entries) {
		return nil
	}
	return l.writeEpochs(l.epochs.entries)
}

// rebuildProducers replays the scanned part, and builds its aborted indexes anew.
func (r *recovering) rebuildProducers(end protocol.Offset) error {
	l := r.l
	list := l.list()
	if err := r.freshSnapshots(); err != nil {
		return err
	}
	if err := r.dropSnapshots(end); err != nil {
		return err
	}
	for _, s := range list[r.first:] {
		if s.txns.Load() {
			if err := l.dir.handles.with(s, txnKind, func(f vfs.File) error { return f.Truncate(0) }); err != nil {
				return err
			}
			s.txns.Store(false)
		}
	}
	state, unknown, err := l.loadProducersOf(r.found.snapshots, end, list[r.first].base, func(t protocol.AbortedTxn) error {
		if i := find(list, t.Last); i >= r.first {
			return list[i].addAborted(producer.AppendAborted(nil, t))
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.producers, r.rec.ProducersUnknownBelow = *state, unknown
	l.countProducers()
	return nil
}

// freshSnapshots makes those durable that may have been written but not synced, and removes those that
// are torn: the recovery point never passes one that was not synced. Who removes the segments
// below a snapshot relies on it.
func (r *recovering) freshSnapshots() error {
	for i := len(r.found.snapshots) - 1; i >= 0 && r.found.snapshots[i] >= r.point; i-- {
		at := r.found.snapshots[i]
		name := r.l.snapshotPath(at)
		if err := r.l.syncFresh(name); err != nil {
			return err
		}
		b, err := vfs.ReadFile(r.l.dir.cfg.FS, name)
		if err == nil {
			if _, bad := producer.Decode(b); bad != nil {
				r.l.dir.cfg.Logger.Warn("producer snapshot is not whole and is removed", "log", r.l.name, "offset", int64(at), "err", bad)
				r.found.snapshots = slices.Delete(r.found.snapshots, i, i+1)
				err = removeFile(r.l.dir.cfg.FS, name)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropSnapshots removes the snapshots above the log end, and below it those of
// earlier clean stops.
func (r *recovering) dropSnapshots(end protocol.Offset) error {
	newest := protocol.NoOffset
	for _, at := range r.found.snapshots {
		if at <= end {
			newest = max(newest, at)
		}
	}
	r.l.snapshotAt = newest
	list := r.l.list()
	gone := func(at protocol.Offset) bool {
		i := find(list, at)
		return at > end || at != newest && (i < 0 || list[i].base != at)
	}
	err := r.l.removeOf(r.found.snapshots, gone)
	r.found.snapshots = slices.DeleteFunc(r.found.snapshots, gone)
	return err
}

// settle makes durable what was scanned and rebuilt, and all names.
func (r *recovering) settle() error {
	l := r.l
	list := l.list()
	for _, s := range list[r.first : len(list)-1] {
		if err := s.flushIndex(true); err != nil {
			return err
		}
		if err := s.syncFiles(); err != nil {
			return err
		}
	}
	if err := l.active().flushIndex(false); err != nil {
		return err
	}
	if err := syncDir(l.dir.cfg.FS, l.path); err != nil || r.known {
		return err
	}
	if err := l.syncNamed(path.Join(l.path, metadataFile)); err != nil {
		return err
	}
	return syncDir(l.dir.cfg.FS, l.dir.cfg.Path)
}
