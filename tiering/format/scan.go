package format

import (
	"errors"
	"fmt"
	"io"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// scanner reads a segment object's batches once, in order, a chunk at a time,
// and collects all that the indexes say. Its memory does not depend on the
// size of batches: it holds one chunk and one batch header.
type scanner struct {
	base, end protocol.Offset
	chunkSize int64
	want      []uint32 // chunk CRCs to check, nil when building

	got digest

	header [record.HeaderLen]byte
	have   int    // bytes of header collected
	total  int    // of the current batch, known once the header is whole
	done   int    // bytes of the current batch seen
	crc    uint32 // running, of the current batch from record.CRC's first byte
	pos    int64  // where the current batch begins
	next   protocol.Offset
}

// digest is what the batches amount to.
type digest struct {
	offsets []offsetEntry
	times   []timeEntry
	chunks  []uint32
	crc     uint32 // of all bytes
	records int64
	maxTS   protocol.Timestamp
	horizon protocol.Timestamp // earliest delete horizon of a batch with records, 0 for none; not in the indexes
}

// offsetEntry is the first batch that begins in a chunk. A chunk in which none begins has no entry.
type offsetEntry struct {
	offset protocol.Offset
	pos    int64
}

// timeEntry says that a batch with max timestamp ts begins in the chunk of the batch at pos, and that no batch
// before pos has one as great. Entries ascend in both.
type timeEntry struct {
	ts  protocol.Timestamp
	pos int64
}

func newScanner(m SegmentMeta) *scanner {
	return &scanner{
		base: m.Base, end: m.End, chunkSize: int64(m.ChunkSize), next: m.Base,
		got: digest{maxTS: protocol.NoTimestamp},
	}
}

// scan reads size bytes.
func (s *scanner) scan(r io.ReaderAt, size int64) error {
	buf := make([]byte, min(s.chunkSize, size))
	for off := int64(0); off < size; off += s.chunkSize {
		b := buf[:min(s.chunkSize, size-off)]
		if n, err := r.ReadAt(b, off); n < len(b) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read batches at %d: %w", off, err)
		}
		crc := record.CRC(b)
		if i := len(s.got.chunks); s.want != nil && s.want[i] != crc {
			return corrupt(ChunkPart, "CRC of chunk %d, bytes [%d, %d), is %08x, want %08x", i, off, off+int64(len(b)), crc, s.want[i])
		}
		s.got.chunks = append(s.got.chunks, crc)
		s.got.crc = extendCRC(s.got.crc, b)
		if err := s.feed(b); err != nil {
			return err
		}
	}
	if s.have > 0 {
		return corrupt(BatchPart, "the batches end at byte %d, inside the one that begins at %d", size, s.pos)
	}
	return nil
}

// feed takes the next bytes.
func (s *scanner) feed(b []byte) error {
	for len(b) > 0 {
		if s.have < len(s.header) {
			n := copy(s.header[s.have:], b)
			s.have += n
			b = b[n:]
			if s.have < len(s.header) {
				return nil
			}
			if err := s.begin(); err != nil {
				return err
			}
		}
		n := min(len(b), s.total-s.done)
		s.crc = extendCRC(s.crc, b[:n])
		s.done += n
		b = b[n:]
		if s.done == s.total {
			if err := s.finish(); err != nil {
				return err
			}
		}
	}
	return nil
}

// crcStart is where the bytes begin that a batch's CRC covers.
const crcStart = 21

func (s *scanner) begin() error {
	h := record.Batch(s.header[:])
	total, err := record.TotalLen(h)
	if err != nil {
		return corrupt(BatchPart, "at byte %d: %v", s.pos, err)
	}
	if h.Magic() != record.Magic {
		return corrupt(BatchPart, "at byte %d: magic %d", s.pos, h.Magic())
	}
	s.total, s.done, s.crc = total, record.HeaderLen, record.CRC(h[crcStart:])
	return nil
}

// finish checks the batch just seen and notes it in the indexes.
func (s *scanner) finish() error {
	h := record.Batch(s.header[:])
	switch {
	case s.crc != h.StoredCRC():
		return corrupt(BatchPart, "at byte %d, offset %d: CRC is %08x, header says %08x", s.pos, h.BaseOffset(), s.crc, h.StoredCRC())
	case h.LastOffsetDelta() < 0, h.Count() < 0, h.BaseOffset() < 0:
		return corrupt(BatchPart, "at byte %d: base offset %d, last offset delta %d, count %d", s.pos, h.BaseOffset(), h.LastOffsetDelta(), h.Count())
	// A log start inside a batch may have lifted the tiered end there: the first batch may begin below the base.
	case s.pos == 0 && h.NextOffset() <= s.base, s.pos > 0 && h.BaseOffset() < s.next, h.NextOffset() > s.end:
		return corrupt(BatchPart, "at byte %d: offsets [%d, %d) do not continue at %d within [%d, %d)", s.pos, h.BaseOffset(), h.NextOffset(), s.next, s.base, s.end)
	}
	g := &s.got
	if n := len(g.offsets); n == 0 || g.offsets[n-1].pos/s.chunkSize < s.pos/s.chunkSize {
		g.offsets = append(g.offsets, offsetEntry{offset: h.BaseOffset(), pos: s.pos})
	}
	s.noteTime(h)
	g.records += int64(h.Count())
	s.next = h.NextOffset()
	s.pos += int64(s.total)
	s.have = 0
	return nil
}

// noteTime takes a batch's times into the indexes. One that compaction has emptied has none worth finding.
func (s *scanner) noteTime(h record.Batch) {
	g := &s.got
	if h.Count() == 0 {
		return
	}
	if h.HasDeleteHorizon() && (g.horizon == 0 || h.BaseTimestamp() < g.horizon) {
		g.horizon = max(h.BaseTimestamp(), 1)
	}
	if ts := h.MaxTimestamp(); ts > g.maxTS {
		g.maxTS = ts
		at := g.offsets[len(g.offsets)-1].pos
		if n := len(g.times); n > 0 && g.times[n-1].pos == at {
			g.times[n-1].ts = ts
		} else {
			g.times = append(g.times, timeEntry{ts: ts, pos: at})
		}
	}
}
