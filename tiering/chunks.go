package tiering

import (
	"context"
	"fmt"

	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/cache"
	"github.com/stratabroker/strata/tiering/format"
)

// segment is one entry's object and its index. It does not change.
type segment struct {
	entry format.Entry
	index *format.Index
}

func (s *segment) key(i int) cache.BlockKey {
	return cache.BlockKey{Object: s.entry.ObjectKey, Index: i}
}

// chunksOf is how many chunks so many bytes are, at least one.
func (s *segment) chunksOf(n int64) int {
	return int(max(n/int64(s.entry.ChunkSize), 1))
}

// source reads the batches of one segment, chunk by chunk. It belongs to one
// call, which closes it; the runs that it begins may outlive it.
type source struct {
	*segment
	runs *runs

	window int  // chunks that may be loaded from the one that is asked for on, at least one
	upTo   int  // first chunk that the call will not ask for, as far as it knows
	stream bool // the call is part of a sequential read: runs go on to the end of their piece

	pinned *cache.Block           // the chunk read last
	at     int                    // its number
	whole  bool                   // it was read to its end
	head   [record.HeaderLen]byte // of the batch whose header was read last
}

// expect says that the call will read n bytes from a batch at or after pos on. The
// batch may begin later in its chunk, so this is about: a chunk more may be loaded.
func (s *source) expect(pos, n int64) {
	size := int64(s.entry.ChunkSize)
	n = min(n, s.index.DataBytes()-pos)
	s.upTo = int(min((pos+n+size-1)/size+1, int64(s.index.Chunks())))
}

// begin sends the GETs of a read of n bytes from pos at once where one does not bring
// them all: a store gives more to several connections than to one.
func (s *source) begin(pos, n int64) {
	if n <= pieceBytes {
		return
	}
	s.expect(pos, n)
	first := int(pos / int64(s.entry.ChunkSize))
	s.runs.ahead(s, first, min(s.upTo, first+s.window))
}

// runEnd is where a run that begins at chunk i ends: with the piece in a sequential read, else with what the call asks for.
func (s *source) runEnd(i int) int {
	piece := s.chunksOf(pieceBytes)
	end := min((i/piece+1)*piece, s.index.Chunks())
	if !s.stream {
		end = min(end, max(s.upTo, i+1))
	}
	return end
}

// close lets go of the chunk read last. One in which a sequential read stopped half-way is where the next
// goes on: it counts as not read yet.
func (s *source) close() {
	if s.pinned != nil {
		s.runs.blocks.Unpin(s.pinned, s.whole || !s.stream)
		s.pinned = nil
	}
}

// bytes gives what chunk i holds, until the next call.
func (s *source) bytes(ctx context.Context, i int) ([]byte, error) {
	if s.pinned != nil && s.at == i {
		return s.pinned.Bytes, nil
	}
	s.close()
	b, err := s.chunk(ctx, i)
	if err != nil {
		return nil, err
	}
	s.pinned, s.at, s.whole = b, i, false
	return b.Bytes, nil
}

// append adds bytes [pos, pos+n) of the object's batches to dst.
func (s *source) append(ctx context.Context, dst []byte, pos, n int64) ([]byte, error) {
	if pos < 0 || n < 0 || n > s.index.DataBytes()-pos {
		return dst, fmt.Errorf("%w: %d bytes at %d of %s, which has %d of batches", errDamaged, n, pos, s.entry.ObjectKey, s.index.DataBytes())
	}
	for n > 0 {
		i := int(pos / int64(s.entry.ChunkSize))
		c, err := s.bytes(ctx, i)
		if err != nil {
			return dst, err
		}
		off, _ := s.index.ChunkRange(i)
		part := c[pos-off:]
		s.whole = s.whole || n >= int64(len(part))
		part = part[:min(int64(len(part)), n)]
		dst = append(dst, part...)
		pos, n = pos+int64(len(part)), n-int64(len(part))
	}
	return dst, nil
}

// header is a batch's fixed part and its whole length.
type header struct {
	batch record.Batch // HeaderLen bytes only
	size  int64
}

// header reads the head of the batch at pos.
func (s *source) header(ctx context.Context, pos int64) (header, error) {
	b, err := s.append(ctx, s.head[:0], pos, record.HeaderLen)
	if err != nil {
		return header{}, err
	}
	size, err := record.TotalLen(b)
	if err != nil || int64(size) > s.index.DataBytes()-pos {
		return header{}, fmt.Errorf("%w: batch of %d bytes at %d of %s: %w", errDamaged, size, pos, s.entry.ObjectKey, err)
	}
	return header{batch: record.Batch(b), size: int64(size)}, nil
}

// batch reads a whole batch.
func (s *source) batch(ctx context.Context, pos int64, h header) (record.Batch, error) {
	return s.append(ctx, make([]byte, 0, h.size), pos, h.size)
}
