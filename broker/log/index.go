package log

import (
	"encoding/binary"
	"errors"
	"io"
	"sort"

	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// Sizes of Kafka's index entries, and how many of each kind an active segment
// holds back in memory. The index is sparse: a missing entry costs time, not truth.
const (
	indexEntry = 8  // relative offset int32, position int32
	timeEntry  = 12 // timestamp int64, relative offset int32
	maxPending = 64
	indexPage  = 4096
)

// offsetEntry says that the batch whose last offset is base+rel begins at pos.
type offsetEntry struct{ rel, pos uint32 }

// timedEntry says that no record up to base+rel is later than ts, and that the
// batch with the last offset base+rel was the first to reach it.
type timedEntry struct {
	ts  protocol.Timestamp
	rel uint32
}

// segmentIndex is a segment's sparse index: the written entries are in the
// files, the newest in memory. segment.mu guards it; only the appender changes it.
type segmentIndex struct {
	offsets                      []offsetEntry
	times                        []timedEntry
	offsetsWritten, timesWritten int64
	lastTime                     protocol.Timestamp // of the newest time entry
	lastWritten                  protocol.Timestamp // of the newest one in the file
	max                          timedEntry         // over all batches
	maxKnown                     bool               // else max and lastTime are still to be read from the file
}

func (x *segmentIndex) init() {
	*x = segmentIndex{lastTime: protocol.NoTimestamp, lastWritten: protocol.NoTimestamp, maxKnown: true}
	x.max.ts = protocol.NoTimestamp
}

// note takes a batch into the maximum and, with entry, adds index entries for it.
func (s *segment) note(last protocol.Offset, ts protocol.Timestamp, pos int64, entry bool) (pending int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.index
	rel := uint32(last - s.base)
	if ts > x.max.ts {
		x.max = timedEntry{ts, rel}
	}
	if entry {
		x.offsets = append(x.offsets, offsetEntry{rel, uint32(pos)})
		x.pushTime()
	}
	return max(len(x.offsets), len(x.times))
}

// pushTime adds a time entry if the maximum has grown since the last.
func (x *segmentIndex) pushTime() {
	if x.max.ts > x.lastTime {
		x.times = append(x.times, x.max)
		x.lastTime = x.max.ts
	}
}

// indexFull tells whether another entry would pass segment.index.bytes.
func (s *segment) indexFull(limit int64) bool {
	if limit <= 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.index
	return x.offsetsWritten+int64(len(x.offsets)) >= limit/indexEntry ||
		x.timesWritten+int64(len(x.times)) >= limit/timeEntry-1 // one is kept for the seal
}

// flushIndex writes the entries held in memory, with final also the one that
// says the segment's maximum. Only the appender calls it.
func (s *segment) flushIndex(final bool) error {
	s.mu.Lock()
	x := &s.index
	if final && x.maxKnown {
		x.pushTime()
	}
	offsets, times := make([]byte, 0, len(x.offsets)*indexEntry), make([]byte, 0, len(x.times)*timeEntry)
	for _, e := range x.offsets {
		offsets = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(offsets, e.rel), e.pos)
	}
	for _, e := range x.times {
		times = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(times, uint64(e.ts)), e.rel)
	}
	offsetsAt, timesAt := x.offsetsWritten*indexEntry, x.timesWritten*timeEntry
	s.mu.Unlock()
	if err := s.writeIndex(indexKind, offsets, offsetsAt, final); err != nil {
		return err
	}
	if err := s.writeIndex(timeKind, times, timesAt, final); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x.offsetsWritten += int64(len(x.offsets))
	x.timesWritten += int64(len(x.times))
	x.offsets, x.times = nil, nil
	x.lastWritten = x.lastTime
	return nil
}

// dropPending forgets the entries held in memory.
func (s *segment) dropPending() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.offsets, s.index.times = nil, nil
	s.index.lastTime = s.index.lastWritten
}

