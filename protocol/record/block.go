package record

import (
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/stratabroker/strata/protocol"
)

// Raw is one record as it lies in a decoded block. Key, Value (nil where the
// wire says null) and Bytes alias the block.
type Raw struct {
	Offset    protocol.Offset
	Timestamp protocol.Timestamp
	Key       []byte
	Value     []byte
	Bytes     []byte // the whole record with its length

	afterTime []byte // of Bytes, what follows the timestamp delta
}

// Block returns the records in plain form, at most budget bytes (ErrBudget
// beyond). It aliases the batch where that is not compressed. Errors wrap ErrInvalid.
func (b Batch) Block(budget int) ([]byte, error) { return decompress(b.Codec(), b[HeaderLen:], budget) }

// Raws walks the records of a block that Block gave, without a copy or an
// allocation. It refuses what Records refuses, and besides offsets that do not
// ascend or leave the batch: one error, wrapping ErrInvalid, and it ends.
func (b Batch) Raws(block []byte) iter.Seq2[Raw, error] {
	return func(yield func(Raw, error) bool) {
		at := b.BaseOffset()
		for i := range b.Count() {
			r, rest, err := b.NextRaw(block)
			if err == nil && (r.Offset < at || r.Offset > b.LastOffset()) {
				err = fmt.Errorf("%w: record at offset %d, expected %d to %d", ErrInvalid, r.Offset, at, b.LastOffset())
			}
			if err != nil {
				yield(Raw{}, fmt.Errorf("record %d of %d: %w", i, b.Count(), err))
				return
			}
			at, block = r.Offset+1, rest
			if !yield(r, nil) {
				return
			}
		}
		if len(block) > 0 {
			yield(Raw{}, fmt.Errorf("%w: %d bytes after the last record", ErrInvalid, len(block)))
		}
	}
}

// NextRaw reads one record off a block that Block gave, or off what is left of it. Errors wrap ErrInvalid.
func (b Batch) NextRaw(block []byte) (Raw, []byte, error) {
	n, used := binary.Varint(block)
	if used <= 0 || n < 1 || n > int64(len(block)-used) {
		return Raw{}, nil, fmt.Errorf("%w: record length %d with %d bytes left", ErrInvalid, n, len(block))
	}
	end := used + int(n)
	d := decoder{b: block[used+1 : end]} // one byte of unused attributes
	r := Raw{Bytes: block[:end:end], Timestamp: b.BaseTimestamp() + protocol.Timestamp(d.varint())}
	if b.LogAppendTime() {
		r.Timestamp = b.MaxTimestamp()
	}
	r.afterTime = d.b
	r.Offset = b.BaseOffset() + protocol.Offset(d.varint())
	r.Key, r.Value = d.bytes(), d.bytes()
	count := d.varint()
	if count < 0 || count > int64(len(d.b)/2) { // a header takes two bytes at least
		return Raw{}, nil, fmt.Errorf("%w: %d headers with %d bytes left", ErrInvalid, count, len(d.b))
	}
	for i := int64(0); i < count && !d.failed; i++ {
		if d.bytes() == nil {
			d.failed = true // a header's key is never null
		}
		d.bytes()
	}
	if d.failed || len(d.b) > 0 {
		return Raw{}, nil, fmt.Errorf("%w: record body does not match its length", ErrInvalid)
	}
	return r, block[end:], nil
}

// AppendAt appends the record to a plain block whose batch has another base timestamp.
func (r Raw) AppendAt(block []byte, base protocol.Timestamp) []byte {
	var delta [binary.MaxVarintLen64]byte
	n := binary.PutVarint(delta[:], int64(r.Timestamp-base))
	block = binary.AppendVarint(block, int64(1+n+len(r.afterTime)))
	block = append(block, 0) // record attributes: unused
	block = append(block, delta[:n]...)
	return append(block, r.afterTime...)
}

// Kept is what compaction leaves of a batch's records.
type Kept struct {
	Block        []byte // plain; offsets and timestamps count from the batch's bases, or from Horizon
	Count        int32
	MaxTimestamp protocol.Timestamp
	// Horizon, unless NoTimestamp, is the delete horizon to be stamped: it becomes the base timestamp (KIP-534).
	Horizon protocol.Timestamp
}

// WithRecords returns a new batch with b's header, offsets, sequences and codec
// (at its default level) that holds what was kept. That must be at least one record.
func (b Batch) WithRecords(k Kept) (Batch, error) {
	block, err := compress(b.Codec(), defaultLevel(b.Codec()), k.Block)
	if err != nil {
		return nil, err
	}
	out := append(append(make(Batch, 0, HeaderLen+len(block)), b[:HeaderLen]...), block...)
	if k.Horizon != protocol.NoTimestamp {
		binary.BigEndian.PutUint16(out[21:], out.attributes()|attrDeleteHorizon)
		binary.BigEndian.PutUint64(out[27:], uint64(k.Horizon))
	}
	binary.BigEndian.PutUint64(out[35:], uint64(k.MaxTimestamp))
	binary.BigEndian.PutUint32(out[57:], uint32(k.Count))
	return out.sealed(), nil
}

// Emptied returns a new batch of the same offsets, producer and sequences that holds no record:
// it keeps what a producer's state is made of. Its max timestamp stays, as Kafka has it.
func (b Batch) Emptied() Batch {
	out := append(make(Batch, 0, HeaderLen), b[:HeaderLen]...)
	binary.BigEndian.PutUint16(out[21:], out.attributes()&^(attrCodecMask|attrDeleteHorizon))
	noTime := protocol.NoTimestamp
	binary.BigEndian.PutUint64(out[27:], uint64(noTime))
	binary.BigEndian.PutUint32(out[57:], 0)
	return out.sealed()
}

// sealed writes length and CRC.
func (b Batch) sealed() Batch {
	binary.BigEndian.PutUint32(b[lengthStart:], uint32(len(b)-PrefixLen))
	binary.BigEndian.PutUint32(b[17:], CRC(b[crcStart:]))
	return b
}

// defaultLevel is the default of Kafka's compression.*.level.
func defaultLevel(c Codec) int {
	switch c {
	case Gzip:
		return gzip.DefaultCompression
	case LZ4:
		return 9
	case Zstd:
		return 3
	case None, Snappy:
	}
	return 0
}
