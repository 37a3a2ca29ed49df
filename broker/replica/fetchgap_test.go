package replica_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// compactedTier has lost every record below end.
type compactedTier struct {
	noBucket
	end   protocol.Offset
	reads *atomic.Int64
}

func (c compactedTier) Read(_ context.Context, _ protocol.PartitionKey, from protocol.Offset, _ int, _ bool) (replica.ColdBatches, error) {
	c.reads.Add(1)
	return replica.ColdBatches{Next: max(from, c.end)}, nil
}

func TestAFetchGoesOnBehindWhatCompactionLeftEmpty(t *testing.T) {
	w := newWorld(t)
	cold := compactedTier{end: 2, reads: &atomic.Int64{}}
	w.cold = cold
	l := tiered(t, w, 1)[0]
	for _, o := range []replica.FetchOptions{
		{MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Hour, ColdWait: time.Minute},
		{MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Hour, ColdWait: time.Minute, Committed: true},
		{MinBytes: 1, MaxBytes: 10, ColdWait: time.Minute}, // one batch is sent whole
	} {
		for from := range protocol.Offset(2) {
			if got := firstOffset(t, w, part(l, from, 1<<20), o); got != 2 {
				t.Errorf("from %d with %+v: the first record is at %d", from, o, got)
			}
		}
	}
}

// firstOffset is that of the first batch that a fetch gives.
func firstOffset(t *testing.T, w *world, p replica.FetchPartition, o replica.FetchOptions) protocol.Offset {
	t.Helper()
	done := make(chan protocol.Offset, 1)
	w.fetchAll([]replica.FetchPartition{p}, o, func(r []replica.FetchResult) { done <- firstOf(t, r) })
	return <-done
}

func firstOf(t *testing.T, r []replica.FetchResult) protocol.Offset {
	t.Helper()
	if len(r) == 0 || r[0].Records == nil {
		t.Errorf("the fetch gives nothing: %+v", r)
		return protocol.NoOffset
	}
	defer r[0].Records.Release()
	var b buffer
	if _, err := r[0].Records.WriteTo(&b); err != nil {
		t.Error(err)
		return protocol.NoOffset
	}
	return record.Batch(b).BaseOffset()
}

// buffer collects what is written.
type buffer []byte

func (b *buffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

func TestAFetchBehindAnEmptyColdTierWaitsForRecords(t *testing.T) {
	w := newWorld(t)
	cold := compactedTier{end: 4, reads: &atomic.Int64{}} // nothing at all is left, in either tier
	w.cold = cold
	l := tiered(t, w, 1)[0]
	set := w.set()
	set.Keep()
	defer set.Close()
	got := make(chan protocol.Offset, 1)
	ask := func(put ...replica.FetchPartition) {
		set.Fetch(replica.FetchRequest{
			FetchOptions: replica.FetchOptions{MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Hour, ColdWait: time.Minute},
			Put:          put, Reply: func(r []replica.FetchResult) { got <- firstOf(t, r) },
		})
	}
	ask(part(l, 0, 1<<20))
	select {
	case at := <-got:
		t.Fatalf("the fetch was answered with offset %d", at)
	case <-time.After(50 * time.Millisecond):
	}
	fill(t, l, 1, 100)
	if at := <-got; at != 4 {
		t.Errorf("the first record is at %d, want 4", at)
	}
	ask() // the client has not moved: it is sent the same again, and the bucket is not asked any more
	if at := <-got; at != 4 || cold.reads.Load() != 1 {
		t.Errorf("the first record is at %d, after %d reads of the bucket", at, cold.reads.Load())
	}
}
