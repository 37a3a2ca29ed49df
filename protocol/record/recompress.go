package record

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Recompress returns the batch with its records block in another codec, all
// other fields as they are. Level has the codec's own scale, as Kafka's
// compression.*.level. The decoded block takes at most budget bytes.
func (b Batch) Recompress(c Codec, level, budget int) (Batch, error) {
	plain, err := decompress(b.Codec(), b[HeaderLen:], budget)
	if err != nil {
		return nil, err
	}
	block, err := compress(c, level, plain)
	if err != nil {
		return nil, err
	}
	out := append(append(make(Batch, 0, HeaderLen+len(block)), b[:HeaderLen]...), block...)
	binary.BigEndian.PutUint32(out[lengthStart:], uint32(len(out)-PrefixLen))
	binary.BigEndian.PutUint16(out[21:], out.attributes()&^attrCodecMask|uint16(c))
	binary.BigEndian.PutUint32(out[17:], CRC(out[crcStart:]))
	return out, nil
}

func compress(c Codec, level int, plain []byte) ([]byte, error) {
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch c {
	case None:
		return plain, nil
	case Snappy:
		return compressSnappy(plain), nil
	case Gzip:
		w, err = gzip.NewWriterLevel(&out, level)
	case LZ4:
		lw := lz4.NewWriter(&out)
		err = lw.Apply(lz4.CompressionLevelOption(lz4Level(level)), lz4.BlockSizeOption(lz4.Block64Kb))
		w = lw
	case Zstd:
		w, err = zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(1))
	default:
		err = fmt.Errorf("%w: unknown codec %d", ErrInvalid, c)
	}
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// lz4Level maps the levels of the lz4 tool (1 to 17; up to 2 is its fast mode) to the library's.
func lz4Level(level int) lz4.CompressionLevel {
	if level < 3 {
		return lz4.Fast
	}
	return lz4.CompressionLevel(1 << (8 + min(level, 9)))
}

// compressSnappy writes the framing of the Java client, which all clients read.
func compressSnappy(plain []byte) []byte {
	const block = 32 << 10
	out := append([]byte(nil), xerialMagic...)
	out = binary.BigEndian.AppendUint32(out, 1) // version
	out = binary.BigEndian.AppendUint32(out, 1) // compatible down to
	for len(plain) > 0 {
		n := min(len(plain), block)
		b := s2.EncodeSnappy(nil, plain[:n])
		out = binary.BigEndian.AppendUint32(out, uint32(len(b)))
		out = append(out, b...)
		plain = plain[n:]
	}
	return out
}
