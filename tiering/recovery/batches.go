package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/format"
)

// CopySegment writes the batches of a segment object that hold offsets of its
// entry to w, verbatim: what a broker's .log file would hold. Each chunk and batch is
// checked on the way. It returns the number of bytes. Errors: format.ErrCorrupt, object.ErrNotFound
// where the sweeper was there, those of w, outages.
func (b *Bucket) CopySegment(ctx context.Context, e format.Entry, w io.Writer) (n int64, err error) {
	err = b.eachBatch(ctx, e, e.Base, func(_ *format.Index, batch record.Batch) error {
		written, err := w.Write(batch)
		n += int64(written)
		return err
	})
	if err != nil {
		return n, fmt.Errorf("%s: %w", e.ObjectKey, err)
	}
	return n, nil
}

// HoldsSegment tells whether size bytes of local are what CopySegment would
// write, by the CRCs of the object's chunks: only its index is read from the bucket. It is false
// too for an entry that is narrower than its object. Errors: those of local, outages.
func (b *Bucket) HoldsSegment(ctx context.Context, e format.Entry, local io.ReaderAt, size int64) (bool, error) {
	x, err := b.index(ctx, e)
	if err != nil {
		return false, fmt.Errorf("%s: %w", e.ObjectKey, err)
	}
	if m := x.Meta(); size != x.DataBytes() || m.Base != e.Base || m.End != e.End {
		return false, nil
	}
	for i := range x.Chunks() {
		off, n := x.ChunkRange(i)
		chunk := make([]byte, n)
		if got, err := local.ReadAt(chunk, off); int64(got) < n {
			return false, err
		}
		if differs := x.CheckChunk(i, chunk); differs != nil {
			return false, nil //nolint:nilerr // which is what was asked
		}
	}
	return true, nil
}

func (b *Bucket) index(ctx context.Context, e format.Entry) (*format.Index, error) {
	tail, err := b.read.get(ctx, e.ObjectKey, e.IndexOffset, int64(e.IndexLength))
	if err != nil {
		return nil, err
	}
	return format.DecodeIndex(tail, e)
}

// eachBatch gives the whole, checked batches of one object that hold offsets of
// [from, e.End), in order. A batch is valid during the call only.
func (b *Bucket) eachBatch(ctx context.Context, e format.Entry, from protocol.Offset, do func(*format.Index, record.Batch) error) error {
	x, err := b.index(ctx, e)
	if err != nil {
		return err
	}
	data := rangeReader{reader: b.read, ctx: ctx, key: e.ObjectKey, size: e.DataBytes}
	pos := x.Floor(max(from, e.Base))
	chunk := make([]byte, e.ChunkSize)
	var buf []byte
	for i := int(pos / int64(e.ChunkSize)); i < x.Chunks(); i++ {
		off, n := x.ChunkRange(i)
		chunk = chunk[:n]
		if _, err := data.ReadAt(chunk, off); err != nil {
			return err
		}
		if err := x.CheckChunk(i, chunk); err != nil {
			return err
		}
		buf = append(buf, chunk[max(0, pos-off):]...) // only the first chunk begins below pos
		left, err := takeBatches(buf, func(batch record.Batch) error {
			if batch.NextOffset() <= from || batch.BaseOffset() >= e.End {
				return nil
			}
			return do(x, batch)
		})
		if err != nil {
			return err
		}
		buf = append(buf[:0], left...)
	}
	if len(buf) > 0 {
		return &format.CorruptError{Part: format.BatchPart, Detail: fmt.Sprintf("the batches end inside one, %d bytes are left", len(buf))}
	}
	return nil
}

// takeBatches checks the whole batches at the start of buf and gives what is left.
func takeBatches(buf []byte, do func(record.Batch) error) ([]byte, error) {
	for {
		batch, rest, err := record.Split(buf)
		if errors.Is(err, record.ErrShort) {
			return buf, nil
		}
		if err == nil {
			err = batch.Check()
		}
		if err != nil {
			return nil, &format.CorruptError{Part: format.BatchPart, Detail: err.Error()}
		}
		if err := do(batch); err != nil {
			return nil, err
		}
		buf = rest
	}
}
