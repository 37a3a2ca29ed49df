package replica

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/stratabroker/strata/broker/log"
)

// readCold reads the tiered partitions of the last look in parallel, each within the share that is
// held for it, so that together with the hot ones they stay within MaxBytes.
func (f *fetch) readCold(cold Cold) {
	ctx, cancel := context.WithTimeout(context.Background(), f.ColdWait)
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range f.tiered {
		if c.bytes > 0 || c.minOne {
			wg.Go(func() { f.readColdPartition(ctx, cold, c) })
		}
	}
	wg.Wait()
	f.topUp(f.trim())
}

func (f *fetch) readColdPartition(ctx context.Context, cold Cold, c coldShare) {
	r := &f.results[c.index]
	got, err := cold.Read(ctx, r.Leader.key, r.entry.From, c.bytes, c.minOne)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		// The client asks again; by then the cache may have it.
	case err != nil:
		r.Err = err
	case len(got.Bytes) == 0:
		got.release()
	default:
		r.Records = &coldRecords{got}
		if f.Committed {
			r.Aborted = got.Aborted
		}
	}
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
