package log

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// Slice is a run of whole batches of one segment: a range of a file, which it
// pins, and which needs no memory until it is read. The zero value is empty. Release
// must be called exactly once; the other methods not after it. One goroutine at a time.
type Slice struct {
	segment     *segment
	handle      *handle
	offset      int64
	length      int64
	first, next protocol.Offset
}

// Len is the number of bytes.
func (s Slice) Len() int { return int(s.length) }

// First is the base offset of the first batch, Next the offset after the last
// one; of an empty slice both are the offset that was asked for.
func (s Slice) First() protocol.Offset { return s.first }

// Next is the offset after the last batch.
func (s Slice) Next() protocol.Offset { return s.next }

// ReadAt reads from the batches: 0 is the first byte of the first one.
func (s Slice) ReadAt(p []byte, off int64) (int, error) {
	if s.handle == nil {
		return 0, io.EOF
	}
	return io.NewSectionReader(s.handle.file, s.offset, s.length).ReadAt(p, off)
}

// WriteTo writes the batches to w. Fewer bytes in the file than there were
// give io.ErrUnexpectedEOF (the log was truncated, which only happens above the HW).
func (s Slice) WriteTo(w io.Writer) (int64, error) {
	if s.handle == nil {
		return 0, nil
	}
	n, err := io.Copy(w, io.NewSectionReader(s.handle.file, s.offset, s.length))
	if err == nil && n < s.length {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Bytes reads the batches into memory.
func (s Slice) Bytes() ([]byte, error) {
	if s.handle == nil {
		return nil, nil
	}
	b := make([]byte, s.length)
	return b, readFull(s.handle.file, b, s.offset)
}

// File is the range as one of the operating system's, for sendfile; ok is false
// where there is no such file. The file's own offset must not be used or moved.
func (s Slice) File() (f *os.File, offset, length int64, ok bool) {
	if s.handle == nil {
		return nil, 0, 0, false
	}
	f, ok = vfs.Underlying(s.handle.file)
	return f, s.offset, s.length, ok
}

// Release unpins the file.
func (s Slice) Release() {
	if s.handle == nil {
		return
	}
	s.segment.log.dir.handles.release(s.handle)
	s.segment.unpin()
}

// Read returns whole batches that lie wholly below an offset, as many as
// maxBytes holds: the first is the one that holds from, or the first after it where
// from lies in a gap. With minOne that one comes even when it is larger. Where
// there is none yet the slice is empty. ErrOffsetOutOfRange outside of [Start, LEO].
func (l *Log) Read(from, below protocol.Offset, maxBytes int, minOne bool) (Slice, error) {
	for {
		s, err := l.read(from, below, int64(maxBytes), minOne)
		if !errors.Is(err, errGone) {
			return s, err
		}
		// A segment was deleted under us: the list is a newer one now.
	}
}

func (l *Log) read(from, below protocol.Offset, maxBytes int64, minOne bool) (Slice, error) {
	empty := Slice{first: from, next: from}
	list := l.list()
	if start, leo := l.Start(), l.LEO(); from < start || from > leo {
		return empty, fmt.Errorf("%w: %d is not in [%d, %d] of %s", ErrOffsetOutOfRange, from, start, leo, l.name)
	}
	i := find(list, from)
	if i < 0 {
		if len(list) == 0 {
			return empty, nil
		}
		return empty, errGone // Start was read before the list lost its first segments
	}
	for ; i < len(list) && list[i].base < below; i++ {
		s, ok, err := list[i].read(from, below, maxBytes, minOne)
		if err != nil || ok {
			return s, err
		}
	}
	return empty, nil
}

// find returns the index of the segment whose range holds o, or -1.
func find(list []*segment, o protocol.Offset) int {
	return sort.Search(len(list), func(i int) bool { return list[i].base > o }) - 1
}

// read is Log.read within one segment; ok is false where it holds no batch that
// ends above from.
func (s *segment) read(from, below protocol.Offset, maxBytes int64, minOne bool) (out Slice, ok bool, err error) {
	empty := Slice{first: from, next: from}
	if !s.pin() {
		return empty, false, errGone
	}
	h, err := s.log.dir.handles.acquire(s, logKind)
	if err != nil {
		s.unpin()
		return empty, false, err
	}
	defer func() {
		if out.handle == nil {
			s.log.dir.handles.release(h)
			s.unpin()
		}
	}()
	filled := s.filled.Load()
	first, ok, err := s.seek(from, filled.size)
	if err != nil || !ok {
		return empty, false, err
	}
	if first.next > below || first.total > maxBytes && !minOne {
		return empty, true, nil
	}
	out = Slice{segment: s, handle: h, offset: first.pos, length: first.total, first: first.base, next: first.next}
	switch {
	case first.total >= maxBytes:
	case below >= filled.next && filled.size-first.pos <= maxBytes:
		out.length, out.next = filled.size-first.pos, filled.next
	default:
		end, err := s.endWithin(first, min(filled.size, first.pos+maxBytes), below, filled.size)
		if err != nil {
			return Slice{first: from, next: from}, false, err
		}
		out.length, out.next = end.pos+end.total-first.pos, end.next
	}
	return out, true, nil
}

// place is where a batch lies in a segment.
type place struct {
	pos, total int64
	base, next protocol.Offset
	epoch      protocol.Epoch
	maxTime    protocol.Timestamp
}

func placeOf(h record.Batch, pos, total int64) place {
	return place{pos, total, h.BaseOffset(), h.NextOffset(), h.LeaderEpoch(), h.MaxTimestamp()}
}

// seek finds the first batch that ends above from.
func (s *segment) seek(from protocol.Offset, size int64) (found place, ok bool, err error) {
	pos, err := s.lookupOffset(from)
	if err != nil {
		return place{}, false, err
	}
	err = s.steps(min(pos, size), size, func(h record.Batch, pos, total int64) (bool, error) {
		if h.NextOffset() <= from {
			return true, nil
		}
		found, ok = placeOf(h, pos, total), true
		return false, nil
	})
	return found, ok, err
}

// endWithin finds the last batch at or after first that ends at or before
// position limit and offset below.
func (s *segment) endWithin(first place, limit int64, below protocol.Offset, size int64) (place, error) {
	byPos, err := s.lookupPosition(limit)
	if err != nil {
		return first, err
	}
	byOffset, err := s.lookupOffset(below - 1)
	if err != nil {
		return first, err
	}
	last := first
	for from := max(first.pos, min(byPos, byOffset)); ; {
		err := s.steps(from, size, func(h record.Batch, pos, total int64) (bool, error) {
			if pos+total > limit || h.NextOffset() > below {
				return false, nil
			}
			last = placeOf(h, pos, total)
			return true, nil
		})
		if err != nil || last.pos >= from || from == first.pos {
			return last, err
		}
		// The batch found passes the limit itself, and the one before it is not known.
		before, err := s.lookupPosition(from - 1)
		if err != nil {
			return last, err
		}
		from = max(first.pos, before)
	}
}
