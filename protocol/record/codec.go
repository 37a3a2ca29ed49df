package record

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is how a batch's records are compressed, by its number on the wire.
type Codec uint8

// The codecs of magic 2. Other numbers are invalid.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

// String gives the name used by compression.type.
func (c Codec) String() string {
	names := [...]string{"none", "gzip", "snappy", "lz4", "zstd"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("codec-%d", uint8(c))
}

// ErrBudget means that decoding would need more bytes than the caller allows.
var ErrBudget = errors.New("record batch needs more memory than allowed to decode")

// decompress returns the records block in plain form, at most budget bytes of it.
// Growing it takes up to twice as much again; a decoder may take decoderState
// besides (lz4: the block size that the frame names).
func decompress(c Codec, src []byte, budget int) ([]byte, error) {
	switch c {
	case None:
		return src, nil
	case Gzip:
		r, err := gzip.NewReader(bytes.NewReader(src))
		if err != nil {
			return nil, fmt.Errorf("%w: gzip: %w", ErrInvalid, err)
		}
		return readWithin(r, budget, "gzip")
	case Snappy:
		return decompressSnappy(src, budget)
	case LZ4:
		return readWithin(lz4.NewReader(bytes.NewReader(src)), budget, "lz4")
	case Zstd:
		return decompressZstd(src, budget)
	}
	return nil, fmt.Errorf("%w: unknown codec %d", ErrInvalid, c)
}

func readWithin(r io.Reader, budget int, name string) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(r, int64(budget)+1))
	return within(out, err, budget, name)
}

// within judges what a decoder gave.
func within(out []byte, err error, budget int, name string) ([]byte, error) {
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded), len(out) > budget:
		return nil, ErrBudget
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, name, err)
	}
	return out, nil
}

// decoderState is what a decoder may take besides the block itself.
const decoderState = 8 << 20

// decompressZstd decodes into the result itself where the window that the frame
// header names fits the budget. A smaller budget says nothing about the batch:
// the Java client names 2 MiB however few bytes follow, and RFC 8878 asks every
// decoder for 8 MiB. Then the window is set aside beside the result.
func decompressZstd(src []byte, budget int) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(src); err != nil {
		return nil, fmt.Errorf("%w: zstd: %w", ErrInvalid, err)
	}
	options := []zstd.DOption{zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true)}
	if !h.Skippable && h.WindowSize <= uint64(budget) {
		d, err := zstd.NewReader(nil, append(options, zstd.WithDecoderMaxMemory(max(1, uint64(budget))))...)
		if err != nil {
			return nil, fmt.Errorf("%w: zstd: %w", ErrInvalid, err)
		}
		defer d.Close()
		out, err := d.DecodeAll(src, nil)
		return within(out, err, budget, "zstd")
	}
	d, err := zstd.NewReader(bytes.NewReader(src), append(options, zstd.WithDecoderMaxWindow(decoderState))...)
	if err != nil {
		return nil, fmt.Errorf("%w: zstd: %w", ErrInvalid, err)
	}
	defer d.Close()
	return readWithin(d, budget, "zstd")
}

// xerialMagic starts the framing that the Java client puts around snappy blocks:
// magic, two int32 versions, then blocks of int32 length and bytes.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

func decompressSnappy(src []byte, budget int) ([]byte, error) {
	if !bytes.HasPrefix(src, xerialMagic) {
		return snappyBlock(nil, src, budget)
	}
	if len(src) < 16 {
		return nil, fmt.Errorf("%w: snappy frame header is cut short", ErrInvalid)
	}
	var out []byte
	for src = src[16:]; len(src) > 0; {
		if len(src) < 4 {
			return nil, fmt.Errorf("%w: snappy block length is cut short", ErrInvalid)
		}
		n := int64(binary.BigEndian.Uint32(src))
		if n > int64(len(src)-4) {
			return nil, fmt.Errorf("%w: snappy block of %d bytes, %d left", ErrInvalid, n, len(src)-4)
		}
		var err error
		if out, err = snappyBlock(out, src[4:4+n], budget); err != nil {
			return nil, err
		}
		src = src[4+n:]
	}
	return out, nil
}

func snappyBlock(dst, block []byte, budget int) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return nil, fmt.Errorf("%w: snappy: %w", ErrInvalid, err)
	}
	if n > budget-len(dst) {
		return nil, ErrBudget
	}
	// Into the room behind dst: a block of its own would be copied once more.
	dst = slices.Grow(dst, n)
	plain, err := s2.Decode(dst[len(dst):len(dst)+n], block)
	if err != nil {
		return nil, fmt.Errorf("%w: snappy: %w", ErrInvalid, err)
	}
	return dst[:len(dst)+len(plain)], nil
}
