package recovery

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/format"
)

// decodeBudget bounds one batch's decoded records, in bytes.
const decodeBudget = 256 << 20

// Cat yields the committed records of a partition from an offset (or the log start, if
// that is higher) up to the tiered end, checking every chunk and batch on the way. Control records and
// those of aborted transactions are left out. Keys and values must not be kept beyond
// the iteration. Errors: ErrNotFound, format.ErrCorrupt, and whatever else ends it.
func (b *Bucket) Cat(ctx context.Context, topic string, partition int32, from protocol.Offset) iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) {
		row, err := b.partition(topic, partition)
		if err != nil {
			yield(record.Record{}, err)
			return
		}
		if err := b.catPartition(ctx, row, max(from, row.LogStart), yield); err != nil && !errors.Is(err, errStopped) {
			yield(record.Record{}, fmt.Errorf("read partition %d of %s: %w", partition, topic, err))
		}
	}
}

// errStopped means that the consumer of an iteration wants no more.
var errStopped = errors.New("stopped")

func (b *Bucket) catPartition(ctx context.Context, row metadata.Partition, from protocol.Offset, yield func(record.Record, error) bool) error {
	for e, err := range manifestOf(row).Scan(b.read.page(ctx), from) {
		if err != nil {
			return err
		}
		if err := b.catSegment(ctx, e, from, yield); err != nil {
			if !errors.Is(err, errStopped) {
				err = fmt.Errorf("%s: %w", e.ObjectKey, err)
			}
			return err
		}
	}
	return nil
}

// catSegment yields the committed records of one object from an offset on.
func (b *Bucket) catSegment(ctx context.Context, e format.Entry, from protocol.Offset, yield func(record.Record, error) bool) error {
	from = max(from, e.Base)
	return b.eachBatch(ctx, e, from, func(x *format.Index, batch record.Batch) error {
		if batch.Control() || aborted(batch, x.Aborted()) {
			return nil
		}
		for r, err := range batch.Records(decodeBudget) {
			if err != nil {
				return fmt.Errorf("batch at offset %d: %w", batch.BaseOffset(), err)
			}
			if from <= r.Offset && r.Offset < e.End && !yield(r, nil) {
				return errStopped
			}
		}
		return nil
	})
}

// aborted tells whether a batch is of one of the transactions.
func aborted(b record.Batch, txns []protocol.AbortedTxn) bool {
	if !b.Transactional() {
		return false
	}
	for _, t := range txns {
		if t.Producer == b.ProducerID() && t.First <= b.BaseOffset() && b.LastOffset() <= t.Last {
			return true
		}
	}
	return false
}
