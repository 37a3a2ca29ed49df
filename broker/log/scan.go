package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"path"

	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

const (
	scanWindow = 256 << 10
	walkWindow = 64 << 10 // of headers, where batches are small
)

// badPlace is where a scan met what cannot be a batch.
type badPlace struct {
	segment int             // index in the list
	pos     int64           // bytes before it are good
	from    protocol.Offset // offset that should have come
	reason  string
}

// scanAll syncs and reads every segment from the recovery point on, building
// the indexes anew, until the first bad place.
func (r *recovering) scanAll() (*badPlace, error) {
	list := r.found.segments
	for i := r.first; i < len(list); i++ {
		s := list[i]
		if i > r.first {
			if before := list[i-1].filled.Load(); before.next != s.base {
				// Appends leave no gap between segments, so bytes are missing.
				return &badPlace{i - 1, before.size, before.next, fmt.Sprintf("next segment begins at %d", s.base)}, nil
			}
		}
		if err := r.fresh(s); err != nil {
			return nil, err
		}
		bad, err := r.scan(s)
		if err != nil {
			return nil, err
		}
		if bad != nil {
			bad.segment = i
			return bad, nil
		}
	}
	return nil, nil
}

// fresh makes the file durable; its index is built anew.
func (r *recovering) fresh(s *segment) error {
	err := r.l.dir.handles.with(s, logKind, func(f vfs.File) error {
		if err := syncFile(f); err != nil {
			return err
		}
		size, err := f.Size()
		if err == nil {
			s.filled.Store(&extent{size: size, next: s.base})
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.resetIndex()
}

// segmentScan is the reading of one segment.
type segmentScan struct {
	r     *recovering
	s     *segment
	index indexBuilder
	done  extent // what is good so far
}

// scan reads one segment and sets how far it is filled.
func (r *recovering) scan(s *segment) (*badPlace, error) {
	h, err := r.l.dir.handles.acquire(s, logKind)
	if err != nil {
		return nil, err
	}
	defer r.l.dir.handles.release(h)
	c := segmentScan{r: r, s: s, index: indexBuilder{segment: s}, done: extent{next: s.base}}
	size := s.filled.Load().size
	err = c.walk(h.file, size)
	walked := c.done.size
	if err == nil {
		err = c.check(h.file, size)
	}
	r.rec.ScannedBytes += c.done.size - walked
	s.filled.Store(&c.done)
	if isBad(err) {
		return &badPlace{pos: c.done.size, from: c.done.next, reason: err.Error()}, nil
	}
	return nil, err
}

// walk goes over the headers of the batches below the recovery point. As in the segments before it their
// CRC is not computed: they were synced, and what harms them later is not a crash.
func (c *segmentScan) walk(f vfs.File, size int64) error {
	if c.r.found.marked || c.r.point <= c.s.base {
		return nil
	}
	w := stepper{file: f, limit: size, buf: make([]byte, min(walkWindow, size))}
	for {
		h, _, total, err := w.step()
		switch {
		case errors.Is(err, io.EOF), err == nil && h.NextOffset() > c.r.point:
			return nil
		case err != nil:
			return err
		}
		if err := c.take(h, total); err != nil {
			return err
		}
	}
}

// check reads whole batches up to the end, as the disk holds them: after a failed sync the cache
// shows what it does not.
func (c *segmentScan) check(f vfs.File, size int64) error {
	if c.done.size == size {
		return nil
	}
	if err := f.DropCache(c.done.size); err != nil {
		return err
	}
	w := window{file: f, size: size}
	for c.done.size < size {
		b, err := w.batch(c.done.size)
		if err == nil {
			err = c.take(b, int64(len(b)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take counts the batch that comes next as one of the log.
func (c *segmentScan) take(h record.Batch, total int64) error {
	if err := c.r.admit(c.s, h, c.done.next); err != nil {
		return err
	}
	c.r.epochs.assign(h.LeaderEpoch(), h.BaseOffset())
	if err := c.index.add(h, c.done.size, total); err != nil {
		return err
	}
	c.done = extent{size: c.done.size + total, next: h.NextOffset()}
	return nil
}

// admit tells whether a good batch may come here: offsets ascend, epochs do not go back.
func (r *recovering) admit(s *segment, b record.Batch, next protocol.Offset) error {
	switch {
	case b.BaseOffset() < next || b.LastOffset() < b.BaseOffset() || b.LastOffset()-s.base > math.MaxInt32:
		return fmt.Errorf("%w: batch at %d to %d, expected %d", record.ErrInvalid, b.BaseOffset(), b.LastOffset(), next)
	case b.LeaderEpoch() < r.epochs.latest():
		return fmt.Errorf("%w: batch at %d of epoch %d after epoch %d", record.ErrInvalid, b.BaseOffset(), b.LeaderEpoch(), r.epochs.latest())
	}
	return nil
}

func isBad(err error) bool {
	for _, kind := range []error{record.ErrShort, record.ErrCorrupt, record.ErrInvalid, record.ErrOldFormat} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// window reads a file forward, a large piece at a time.
type window struct {
	file vfs.File
	size int64
	buf  []byte
	at   int64
	n    int
}

// bytes returns n bytes at pos, valid until the next call. What it has of them is not read again.
func (w *window) bytes(pos int64, n int) ([]byte, error) {
	if pos < w.at || pos+int64(n) > w.at+int64(w.n) {
		var kept []byte
		if pos >= w.at && pos < w.at+int64(w.n) {
			kept = w.buf[pos-w.at : w.n]
		}
		want := int(min(int64(max(n, scanWindow)), w.size-pos))
		buf := w.buf
		if cap(buf) < want || cap(buf) > 16*scanWindow && want <= scanWindow {
			buf = make([]byte, want)
		}
		have := copy(buf[:want], kept)
		w.buf, w.at, w.n = buf[:cap(buf)], pos, 0
		if err := readFull(w.file, buf[have:want], pos+int64(have)); err != nil {
			return nil, err
		}
		w.n = want
	}
	return w.buf[pos-w.at : pos-w.at+int64(n)], nil
}

// batch returns the whole, checked batch at pos.
func (w *window) batch(pos int64) (record.Batch, error) {
	if w.size-pos < record.HeaderLen {
		return nil, fmt.Errorf("%w: %d bytes", record.ErrShort, w.size-pos)
	}
	header, err := w.bytes(pos, record.HeaderLen)
	if err != nil {
		return nil, err
	}
	total, err := record.TotalLen(header)
	switch {
	case err != nil:
		return nil, err
	case int64(total) > w.size-pos:
		return nil, fmt.Errorf("%w: %d of %d bytes", record.ErrShort, w.size-pos, total)
	case record.Batch(header).Magic() != record.Magic:
		return nil, fmt.Errorf("%w: %d", record.ErrOldFormat, record.Batch(header).Magic())
	}
	b, err := w.bytes(pos, total)
	if err != nil {
		return nil, err
	}
	return b, record.Batch(b).Check()
}

// judge decides what a bad place means (DESIGN D3): below the recovery point it
// is corruption. Above it, in the same boot, it is the torn end of the last append, unless
// something good comes after it. After a reboot blocks may be missing in any order:
// the log ends there, and the owner is told.
func (r *recovering) judge(bad *badPlace) error {
	l := r.l
	s := r.found.segments[bad.segment]
	corrupt := &CorruptError{File: s.name(), Position: bad.pos, From: bad.from, To: protocol.NoOffset, Reason: bad.reason}
	strict := l.dir.sameBoot || l.dir.strict || r.found.marked
	if bad.from < r.point || strict {
		least := bad.from
		if bad.from >= r.point {
			// What the journal holds may be lost here, also in the middle.
			var err error
			if least, err = r.journaledTo(bad.from); err != nil {
				return err
			}
		}
		after, found, err := r.goodAfter(bad, least)
		if err != nil {
			return err
		}
		if found {
			corrupt.To = after
		}
		if bad.from < r.point || found {
			return r.mark(corrupt)
		}
	}
	last := r.found.segments[len(r.found.segments)-1]
	r.rec.CutFrom, r.rec.CutTo = bad.from, max(bad.from, last.base)
	for _, later := range r.found.segments[bad.segment:] {
		size, err := later.fileSize()
		if err != nil {
			return err
		}
		r.rec.CutBytes += size
	}
	r.rec.CutBytes -= bad.pos
	r.rec.Torn, r.rec.Unclean = strict, !strict
	l.dir.cfg.Logger.Warn("log is cut at a bad batch", "log", l.name, "offset", int64(bad.from), "segment", s.name(), "position", bad.pos,
		"bytes", r.rec.CutBytes, "rebooted", !l.dir.sameBoot, "reason", bad.reason)
	return r.cut(bad)
}

func (s *segment) fileSize() (size int64, err error) {
	err = s.log.dir.handles.with(s, logKind, func(f vfs.File) error {
		size, err = f.Size()
		return err
	})
	return size, err
}

// mark notes durably that the log is corrupt, so that no later start, after a
// reboot, takes the place for one that may be cut.
func (r *recovering) mark(c *CorruptError) error {
	if !r.found.marked {
		if err := replaceFile(r.l.dir.cfg.FS, path.Join(r.l.path, corruptFile), []byte(c.Error()+"\n")); err != nil {
			return errors.Join(c, err)
		}
	}
	return c
}

// cut removes everything from the bad place on: from the top down, each step
// durable before the next, so that a crash on the way leaves a place to go on.
func (r *recovering) cut(bad *badPlace) error {
	l := r.l
	last := r.found.segments[bad.segment]
	done := last.filled.Load()
	for n := len(r.found.segments) - 1; n > bad.segment; n-- {
		left := r.found.segments[:n:n]
		l.segments.Store(&left)
		if err := l.remove(r.found.segments[n]); err != nil {
			return err
		}
	}
	last.sealed.Store(0)
	last.synced.Store(false)
	last.filled.Store(&extent{size: bad.pos, next: done.next})
	return l.dir.handles.with(last, logKind, func(f vfs.File) error {
		if err := f.Truncate(bad.pos); err != nil {
			return err
		}
		return syncFile(f)
	})
}

// goodAfter looks for a batch after the bad place that can be one of this log, of an offset at
// or above least, byte by byte, and in the segments after it.
func (r *recovering) goodAfter(bad *badPlace, least protocol.Offset) (protocol.Offset, bool, error) {
	for i, s := range r.found.segments[bad.segment:] {
		from := int64(0)
		if i == 0 {
			from = bad.pos + 1
		}
		var at protocol.Offset
		found := false
		err := r.l.dir.handles.with(s, logKind, func(f vfs.File) error {
			size, err := f.Size()
			if err == nil {
				w := window{file: f, size: size}
				at, found, err = r.search(&w, from, least)
			}
			return err
		})
		if err != nil || found {
			return at, found, err
		}
	}
	return protocol.NoOffset, false, nil
}

// search finds the first good batch in a file at or after pos, of an offset at
// or above least. What the header claims is weighed before the CRC is computed.
func (r *recovering) search(w *window, pos int64, least protocol.Offset) (protocol.Offset, bool, error) {
	for ; w.size-pos >= record.HeaderLen; pos++ {
		h, err := w.bytes(pos, record.HeaderLen)
		if err != nil {
			return 0, false, err
		}
		if h[16] != record.Magic {
			continue
		}
		b := record.Batch(h)
		length := int64(int32(binary.BigEndian.Uint32(h[8:])))
		if length < record.HeaderLen-record.PrefixLen || length+record.PrefixLen > w.size-pos ||
			b.BaseOffset() < least || b.BaseOffset()-least > math.MaxInt32 || b.LeaderEpoch() < r.epochs.latest() {
			continue
		}
		b, err = w.batch(pos)
		switch {
		case err == nil:
			return b.BaseOffset(), true, nil
		case !isBad(err):
			return 0, false, err
		}
	}
	return 0, false, nil
}
