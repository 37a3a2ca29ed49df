package log

import (
	"errors"
	"fmt"
	"io"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// Sealed lists the sealed and synced ranges at or above from that end at or
// below an offset, in order. The first may begin inside a segment.
func (l *Log) Sealed(from, below protocol.Offset) ([]SegmentRange, error) {
	list := l.list()
	if len(list) == 0 {
		return nil, nil
	}
	if from < list[0].base {
		return nil, fmt.Errorf("sealed ranges of %s from %d: %w: it begins at %d", l.name, from, ErrOffsetOutOfRange, list[0].base)
	}
	var out []SegmentRange
	for i := max(0, find(list, from)); i+1 < len(list) && list[i].synced.Load() && list[i+1].base <= below; i++ {
		s, end := list[i], list[i+1].base
		if !s.pin() {
			return nil, fmt.Errorf("sealed ranges of %s from %d: %w", l.name, from, ErrOffsetOutOfRange)
		}
		r, _, err := s.rangeFrom(from, end)
		s.unpin()
		if err != nil {
			return nil, fmt.Errorf("sealed ranges of %s: %w", l.name, err)
		}
		if r.Bytes > 0 {
			out = append(out, r)
			from = end
		} // else a gap: the next range covers it
	}
	return out, nil
}

// rangeFrom is the part of a sealed segment at or above from, and where it
// begins in the file.
func (s *segment) rangeFrom(from, end protocol.Offset) (SegmentRange, int64, error) {
	size := s.filled.Load().size
	r := SegmentRange{Base: from, End: end, MaxTimestamp: protocol.NoTimestamp, Sealed: s.sealedAt()}
	first, ok, err := s.seek(from, size)
	if err != nil || !ok {
		return r, size, err
	}
	r.Base, r.Bytes = min(from, first.base), size-first.pos
	greatest, last, err := s.maximum()
	if err != nil {
		return r, first.pos, err
	}
	if last >= first.base {
		r.MaxTimestamp = greatest
		return r, first.pos, nil
	}
	err = s.steps(first.pos, size, func(h record.Batch, _, _ int64) (bool, error) {
		r.MaxTimestamp = max(r.MaxTimestamp, timeOf(h))
		return true, nil
	})
	return r, first.pos, err
}

// OpenSealed pins a range that Sealed listed. ErrOffsetOutOfRange where it is
// not, or no longer, a range of one sealed segment.
func (l *Log) OpenSealed(r SegmentRange) (SealedReader, error) {
	out, err := l.openSealed(r)
	if err != nil {
		return nil, fmt.Errorf("open sealed range [%d, %d) of %s: %w", r.Base, r.End, l.name, err)
	}
	return out, nil
}

func (l *Log) openSealed(r SegmentRange) (_ *sealedReader, err error) {
	list := l.list()
	i := find(list, r.End) - 1
	if i < 0 || list[i+1].base != r.End || !list[i].synced.Load() {
		return nil, ErrOffsetOutOfRange
	}
	s := list[i]
	if !s.pin() {
		return nil, ErrOffsetOutOfRange
	}
	h, err := l.dir.handles.acquire(s, logKind)
	if err != nil {
		s.unpin()
		return nil, err
	}
	out := &sealedReader{slice: Slice{segment: s, handle: h}}
	defer func() {
		if err != nil {
			out.slice.Release()
		}
	}()
	var pos int64
	if out.r, pos, err = s.rangeFrom(r.Base, r.End); err != nil {
		return nil, err
	}
	if out.r.Base != r.Base || out.r.Bytes != r.Bytes {
		return nil, ErrOffsetOutOfRange
	}
	out.slice.offset, out.slice.length = pos, out.r.Bytes
	out.slice.first, out.slice.next = r.Base, r.End
	if out.producers, err = l.producersAt(r.End); err != nil {
		return nil, err
	}
	if out.aborted, err = l.Aborted(r.Base, r.End); err != nil {
		return nil, err
	}
	l.mu.Lock()
	out.epochs = l.epochs.within(r.Base, r.End)
	l.mu.Unlock()
	return out, nil
}

// sealedReader implements SealedReader.
type sealedReader struct {
	slice     Slice
	r         SegmentRange
	epochs    []protocol.EpochStart
	producers []byte
	aborted   []protocol.AbortedTxn
	closed    bool
}

func (s *sealedReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.slice.ReadAt(p, off)
	if errors.Is(err, io.EOF) && off+int64(n) < s.r.Bytes {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (s *sealedReader) Range() SegmentRange            { return s.r }
func (s *sealedReader) Epochs() []protocol.EpochStart  { return s.epochs }
func (s *sealedReader) Producers() []byte              { return s.producers }
func (s *sealedReader) Aborted() []protocol.AbortedTxn { return s.aborted }

// Close unpins the range. It may be called again.
func (s *sealedReader) Close() error {
	if !s.closed {
		s.closed = true
		s.slice.Release()
	}
	return nil
}
