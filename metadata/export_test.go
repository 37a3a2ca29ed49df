package metadata

import (
	"encoding/binary"
	"hash/crc32"
)

// AtIndex is the same content at another index, so that tests can compare
// images that differ in nothing else.
func AtIndex(img *Image, index uint64) *Image {
	next := *img
	next.index = index
	return &next
}

// Reseal gives bytes a good header and checksum, so that fuzzing gets behind them.
func Reseal(b []byte) []byte {
	body := b[min(len(b), snapshotHeader):]
	body = body[:max(0, len(body)-snapshotTrailer)]
	out := append([]byte(snapshotMagic), 0, 0, 0, snapshotVersion)
	out = append(out, body...)
	return binary.BigEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
}