// writeIndex adds entries to an index file; a sealed one is there even when empty.
func (s *segment) writeIndex(kind fileKind, entries []byte, at int64, final bool) error {
	if len(entries) == 0 && !final {
		return nil
	}
	return s.log.dir.handles.with(s, kind, func(f vfs.File) error {
		if len(entries) == 0 {
			return nil
		}
		_, err := f.WriteAt(entries, at)
		return err
	})
}

// resetIndex empties the index and its files.
func (s *segment) resetIndex() error {
	s.mu.Lock()
	s.index.init()
	s.mu.Unlock()
	for _, kind := range []fileKind{indexKind, timeKind} {
		if err := s.log.dir.handles.with(s, kind, func(f vfs.File) error { return f.Truncate(0) }); err != nil {
			return err
		}
	}
	return nil
}

// reindex builds the index anew from the headers of the batches below limit.
func (s *segment) reindex(limit int64) error {
	if err := s.resetIndex(); err != nil {
		return err
	}
	b := indexBuilder{segment: s}
	err := s.steps(0, limit, func(h record.Batch, pos, total int64) (bool, error) {
		return true, b.add(h, pos, total)
	})
	if err != nil {
		return err
	}
	return s.flushIndex(false)
}

// timeOf is the greatest timestamp of a batch's records. One that compaction emptied still names that of what it held.
func timeOf(h record.Batch) protocol.Timestamp {
	if h.Count() == 0 {
		return protocol.NoTimestamp
	}
	return h.MaxTimestamp()
}

// indexBuilder adds batches to a segment's index at the interval of its log.
type indexBuilder struct {
	segment *segment
	since   int64 // bytes since the last entry
}

func (b *indexBuilder) add(h record.Batch, pos, total int64) error {
	entry := b.since > b.segment.log.config().IndexIntervalBytes
	if entry {
		b.since = 0
	}
	b.since += total
	if b.segment.note(h.LastOffset(), timeOf(h), pos, entry) >= maxPending {
		return b.segment.flushIndex(false)
	}
	return nil
}

// lookupOffset returns a position at or before the first batch that ends at or
// above target, and at or after which no earlier batch does.
func (s *segment) lookupOffset(target protocol.Offset) (int64, error) {
	rel := uint32(min(max(0, target-s.base), 1<<32-1))
	if target < s.base {
		return 0, nil
	}
	return s.lookup(func(e offsetEntry) bool { return e.rel <= rel })
}

// lookupPosition returns the last known start of a batch at or before pos.
func (s *segment) lookupPosition(pos int64) (int64, error) {
	limit := uint32(min(pos, 1<<32-1))
	return s.lookup(func(e offsetEntry) bool { return e.pos <= limit })
}

// lookup returns the position of the last entry for which before holds, or 0.
func (s *segment) lookup(before func(offsetEntry) bool) (int64, error) {
	s.mu.Lock()
	pending := s.index.offsets
	if n := sort.Search(len(pending), func(i int) bool { return !before(pending[i]) }); n > 0 {
		pos := pending[n-1].pos
		s.mu.Unlock()
		return int64(pos), nil
	}
	written := s.index.offsetsWritten
	s.mu.Unlock()
	entry, err := s.search(indexKind, written, indexEntry, func(e []byte) bool {
		return before(offsetEntry{binary.BigEndian.Uint32(e), binary.BigEndian.Uint32(e[4:])})
	})
	if entry == nil || err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint32(entry[4:])), nil
}

// lookupTime returns an offset below which all records are earlier than ts.
func (s *segment) lookupTime(ts protocol.Timestamp) (protocol.Offset, error) {
	s.mu.Lock()
	pending := s.index.times
	if n := sort.Search(len(pending), func(i int) bool { return pending[i].ts > ts }); n > 0 {
		rel := pending[n-1].rel
		s.mu.Unlock()
		return s.base + protocol.Offset(rel), nil
	}
	written := s.index.timesWritten
	s.mu.Unlock()
	entry, err := s.search(timeKind, written, timeEntry, func(e []byte) bool {
		return protocol.Timestamp(binary.BigEndian.Uint64(e)) <= ts
	})
	if entry == nil || err != nil {
		return s.base, err
	}
	return s.base + protocol.Offset(binary.BigEndian.Uint32(entry[8:])), nil
}

