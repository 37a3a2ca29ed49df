package log

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// How a group of segments is replaced, each step durable before the next:
//
//  1. The new files are written as .cleaned. The indexes are renamed to .swap.
//  2. The log file is renamed to .swap. From here on the new segment counts: a start
//     goes on with step 3 (finishCleaning). Before, it removes what was written.
//  3. The old files are renamed to .deleted; readers go on in them.
//  4. The indexes get their names. 5. The log file gets its name.
const (
	cleanedSuffix = ".cleaned"
	swapSuffix    = ".swap"
	writeBuffer   = 256 << 10
)

// rewrite is a new segment in the making.
type rewrite struct {
	p       *pass
	s       *segment
	h       *handle
	index   indexBuilder
	buf     []byte
	at      int64           // of buf in the file
	need    int64           // bytes at most
	next    protocol.Offset // after the last batch
	aborted []byte
	changed bool
}

// clean replaces a group by what the filter leaves of it. A single segment of which all stays is left as it is.
func (p *pass) clean(g group) error {
	for _, s := range g.segments {
		if !s.pin() {
			return errMoved
		}
		defer s.unpin()
	}
	w := &rewrite{p: p, s: newSegment(p.l, g.segments[0].base), need: g.bytes, changed: len(g.segments) > 1}
	err := w.copyAll(g)
	if err == nil && w.changed {
		if w.next != g.end {
			last := g.segments[len(g.segments)-1]
			err = last.corrupt(last.filled.Load().size, g.end, fmt.Errorf("its last batch ends at %d, the next segment begins at %d", w.next, g.end))
		} else {
			err = w.finish()
		}
	}
	if err == nil && w.changed {
		var committed bool
		if committed, err = p.replace(g, w.s); committed {
			p.l.dir.handles.release(w.h)
			p.stats.Groups++
			return err
		}
	}
	return errors.Join(err, w.abandon())
}

// copyAll writes what stays. While all of a single segment does, nothing is written.
func (w *rewrite) copyAll(g group) error {
	w.index.segment = w.s
	for i, s := range g.segments {
		end := g.end
		if i+1 < len(g.segments) {
			end = g.segments[i+1].base
		}
		aborted, err := w.p.l.Aborted(s.base, end)
		if err != nil {
			return err
		}
		w.p.filter.AddAborted(aborted)
		if err := w.p.batches(s, func(b record.Batch, pos int64) error {
			return w.take(g, s, b, pos)
		}); err != nil {
			return err
		}
	}
	return nil
}

// take asks the filter for a batch. The last of the group stays, empty if need be: a segment ends where the next
// begins, which tells recovery when something is missing.
func (w *rewrite) take(g group, s *segment, b record.Batch, pos int64) error {
	v, err := w.p.filter.Batch(b, b.NextOffset() == g.end)
	if err != nil {
		return err
	}
	if v.Aborted != nil && v.Batch != nil {
		w.aborted = producer.AppendAborted(w.aborted, *v.Aborted)
	}
	if !w.changed {
		if v.Batch != nil && !v.Changed {
			return nil
		}
		w.changed = true
		if err := w.catchUp(s, pos); err != nil {
			return err
		}
	}
	if v.Batch == nil {
		return nil
	}
	return w.add(v.Batch)
}

