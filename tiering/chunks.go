package tiering

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/format"
)

// chunkKey names one chunk of one segment object.
type chunkKey struct {
	object string
	index  int
}

// source reads the batches of one entry's object, chunk by chunk through the
// cache. It belongs to one call; what it starts may outlive it.
type source struct {
	reader *Reader
	entry  format.Entry
	index  *format.Index

	mu   sync.Mutex
	want int64  // bytes that will be asked for from the next position on: what one GET brings; guarded by mu
	runs []*run // guarded by mu
}

// expect says how many bytes the caller will ask for from where it is.
func (s *source) expect(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = n
}

// maxRun bounds one GET, in bytes. Longer ones gain little and hold others up.
const maxRun = 2 << 20

// run is a row of chunks that come with one GET. The chunk that was missed
// first begins it and sends the GET; the others' loads take their part of the answer. So each chunk is
// cached, charged and waited for on its own, while the store sees one request.
//
// LoadBytes is charged for the chunks, not for the answer they are cut from: that
// is on its way in at most Parallel times at once, a run and a chunk long each (2.2 MiB, 22 MiB in all by
// default), and lives on for as long as loads of its chunks queue for LoadBytes.
type run struct {
	src      *source
	first, n int // chunks [first, first+n)
	left     int // loads that have not had their part; guarded by src.mu
	done     chan struct{}
	body     []byte // set before done is closed, as is err
	err      error
}

// chunk gives chunk i. When ctx ends, its load and that of its run go on.
func (s *source) chunk(ctx context.Context, i int) ([]byte, error) {
	_, n := s.index.ChunkRange(i)
	return s.reader.chunks.Get(ctx, chunkKey{s.entry.ObjectKey, i}, n, func(ctx context.Context) ([]byte, error) {
		return s.load(ctx, i)
	})
}

// load runs in the cache's own context.
func (s *source) load(ctx context.Context, i int) ([]byte, error) {
	r, mine := s.runOf(i)
	if mine {
		defer s.taken(r)
		r.body, r.err = r.get(ctx)
		close(r.done)
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if r.n > 1 && errors.Is(r.err, errDamaged) {
		// One bad chunk must not take its neighbours with it.
		alone := &run{src: s, first: i, n: 1}
		return alone.get(ctx)
	}
	if r.err != nil {
		return nil, r.err
	}
	from, _ := s.index.ChunkRange(r.first)
	off, n := s.index.ChunkRange(i)
	return bytes.Clone(r.body[off-from:][:n]), nil // a part of the run would hold on to all of it
}

// runOf finds the run that brings chunk i, or begins one; mine says that the caller must get it.
func (s *source) runOf(i int) (r *run, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs {
		if r.first <= i && i < r.first+r.n {
			return r, false
		}
	}
	size := int64(s.entry.ChunkSize)
	n := min((min(s.want, maxRun)+size-1)/size+1, int64(s.index.Chunks()-i))
	r = &run{src: s, first: i, n: int(max(n, 1)), done: make(chan struct{})}
	r.left = r.n
	s.runs = append(s.runs, r)
	for j := i + 1; j < r.first+r.n; j++ {
		s.reader.background(func() {
			defer s.taken(r)
			_, _ = s.chunk(s.reader.life, j) // for the cache; who needs the chunk asks for it again
		})
	}
	return r, true
}

// taken forgets a run when nobody needs a part of it any more. A chunk that was evicted since begins another.
func (s *source) taken(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.left--; r.left == 0 {
		s.runs = slices.DeleteFunc(s.runs, func(o *run) bool { return o == r })
	}
}

// get fetches the whole run and checks each of its chunks.
func (r *run) get(ctx context.Context) ([]byte, error) {
	x := r.src.index
	from, _ := x.ChunkRange(r.first)
	off, n := x.ChunkRange(r.first + r.n - 1)
	return r.src.reader.fetch.get(ctx, r.src.entry.ObjectKey, from, off+n-from, func(b []byte) error {
		for i := r.first; i < r.first+r.n; i++ {
			off, n := x.ChunkRange(i)
			if err := x.CheckChunk(i, b[off-from:][:n]); err != nil {
				return err
			}
		}
		return nil
	})
}

// append adds bytes [pos, pos+n) of the object's batches to dst.
func (s *source) append(ctx context.Context, dst []byte, pos, n int64) ([]byte, error) {
	if pos < 0 || n < 0 || n > s.index.DataBytes()-pos {
		return dst, fmt.Errorf("%w: %d bytes at %d of %s, which has %d of batches", errDamaged, n, pos, s.entry.ObjectKey, s.index.DataBytes())
	}
	for n > 0 {
		i := int(pos / int64(s.entry.ChunkSize))
		c, err := s.chunk(ctx, i)
		if err != nil {
			return dst, err
		}
		off, _ := s.index.ChunkRange(i)
		part := c[pos-off:]
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
	b, err := s.append(ctx, make([]byte, 0, record.HeaderLen), pos, record.HeaderLen)
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
