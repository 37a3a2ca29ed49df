package raftstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"
)

const (
	entryVersion = 1
	entryHeader  = 22 // version, type, term, time, length of extensions
	entryTrailer = 4  // CRC32C of the index and all before it
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeEntry writes one log entry; README.md has the diagram.
func encodeEntry(l *raft.Log) []byte {
	b := make([]byte, 0, entryHeader+len(l.Extensions)+len(l.Data)+entryTrailer)
	b = append(b, entryVersion, byte(l.Type))
	b = binary.BigEndian.AppendUint64(b, l.Term)
	var nanos int64
	if !l.AppendedAt.IsZero() {
		nanos = l.AppendedAt.UnixNano()
	}
	b = binary.BigEndian.AppendUint64(b, uint64(nanos))
	b = binary.BigEndian.AppendUint32(b, uint32(len(l.Extensions)))
	b = append(b, l.Extensions...)
	b = append(b, l.Data...)
	return binary.BigEndian.AppendUint32(b, checksum(l.Index, b))
}

// checksum covers the index, so that an entry under another key is found out.
func checksum(index uint64, b []byte) uint32 {
	return crc32.Update(crc32.Checksum(binary.BigEndian.AppendUint64(nil, index), castagnoli), castagnoli, b)
}

// decodeEntry reads what encodeEntry wrote under index; l holds copies.
func decodeEntry(index uint64, b []byte, l *raft.Log) error {
	if len(b) < entryHeader+entryTrailer || b[0] != entryVersion {
		return fmt.Errorf("%w: index %d: %d bytes, version %v", ErrCorrupt, index, len(b), b[:min(len(b), 1)])
	}
	body, sum := b[:len(b)-entryTrailer], binary.BigEndian.Uint32(b[len(b)-entryTrailer:])
	if got := checksum(index, body); got != sum {
		return fmt.Errorf("%w: index %d: CRC32C %08x, recorded %08x", ErrCorrupt, index, got, sum)
	}
	ext, rest := uint64(binary.BigEndian.Uint32(body[18:])), body[entryHeader:]
	if ext > uint64(len(rest)) {
		return fmt.Errorf("%w: index %d: %d bytes of extensions in %d", ErrCorrupt, index, ext, len(rest))
	}
	*l = raft.Log{Index: index, Type: raft.LogType(body[1]), Term: binary.BigEndian.Uint64(body[2:])}
	if nanos := int64(binary.BigEndian.Uint64(body[10:])); nanos != 0 {
		l.AppendedAt = time.Unix(0, nanos)
	}
	if ext > 0 {
		l.Extensions = append([]byte(nil), rest[:ext]...)
	}
	l.Data = append([]byte(nil), rest[ext:]...)
	return nil
}
