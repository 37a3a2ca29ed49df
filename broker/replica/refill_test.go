package replica_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// sparse is a bucket in which compaction has left two batches, read at once.
type sparse struct {
	noBucket
	batches []record.Batch
	end     protocol.Offset
}

func (s sparse) Read(_ context.Context, _ protocol.PartitionKey, from protocol.Offset, _ int, _ bool) (replica.ColdBatches, error) {
	if from > s.batches[0].BaseOffset() {
		return replica.ColdBatches{Next: s.end}, nil
	}
	return replica.ColdBatches{Bytes: slices.Concat(s.batches[0], s.batches[1]), Next: s.batches[1].NextOffset()}, nil
}

// TestWhatCompactionLeftComesBackAcrossAnyGap: a segment spans 2^31 offsets, what is left of a log may span more.
func TestWhatCompactionLeftComesBackAcrossAnyGap(t *testing.T) {
	w := newWorld(t)
	at := func(offset protocol.Offset, value string) record.Batch {
		b := record.NewBuilder(offset)
		b.Add(record.Record{Timestamp: 1, Key: []byte("k"), Value: []byte(value)})
		return b.Bytes()
	}
	const far, end = 5<<31 + 17, 8<<31 + 3
	w.cold = sparse{batches: []record.Batch{at(10, "near"), at(far, "far")}, end: end}
	l := w.topic("t", 1, "cleanup.policy", "compact")[0]
	w.restart(func() {})
	l, err := w.m.Get(l.Key())
	if err != nil {
		t.Fatal(err)
	}
	row := l.Row()
	row.Manifest.TieredEnd = end
	if err := w.m.Refill(t.Context(), l, row); err != nil {
		t.Fatal(err)
	}
	if l.Log().LEO() != end || l.Log().Durable() != end {
		t.Errorf("the log ends at %d, durable to %d", l.Log().LEO(), l.Log().Durable())
	}
	w.restart(func() {})
	if l, err = w.m.Get(l.Key()); err != nil || l.Log().LEO() != end {
		t.Errorf("after a start: %v", err)
	}
}
