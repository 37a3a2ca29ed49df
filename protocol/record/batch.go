// Package record is the record batch, magic 2 (KIP-98): a view over its bytes,
// the checks an append must make, the in-place patches a leader may make, and
// reading and building records within a byte budget. It holds no state and
// does no I/O; every room that touches batches uses it, and none parses a
// batch by hand.
//
//	offset  size  field
//	     0     8  base offset            (patched by the leader)
//	     8     4  length of what follows
//	    12     4  partition leader epoch (patched by the leader)
//	    16     1  magic = 2
//	    17     4  CRC32C of all from byte 21
//	    21     2  attributes: 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
//	    23     4  last offset delta
//	    27     8  base timestamp
//	    35     8  max timestamp          (patched with LogAppendTime)
//	    43     8  producer id
//	    51     2  producer epoch
//	    53     4  base sequence
//	    57     4  record count
//	    61     -  records, compressed as one block if a codec is set
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/stratabroker/strata/protocol"
)

// Sizes of a batch's fixed parts.
const (
	HeaderLen   = 61 // bytes before the first record
	PrefixLen   = 12 // base offset and length: what must be there to know how long a batch is
	Magic       = 2
	lengthStart = 8
	crcStart    = 21
)

// Attribute bits.
const (
	attrCodecMask     = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
	attrDeleteHorizon = 0x40
)

// Errors of Split and Check. ErrShort means more bytes may mend it; the others do not go away.
var (
	ErrShort     = errors.New("record batch is cut short")
	ErrCorrupt   = errors.New("record batch is corrupt")
	ErrOldFormat = errors.New("record batch has a magic other than 2")
	ErrInvalid   = errors.New("record batch is invalid")
)

