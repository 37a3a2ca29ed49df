package record

import (
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/stratabroker/strata/protocol"
)

// Records decodes the batch and yields its records in order. The decoded block
// takes at most budget bytes (ErrBudget beyond). Keys and values alias that
// block (or the batch, when it is not compressed); a record's headers take up to
// 20 bytes for each of theirs. A batch that cannot be
// decoded yields one error, wrapping ErrInvalid, and ends.
func (b Batch) Records(budget int) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		block, err := decompress(b.Codec(), b[HeaderLen:], budget)
		if err != nil {
			yield(Record{}, err)
			return
		}
		for i := range b.Count() {
			r, rest, err := b.next(block)
			if err != nil {
				yield(Record{}, fmt.Errorf("record %d of %d: %w", i, b.Count(), err))
				return
			}
			block = rest
			if !yield(r, nil) {
				return
			}
		}
		if len(block) > 0 {
			yield(Record{}, fmt.Errorf("%w: %d bytes after the last record", ErrInvalid, len(block)))
		}
	}
}

// next reads one record off block.
func (b Batch) next(block []byte) (Record, []byte, error) {
	n, used := binary.Varint(block)
	if used <= 0 || n < 1 || n > int64(len(block)-used) {
		return Record{}, nil, fmt.Errorf("%w: record length %d with %d bytes left", ErrInvalid, n, len(block))
	}
	rest := block[used+int(n):]
	d := decoder{b: block[used+1 : used+int(n)]} // one byte of unused attributes
	r := Record{Timestamp: b.BaseTimestamp() + protocol.Timestamp(d.varint())}
	if b.LogAppendTime() {
		r.Timestamp = b.MaxTimestamp()
	}
	r.Offset = b.BaseOffset() + protocol.Offset(d.varint())
	r.Key, r.Value = d.bytes(), d.bytes()
	count := d.varint()
	if count < 0 || count > int64(len(d.b)/2) { // a header takes two bytes at least
		return Record{}, nil, fmt.Errorf("%w: %d headers with %d bytes left", ErrInvalid, count, len(d.b))
	}
	if count > 0 {
		r.Headers = make([]Header, 0, count)
	}
	for i := int64(0); i < count && !d.failed; i++ {
		key := d.bytes()
		if key == nil {
			d.failed = true // a header's key is never null
			break
		}
		r.Headers = append(r.Headers, Header{Key: string(key), Value: d.bytes()})
	}
	if d.failed || len(d.b) > 0 {
		return Record{}, nil, fmt.Errorf("%w: record body does not match its length", ErrInvalid)
	}
	return r, rest, nil
}

// decoder reads varints and byte strings; after a failure it gives zeros.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.failed, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.varint()
	switch {
	case n == -1:
		return nil
	case n < 0 || n > int64(len(d.b)):
		d.failed, d.b = true, nil
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}
