package tiering

import (
	"context"
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
		f.share.resize(0)
	}
}

// share is one answer's part of the budget.
type share struct {
	of    *budget
	bytes atomic.Int64
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