// Castagnoli is the CRC32C table that batches and all of strata's formats use.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC returns the CRC32C of b.
func CRC(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Batch is the bytes of exactly one record batch, at least HeaderLen long.
// It aliases the buffer it was split from.
type Batch []byte

// TotalLen reads from a prefix of PrefixLen bytes how long the whole batch is.
// It fails with ErrCorrupt where the length cannot be that of a batch.
func TotalLen(prefix []byte) (int, error) {
	if len(prefix) < PrefixLen {
		return 0, ErrShort
	}
	n := int32(binary.BigEndian.Uint32(prefix[lengthStart:]))
	if n < HeaderLen-PrefixLen {
		return 0, fmt.Errorf("%w: length field %d is below %d", ErrCorrupt, n, HeaderLen-PrefixLen)
	}
	return int(n) + PrefixLen, nil
}

// Split takes the first batch off b. It checks lengths only: ErrShort when b
// ends inside the batch, ErrCorrupt when the length lies. An empty b gives ErrShort.
func Split(b []byte) (first Batch, rest []byte, err error) {
	n, err := TotalLen(b)
	if err != nil {
		return nil, b, err
	}
	if n > len(b) {
		return nil, b, ErrShort
	}
	return Batch(b[:n:n]), b[n:], nil
}

// Check verifies magic, CRC and that the header's numbers can be true. It does not
// look at records. Errors wrap ErrOldFormat, ErrCorrupt or ErrInvalid.
func (b Batch) Check() error {
	switch {
	case len(b) < HeaderLen:
		return ErrShort
	case b.Magic() != Magic:
		return fmt.Errorf("%w: %d", ErrOldFormat, b.Magic())
	case CRC(b[crcStart:]) != b.StoredCRC():
		return fmt.Errorf("%w: CRC is %08x, header says %08x", ErrCorrupt, CRC(b[crcStart:]), b.StoredCRC())
	case b.LastOffsetDelta() < 0, b.Count() < 0:
		return fmt.Errorf("%w: last offset delta %d, count %d", ErrInvalid, b.LastOffsetDelta(), b.Count())
	}
	return nil
}

// BaseOffset is the offset of the first record.
func (b Batch) BaseOffset() protocol.Offset { return protocol.Offset(binary.BigEndian.Uint64(b)) }

// LeaderEpoch is the epoch of the leader that appended the batch.
func (b Batch) LeaderEpoch() protocol.Epoch {
	return protocol.Epoch(binary.BigEndian.Uint32(b[12:]))
}

// Magic is the format version.
func (b Batch) Magic() int8 { return int8(b[16]) }

// StoredCRC is the CRC32C that the header holds.
func (b Batch) StoredCRC() uint32 { return binary.BigEndian.Uint32(b[17:]) }

func (b Batch) attributes() uint16 { return binary.BigEndian.Uint16(b[21:]) }

// Codec tells how the records are compressed.
func (b Batch) Codec() Codec { return Codec(b.attributes() & attrCodecMask) }

// LogAppendTime tells whether all records carry the broker's time (MaxTimestamp).
func (b Batch) LogAppendTime() bool { return b.attributes()&attrLogAppendTime != 0 }

// Transactional tells whether the batch belongs to a transaction.
func (b Batch) Transactional() bool { return b.attributes()&attrTransactional != 0 }

// Control tells whether the batch is a transaction marker.
func (b Batch) Control() bool { return b.attributes()&attrControl != 0 }

// HasDeleteHorizon tells whether the base timestamp is a tombstone's delete horizon (KIP-534).
func (b Batch) HasDeleteHorizon() bool { return b.attributes()&attrDeleteHorizon != 0 }

// LastOffsetDelta is the last offset less the base offset. Compaction keeps it.
func (b Batch) LastOffsetDelta() int32 { return int32(binary.BigEndian.Uint32(b[23:])) }

// LastOffset is the offset of the last record the batch was written with.
func (b Batch) LastOffset() protocol.Offset {
	return b.BaseOffset() + protocol.Offset(b.LastOffsetDelta())
}

// NextOffset is the offset after the batch.
func (b Batch) NextOffset() protocol.Offset { return b.LastOffset() + 1 }

// BaseTimestamp is what record timestamps count from.
func (b Batch) BaseTimestamp() protocol.Timestamp {
	return protocol.Timestamp(binary.BigEndian.Uint64(b[27:]))
}

// MaxTimestamp is the greatest timestamp of the batch's records.
func (b Batch) MaxTimestamp() protocol.Timestamp {
	return protocol.Timestamp(binary.BigEndian.Uint64(b[35:]))
}

// ProducerID is NoProducerID for a producer that is not idempotent.
func (b Batch) ProducerID() protocol.ProducerID {
	return protocol.ProducerID(binary.BigEndian.Uint64(b[43:]))
}

// ProducerEpoch is the epoch of ProducerID.
func (b Batch) ProducerEpoch() protocol.ProducerEpoch {
	return protocol.ProducerEpoch(binary.BigEndian.Uint16(b[51:]))
}

// BaseSequence is the sequence number of the first record.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[53:])) }

// LastSequence is the sequence number of the last record; sequences wrap from
// 2^31-1 to 0.
func (b Batch) LastSequence() int32 {
	return int32((int64(b.BaseSequence()) + int64(b.LastOffsetDelta())) & 0x7fffffff)
}

// Count is the number of records in the batch.
func (b Batch) Count() int32 { return int32(binary.BigEndian.Uint32(b[57:])) }

// SetBaseOffset and SetLeaderEpoch patch what lies outside the CRC.
func (b Batch) SetBaseOffset(o protocol.Offset) { binary.BigEndian.PutUint64(b, uint64(o)) }

// SetLeaderEpoch patches the partition leader epoch.
func (b Batch) SetLeaderEpoch(e protocol.Epoch) { binary.BigEndian.PutUint32(b[12:], uint32(e)) }

// SetLogAppendTime marks the batch as stamped by the broker at now and renews the CRC.
func (b Batch) SetLogAppendTime(now protocol.Timestamp) {
	binary.BigEndian.PutUint16(b[21:], b.attributes()|attrLogAppendTime)
	binary.BigEndian.PutUint64(b[35:], uint64(now))
	binary.BigEndian.PutUint32(b[17:], CRC(b[crcStart:]))
}
