package record

import (
	"encoding/binary"

	"github.com/stratabroker/strata/protocol"
)

// Header is one record header.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record of a batch. Key and Value are nil where the wire says null.
type Record struct {
	Offset    protocol.Offset
	Timestamp protocol.Timestamp
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Builder makes one uncompressed batch. The zero value is ready; Producer
// fields default to "none" through NewBuilder.
type Builder struct {
	ProducerID    protocol.ProducerID
	ProducerEpoch protocol.ProducerEpoch
	BaseSequence  int32
	LeaderEpoch   protocol.Epoch
	Transactional bool
	Control       bool

	base    protocol.Offset
	baseTS  protocol.Timestamp
	maxTS   protocol.Timestamp
	last    protocol.Offset
	count   int32
	records []byte
}

// NewBuilder starts a batch at base, of no idempotent producer.
func NewBuilder(base protocol.Offset) *Builder {
	return &Builder{
		ProducerID: protocol.NoProducerID, ProducerEpoch: protocol.NoProducerEpoch,
		BaseSequence: protocol.NoSequence, base: base,
	}
}

// Count is the number of records added so far.
func (b *Builder) Count() int32 { return b.count }

// Size is the length Bytes would return.
func (b *Builder) Size() int { return HeaderLen + len(b.records) }

// Add appends a record at the next offset; r.Offset is not read.
func (b *Builder) Add(r Record) {
	r.Offset = b.base
	if b.count > 0 {
		r.Offset = b.last + 1
	}
	b.AddAt(r)
}

// AddAt appends a record at r.Offset, which must be above the last one.
func (b *Builder) AddAt(r Record) {
	if b.count == 0 {
		b.baseTS, b.maxTS = r.Timestamp, r.Timestamp
	}
	b.maxTS = max(b.maxTS, r.Timestamp)
	b.last = r.Offset
	b.count++
	body := make([]byte, 0, 24+len(r.Key)+len(r.Value))
	body = append(body, 0) // record attributes: unused
	body = binary.AppendVarint(body, int64(r.Timestamp-b.baseTS))
	body = binary.AppendVarint(body, int64(r.Offset-b.base))
	body = appendBytes(body, r.Key)
	body = appendBytes(body, r.Value)
	body = binary.AppendVarint(body, int64(len(r.Headers)))
	for _, h := range r.Headers {
		body = binary.AppendVarint(body, int64(len(h.Key)))
		body = append(body, h.Key...)
		body = appendBytes(body, h.Value)
	}
	b.records = binary.AppendVarint(b.records, int64(len(body)))
	b.records = append(b.records, body...)
}

func appendBytes(dst, v []byte) []byte {
	if v == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(v))), v...)
}

// Bytes returns the finished batch; the builder may go on.
func (b *Builder) Bytes() Batch {
	out := make(Batch, HeaderLen, HeaderLen+len(b.records))
	out = append(out, b.records...)
	out.SetBaseOffset(b.base)
	binary.BigEndian.PutUint32(out[lengthStart:], uint32(len(out)-PrefixLen))
	out.SetLeaderEpoch(b.LeaderEpoch)
	out[16] = Magic
	var attr uint16
	if b.Transactional {
		attr |= attrTransactional
	}
	if b.Control {
		attr |= attrControl
	}
	binary.BigEndian.PutUint16(out[21:], attr)
	if b.count > 0 {
		binary.BigEndian.PutUint32(out[23:], uint32(b.last-b.base))
	}
	binary.BigEndian.PutUint64(out[27:], uint64(b.baseTS))
	binary.BigEndian.PutUint64(out[35:], uint64(b.maxTS))
	binary.BigEndian.PutUint64(out[43:], uint64(b.ProducerID))
	binary.BigEndian.PutUint16(out[51:], uint16(b.ProducerEpoch))
	binary.BigEndian.PutUint32(out[53:], uint32(b.BaseSequence))
	binary.BigEndian.PutUint32(out[57:], uint32(b.count))
	binary.BigEndian.PutUint32(out[17:], CRC(out[crcStart:]))
	return out
}

// EmptyBatch is a batch without records over the offsets [base, next), at most 2^31 of them: it keeps a log's
// offsets where nothing is left of them, as Kafka's cleaner does.
func EmptyBatch(base, next protocol.Offset, epoch protocol.Epoch) Batch {
	b := NewBuilder(base)
	b.LeaderEpoch, b.baseTS, b.maxTS = epoch, protocol.NoTimestamp, protocol.NoTimestamp
	out := b.Bytes()
	binary.BigEndian.PutUint32(out[23:], uint32(next-1-base))
	binary.BigEndian.PutUint32(out[17:], CRC(out[crcStart:]))
	return out
}