// search returns the last of n sorted entries in an index file for which before
// holds, or nil. It reads the firsts of pages, then one page.
func (s *segment) search(kind fileKind, n int64, size int, before func([]byte) bool) (entry []byte, err error) {
	if n == 0 {
		return nil, nil
	}
	err = s.log.dir.handles.with(s, kind, func(f vfs.File) error {
		per := indexPage / size
		pages := int((n + int64(per) - 1) / int64(per))
		first := make([]byte, size)
		var failed error
		after := sort.Search(pages, func(i int) bool {
			if failed == nil {
				failed = readFull(f, first, int64(i)*int64(per*size))
			}
			return !before(first)
		})
		if failed != nil || after == 0 {
			return failed
		}
		from := int64(after-1) * int64(per)
		page := make([]byte, min(int64(per), n-from)*int64(size))
		if err := readFull(f, page, from*int64(size)); err != nil {
			return err
		}
		i := sort.Search(len(page)/size, func(i int) bool { return !before(page[i*size : (i+1)*size]) })
		if i > 0 {
			entry = page[(i-1)*size : i*size]
		}
		return nil
	})
	return entry, err
}

// maximum returns the greatest timestamp of the segment's batches and the last
// offset of the first batch that has it; NoTimestamp without a batch that has one.
func (s *segment) maximum() (protocol.Timestamp, protocol.Offset, error) {
	s.mu.Lock()
	known, m, written := s.index.maxKnown, s.index.max, s.index.timesWritten
	s.mu.Unlock()
	if known {
		return m.ts, s.base + protocol.Offset(m.rel), nil
	}
	entry := make([]byte, timeEntry)
	err := s.log.dir.handles.with(s, timeKind, func(f vfs.File) error {
		return readFull(f, entry, (written-1)*timeEntry)
	})
	if err != nil {
		return protocol.NoTimestamp, protocol.NoOffset, err
	}
	m = timedEntry{protocol.Timestamp(binary.BigEndian.Uint64(entry)), binary.BigEndian.Uint32(entry[8:])}
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := &s.index; !x.maxKnown {
		x.max, x.maxKnown, x.lastTime, x.lastWritten = m, true, m.ts, m.ts
	}
	return m.ts, s.base + protocol.Offset(m.rel), nil
}

// adoptIndex takes index files as they are: whole entries, the last time entry
// being the maximum, as a seal or clean stop left them. It tells whether they can be that.
func (s *segment) adoptIndex(indexSize, timeSize int64) bool {
	if indexSize < 0 || timeSize < 0 || indexSize%indexEntry != 0 || timeSize%timeEntry != 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.init()
	s.index.offsetsWritten, s.index.timesWritten = indexSize/indexEntry, timeSize/timeEntry
	s.index.maxKnown = timeSize == 0 // no record has a timestamp
	return true
}

// steps calls do for each batch header from pos, the start of a batch, to
// limit, the end of one, until it returns false.
func (s *segment) steps(pos, limit int64, do func(h record.Batch, pos, total int64) (bool, error)) error {
	f, err := s.log.dir.handles.acquire(s, logKind)
	if err != nil {
		return err
	}
	defer s.log.dir.handles.release(f)
	buf := s.log.dir.buffer()
	defer s.log.dir.buffers.Put(buf)
	w := stepper{file: f.file, pos: pos, limit: limit, buf: *buf}
	for {
		h, at, total, err := w.step()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, record.ErrShort), errors.Is(err, record.ErrCorrupt):
			return s.corrupt(at, protocol.NoOffset, err)
		case err != nil:
			return err
		}
		if more, err := do(h, at, total); err != nil || !more {
			return err
		}
	}
}