// catchUp writes the batches below pos of a single segment, all of which stayed.
func (w *rewrite) catchUp(s *segment, pos int64) error {
	if err := w.create(); err != nil || pos == 0 {
		return err
	}
	err := w.p.batches(s, func(b record.Batch, at int64) error {
		if at >= pos {
			return errStop
		}
		return w.add(b)
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// create makes the log file.
func (w *rewrite) create() (err error) {
	if w.h != nil {
		return nil
	}
	l := w.p.l
	if err := w.p.tidy(); err != nil {
		return err
	}
	if err := w.p.room(w.need); err != nil {
		return err
	}
	w.s.suffix = cleanedSuffix
	if err := writeFile(l.dir.cfg.FS, path.Join(l.path, fileName(w.s.base)+logKind.suffix()+cleanedSuffix), nil, false); err != nil {
		return err
	}
	w.h, err = l.dir.handles.acquire(w.s, logKind)
	return err
}

func (w *rewrite) add(b record.Batch) error {
	if err := w.create(); err != nil {
		return err
	}
	if err := w.p.paced(len(b)); err != nil {
		return err
	}
	if err := w.index.add(b, w.at+int64(len(w.buf)), int64(len(b))); err != nil {
		return err
	}
	w.buf, w.next = append(w.buf, b...), b.NextOffset()
	if len(w.buf) < writeBuffer {
		return nil
	}
	return w.flush()
}

func (w *rewrite) flush() error {
	if _, err := w.h.file.WriteAt(w.buf, w.at); err != nil {
		return fmt.Errorf("write %s: %w", w.s.name(), err)
	}
	w.at, w.buf = w.at+int64(len(w.buf)), w.buf[:0]
	return nil
}

// finish makes the new files durable under their first names.
func (w *rewrite) finish() error {
	if err := w.create(); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.s.filled.Store(&extent{size: w.at, next: w.next})
	if err := w.s.flushIndex(true); err != nil {
		return err
	}
	// There is one even when it is empty: it takes the place of the old one.
	err := w.p.l.dir.handles.with(w.s, txnKind, func(f vfs.File) error {
		if len(w.aborted) == 0 {
			return nil
		}
		_, err := f.WriteAt(w.aborted, 0)
		return err
	})
	if err != nil {
		return err
	}
	w.s.txns.Store(true)
	if err := w.s.syncFiles(); err != nil {
		return err
	}
	w.s.txns.Store(len(w.aborted) > 0)
	return syncDir(w.p.l.dir.cfg.FS, w.p.l.path)
}

// abandon removes what was written.
func (w *rewrite) abandon() error {
	if w.h == nil {
		return nil
	}
	l := w.p.l
	l.dir.handles.release(w.h)
	l.dir.handles.forget(w.s)
	w.h = nil
	var err error
	for kind := kinds; kind > 0; kind-- {
		for _, suffix := range []string{swapSuffix, cleanedSuffix} {
			err = errors.Join(err, removeFile(l.dir.cfg.FS, path.Join(l.path, fileName(w.s.base)+(kind-1).suffix()+suffix)))
		}
	}
	return err
}

// tidy does once a pass what must be durable before anything is replaced: the lineage, for batches
// that begin an epoch may go, and the recovery point, so that no start scans a cleaned segment, cuts it
// or asks the journal for what it held (DESIGN D3, D6).
func (p *pass) tidy() error {
	if p.tidied {
		return nil
	}
	if _, err := p.l.saveEpochs(); err != nil {
		return err
	}
	if p.dirt.End > p.l.RecoveryPoint() {
		return errMoved // it was cut meanwhile
	}
	if err := p.l.dir.writePoints(); err != nil {
		return err
	}
	p.tidied = true
	return nil
}

// replace puts the new segment in the place of the group. committed tells whether it counts: from then on an
// error leaves the log offline, as what is on the disk is not what is served.
func (p *pass) replace(g group, s *segment) (committed bool, err error) {
	l := p.l
	l.admin.Lock()
	defer l.admin.Unlock()
	if err := p.placeOf(g); err != nil {
		return false, err
	}
	// The state at a border cannot be told from the log any more.
	for _, at := range []*segment{g.segments[0], l.list()[find(l.list(), g.end)]} {
		if at.base > 0 {
			if err := l.saveSnapshot(at.base); err != nil {
				return false, err
			}
		}
	}
	for kind := indexKind; kind < kinds; kind++ {
		if err := s.rename(kind, cleanedSuffix, swapSuffix); err != nil {
			return false, err
		}
	}
	if err := syncDir(l.dir.cfg.FS, l.path); err != nil {
		return false, err
	}
	if err := s.rename(logKind, cleanedSuffix, swapSuffix); err != nil {
		return false, err
	}
	if err = p.commit(g, s); err != nil {
		err = l.dir.fatal(err)
		l.setOffline(err)
	}
	return true, err
}

// placeOf tells whether the group is still in the log as the pass saw it.
func (p *pass) placeOf(g group) error {
	l := p.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := p.unmoved(); err != nil {
		return err
	}
	list := l.list()
	i := slices.Index(list, g.segments[0])
	if i < 0 || i+len(g.segments) >= len(list) || list[i+len(g.segments)].base != g.end {
		return errMoved
	}
	for n, s := range g.segments {
		if list[i+n] != s || s.filled.Load() != g.filled[n] {
			return errMoved
		}
	}
	return nil
}

// commit is steps 2 to 5, and shows the new segment to readers.
func (p *pass) commit(g group, s *segment) error {
	l := p.l
	fsys := l.dir.cfg.FS
	if err := syncDir(fsys, l.path); err != nil {
		return err
	}
	// Another life of the segment may have readers as well: the names must differ.
	suffix := fmt.Sprintf(".%d", l.dir.replaced.Add(1))
	for _, old := range g.segments {
		if err := old.markReplaced(suffix); err != nil {
			return err
		}
	}
	if err := syncDir(fsys, l.path); err != nil {
		return err
	}
	for _, kinds := range [][]fileKind{{indexKind, timeKind, txnKind}, {logKind}} {
		for _, kind := range kinds {
			if err := s.rename(kind, swapSuffix, ""); err != nil {
				return err
			}
		}
		if err := syncDir(fsys, l.path); err != nil {
			return err
		}
	}
	p.publish(g, s)
	for _, old := range g.segments[1:] {
		if err := removeFile(fsys, l.snapshotPath(old.base)); err != nil {
			l.dir.cfg.Logger.Warn("producer snapshot was not removed, the next start does", "log", l.name, "offset", int64(old.base), "err", err)
		}
	}
	return nil
}

// publish shows the new segment to readers, and lets go of the old ones.
func (p *pass) publish(g group, s *segment) {
	l := p.l
	last := len(g.segments) - 1
	s.sealed.Store(g.segments[last].sealed.Load())
	s.synced.Store(true)
	l.mu.Lock()
	list := l.list()
	i := slices.Index(list, g.segments[0])
	left := slices.Concat(list[:i:i], []*segment{s}, list[i+len(g.segments):])
	l.segments.Store(&left)
	l.changed = true
	l.mu.Unlock()
	for _, old := range g.segments {
		old.unpin()
	}
}

// rename gives a file of a segment that is not shown to anybody yet another suffix. The log file's is the segment's.
func (s *segment) rename(kind fileKind, from, to string) error {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	name := path.Join(s.log.path, fileName(s.base)+kind.suffix())
	if err := s.log.dir.cfg.FS.Rename(name+from, name+to); err != nil {
		return err
	}
	if kind == logKind {
		s.suffix = to
	}
	return nil
}

// markReplaced is markDeleted under a name of its own.
func (s *segment) markReplaced(suffix string) error {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	fsys := s.log.dir.cfg.FS
	for kind := range kinds {
		from := s.path(kind)
		if err := ignoreMissing(fsys.Rename(from, from+suffix+deletedSuffix)); err != nil {
			return err
		}
	}
	s.suffix, s.dead = suffix, true
	return nil
}
