package tiering

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/stratabroker/strata/protocol"
)

// leastShare is the smallest part of AnswerBytes that is worth building an answer in: one chunk.
const leastShare = 128 << 10

// Fetched is what one Read found. It holds a part of the reader's AnswerBytes until Release.
type Fetched struct {
	Batches []byte                // whole batches as the producer sent them; the first holds or follows the offset asked for
	Aborted []protocol.AbortedTxn // every aborted transaction that overlaps [from, Next)
	Next    protocol.Offset       // where to go on; above from also when Batches is empty, where compaction left nothing

	share *share // nil where nothing is held
}

// Release gives back what the answer holds of AnswerBytes. Whoever called Read
// calls it once Batches was written or dropped, and does not touch Batches afterwards. It may be
// called again, on copies too, by any goroutine; after an error of Read it need not be called.
func (f Fetched) Release() {
	if f.share != nil {
		f.share.release()
	}
}

// share is one answer's part of the budget, and the buffer that it is in.
type share struct {
	of    *budget
	bytes atomic.Int64
	buf   []byte // to be used again once the share is released; nil where it is not
}

// release gives back all of the share, the first time it is called.
func (s *share) release() {
	n := s.bytes.Swap(0)
	if n == 0 {
		return
	}
	if s.buf != nil {
		s.of.buffers.put(s.buf)
	}
	s.of.adjust(n)
}

// open gives the share's buffer, of n bytes, which becomes its size.
func (s *share) open(n int64) []byte {
	s.resize(n)
	s.buf = s.of.buffers.get(n)
	return s.buf
}

// shrink moves b, which is in the share's buffer, into the smallest that is used again and holds it.
func (s *share) shrink(b []byte) []byte {
	n := (int64(len(b)) + bufferUnit - 1) / bufferUnit * bufferUnit
	if n >= int64(cap(b)) {
		return b
	}
	out := append(s.of.buffers.get(n), b...)
	s.of.buffers.put(s.buf)
	s.buf = out
	s.resize(n)
	return out
}

// bufferUnit is what the sizes of buffers that are used again are multiples of,
// as are shares: clients ask for whole powers of two, 1 MiB most often.
const (
	bufferUnit  = 64 << 10
	mostBuffers = 64 // units of the largest
)

// buffers keeps answers' buffers, by their size in units. Reading a GB would make as
// much garbage without, each byte of it cleared first. What is not used goes with the garbage.
type buffers [mostBuffers + 1]sync.Pool

func (p *buffers) get(n int64) []byte {
	if n%bufferUnit == 0 && n/bufferUnit <= mostBuffers {
		if b, ok := p[n/bufferUnit].Get().(*[]byte); ok {
			return *b
		}
	}
	return make([]byte, 0, n)
}

func (p *buffers) put(b []byte) {
	n := cap(b)
	if n%bufferUnit == 0 && n/bufferUnit <= mostBuffers {
		b = b[:0]
		p[n/bufferUnit].Put(&b)
	}
}

// resize makes the share n bytes, without waiting.
func (s *share) resize(n int64) { s.of.adjust(s.bytes.Swap(n) - n) }

// reserve takes an answer's share before anything of it is built. A read that
// must give one batch waits for it, any other gives nothing where all is taken: so a fetch of many
// partitions waits for one of them at most, while it holds the answers of others.
func (r *Reader) reserve(ctx context.Context, maxBytes int, minOne bool) (*share, error) {
	want := int64(max(maxBytes, 0))
	var got int64
	var err error
	if minOne {
		got, err = r.answers.take(ctx, leastShare, max(want, leastShare))
	} else if want > 0 {
		got = r.answers.try(leastShare, want)
	}
	s := &share{of: r.answers}
	s.bytes.Store(got)
	return s, err
}
