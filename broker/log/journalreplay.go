package log

import (
	"fmt"
	"math"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// journaledTo is how far the journal holds the log without a gap from an offset on;
// the offset itself where it holds nothing there.
func (r *recovering) journaledTo(from protocol.Offset) (protocol.Offset, error) {
	l := r.l
	places, _, _ := l.dir.journal.found(l.key)
	files := journalFiles{fs: l.dir.cfg.FS}
	defer files.close()
	for _, at := range places {
		e, _, err := files.entry(at, math.MaxInt64)
		if err != nil {
			return 0, err
		}
		if e.from <= from {
			from = max(from, e.to)
		}
	}
	return from, nil
}

// replay appends to the file what only the journal holds: never over what is there, in the order of
// offsets, and only what continues the log. It is synced on return. What cannot be applied
// is given up by a reset, and reported. It returns the log end.
func (r *recovering) replay() (protocol.Offset, error) {
	l := r.l
	active := l.active()
	places, known, ok := l.dir.journal.found(l.key)
	if !ok {
		return active.filled.Load().next, nil
	}
	before := active.filled.Load().size
	if active.filled.Load().next < known {
		if err := r.apply(active, places); err != nil {
			return 0, err
		}
	}
	done := active.filled.Load()
	r.rec.JournaledBytes = done.size - before
	if done.size > before {
		if err := l.dir.handles.with(active, logKind, syncFile); err != nil {
			return 0, err
		}
		l.dir.cfg.Logger.Info("log is continued from the journal", "log", l.name, "bytes", done.size-before, "end", int64(done.next))
	}
	r.account(done.next, known)
	if done.next < known {
		l.dir.cfg.Logger.Error("journal does not continue the log: synced bytes are missing", "log", l.name, "end", int64(done.next), "durable", int64(known))
		return done.next, l.dir.journal.reset(l.key, done.next, r.epochs.latest())
	}
	return done.next, nil
}

// account says what is lost after all, now that the log ends at end and was once durable up
// to known.
func (r *recovering) account(end, known protocol.Offset) {
	rec := &r.rec
	cut := rec.Torn || rec.Unclean
	switch {
	case end < known:
		rec.Torn, rec.Unclean = false, true
		rec.CutFrom, rec.CutTo = end, max(rec.CutTo, known)
	case cut && end >= rec.CutTo && rec.JournaledBytes >= rec.CutBytes:
		rec.Torn, rec.Unclean, rec.CutFrom, rec.CutTo, rec.CutBytes = false, false, 0, 0, 0
	case cut:
		rec.CutFrom, rec.CutTo, rec.CutBytes = end, max(rec.CutTo, end), max(0, rec.CutBytes-rec.JournaledBytes)
	}
}

// apply appends the entries that continue the segment.
func (r *recovering) apply(s *segment, places []journalPlace) error {
	h, err := r.l.dir.handles.acquire(s, logKind)
	if err != nil {
		return err
	}
	defer r.l.dir.handles.release(h)
	files := journalFiles{fs: r.l.dir.cfg.FS}
	defer files.close()
	index := indexBuilder{segment: s}
	for _, at := range places {
		e, batches, err := files.entry(at, s.filled.Load().next)
		if err != nil {
			return err
		}
		expected := e.from
		for len(batches) > 0 && expected <= s.filled.Load().next {
			b, rest, err := record.Split(batches)
			if err == nil {
				err = b.Check()
			}
			if err != nil {
				return fmt.Errorf("%w: %s at byte %d: batch at offset %d: %w", ErrJournal, at.segment.path, at.pos, expected, err)
			}
			done := s.filled.Load()
			if expected == done.next {
				if err := r.admit(s, b, done.next); err != nil {
					return fmt.Errorf("%w: %s at byte %d: %w", ErrJournal, at.segment.path, at.pos, err)
				}
				if _, err := h.file.WriteAt(b, done.size); err != nil {
					return fmt.Errorf("write %s: %w", s.name(), err)
				}
				r.epochs.assign(b.LeaderEpoch(), b.BaseOffset())
				if err := index.add(b, done.size, int64(len(b))); err != nil {
					return err
				}
				s.filled.Store(&extent{size: done.size + int64(len(b)), next: b.NextOffset()})
			}
			expected, batches = b.NextOffset(), rest
		}
	}
	return nil
}
