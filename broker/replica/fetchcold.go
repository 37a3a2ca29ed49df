package replica

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stratabroker/strata/broker/log"
)

// coldGrace is how long a fetch that has enough to be answered waits for the other partitions that the bucket
// is read for. A client has one connection to a broker and cannot ask for more meanwhile: one slow GET must
// not hold up what the others have. Much less than this would only make many small answers.
const coldGrace = 25 * time.Millisecond

// readCold reads the tiered partitions of the last look in parallel, each within the share that is
// held for it, so that together with the hot ones they stay within MaxBytes. It ends when all are read,
// after ColdWait, or a grace after MinBytes are there. A partition that was not read by then is answered with the
// batches that it has so far, maybe none: it keeps its place in the order, and what was begun for it goes on.
func (f *fetch) readCold(cold Cold) {
	ctx, cancel := context.WithTimeout(context.Background(), f.ColdWait)
	defer cancel()
	var total atomic.Int64
	var once sync.Once
	var grace *time.Timer
	count := func(n int) {
		if total.Add(int64(n)) >= int64(f.MinBytes) {
			once.Do(func() { grace = time.AfterFunc(coldGrace, cancel) })
		}
	}
	if f.bytes > 0 {
		count(f.bytes)
	}
	var wg sync.WaitGroup
	for _, c := range f.tiered {
		if c.bytes > 0 || c.minOne {
			wg.Go(func() {
				if n := f.readColdPartition(ctx, cold, c); n > 0 {
					count(n)
				}
			})
		}
	}
	wg.Wait()
	if grace != nil {
		grace.Stop()
	}
	f.topUp(f.trim())
}

// readColdPartition tells how many bytes it read.
func (f *fetch) readColdPartition(ctx context.Context, cold Cold, c coldShare) int {
	r := &f.results[c.index]
	got, err := cold.Read(ctx, r.Leader.key, r.entry.from(), c.bytes, c.minOne)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled) && ctx.Err() != nil:
		// The client asks again; by then the cache may have it.
	case err != nil:
		r.Err = err
	case len(got.Bytes) == 0:
		got.release()
		r.empty = got.Next
	default:
		r.Records = &coldRecords{got}
		if f.Committed {
			r.Aborted = got.Aborted
		}
	}
	return len(got.Bytes)
}

// passed notes what of the bucket was found to be empty, and tells whether the fetch has nothing but that: then
// it goes on behind it, where the next records may be in either tier.
func (f *fetch) passed() bool {
	found, nothing := false, true
	for i := range f.results {
		r := &f.results[i]
		if r.Err == nil && r.empty > r.entry.from() {
			r.entry.gapAt, r.entry.gapEnd, found = r.entry.From, r.empty, true
		}
		nothing = nothing && r.Records == nil && r.Err == nil && r.Diverging == nil
	}
	return found && nothing
}

// trim takes out what exceeds MaxBytes because the first batch was larger than
// its share, and returns what is left.
func (f *fetch) trim() (total int) {
	for i := range f.results {
		r := &f.results[i]
		if r.Records == nil {
			continue
		}
		if total > 0 && total+r.Records.Len() > f.MaxBytes {
			r.Records.Release()
			r.Records, r.Aborted = nil, nil
			continue
		}
		total += r.Records.Len()
	}
	return total
}

// topUp gives hot partitions that got nothing what the cold ones left of MaxBytes.
func (f *fetch) topUp(total int) {
	cold := map[int]bool{}
	for _, c := range f.tiered {
		cold[c.index] = true
	}
	for i := range f.results {
		r := &f.results[i]
		if cold[i] || r.Err != nil || r.Records != nil || r.Diverging != nil || r.Leader.Closed() != nil {
			continue
		}
		room := min(r.entry.MaxBytes, f.MaxBytes-total)
		if room > 0 && !f.readHot(r, room, total == 0) && r.Records != nil {
			total += r.Records.Len()
		}
	}
}

// coldRecords are batches in memory, which belong to the cold tier's budget.
type coldRecords struct{ batches ColdBatches }

// Len is their size.
func (c *coldRecords) Len() int { return len(c.batches.Bytes) }

// HeapBytes is what they hold of the heap until they are released.
func (c *coldRecords) HeapBytes() int { return cap(c.batches.Bytes) }

// WriteTo writes them.
func (c *coldRecords) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(c.batches.Bytes)
	return int64(n), err
}

// Release gives their memory back.
func (c *coldRecords) Release() { c.batches.release() }

var _ Records = log.Slice{}
