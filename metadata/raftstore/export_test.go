package raftstore

import "encoding/binary"

// The codec of entries, for tests of its bytes.
var (
	EncodeEntry = encodeEntry
	DecodeEntry = decodeEntry
)

// Reseal replaces the checksum by a good one, so that fuzzing gets behind it.
func Reseal(index uint64, b []byte) []byte {
	body := append([]byte(nil), b[:max(0, len(b)-entryTrailer)]...)
	return binary.BigEndian.AppendUint32(body, checksum(index, body))
}

// BreakDisk makes every write from now on fail, as a full or broken disk does.
func (s *Store) BreakDisk() { _ = s.db.Close() }
