package format

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// Section kinds of a segment object. A reader skips kinds it does not know.
const (
	batchesSection uint32 = iota + 1
	identitySection
	offsetsSection
	timesSection
	epochsSection
	producersSection
	abortedSection
	chunksSection
	segmentSectionsEnd
)

// Lengths of fixed rows in the tail.
const (
	identityLen = 94 // without the topic's name
	epochLen    = 12
	abortedLen  = 32
	crcLen      = 4
)

// Index is a segment object's decoded tail. It is immutable and does not hold on to
// the bytes it was decoded from.
type Index struct {
	meta      SegmentMeta
	dataBytes int64
	digest
	says claims
}

// claims is what a compacted entry says of the batches and the tail does not.
type claims struct{ horizon protocol.Timestamp }

// DecodeIndex reads the tail that e locates and checks that it belongs to e.
// Errors: ErrNewerFormat, ErrCorrupt (IdentityPart for another object's tail).
func DecodeIndex(tail []byte, e Entry) (*Index, error) {
	if len(tail) != int(e.IndexLength) || e.IndexOffset != e.DataBytes || e.ObjectSize != e.IndexOffset+int64(e.IndexLength) {
		return nil, corrupt(IndexPart, "%d bytes for a tail at [%d, +%d) of an object of %d with %d bytes of batches",
			len(tail), e.IndexOffset, e.IndexLength, e.ObjectSize, e.DataBytes)
	}
	// Identity is told before the CRC: a whole tail of another object is a swap, not a flipped bit.
	x, err := decodeTail(tail, e.ObjectSize)
	if err != nil {
		return nil, err
	}
	want := x.entry(x.meta.ObjectKey(), tail)
	switch {
	case want.ObjectKey != e.ObjectKey:
		return nil, corrupt(IdentityPart, "object says that it is %s", want.ObjectKey)
	case want.IndexCRC != e.IndexCRC:
		return nil, corrupt(IndexPart, "CRC of the tail is %08x, entry says %08x", want.IndexCRC, e.IndexCRC)
	case e.Base < want.Base || e.End > want.End || e.Base >= e.End:
		return nil, corrupt(IdentityPart, "entry [%d, %d) of an object with [%d, %d)", e.Base, e.End, want.Base, want.End)
	}
	want.Base, want.End = e.Base, e.End
	want.Compactions, want.DeleteHorizon = e.Compactions, e.DeleteHorizon // the manifest's: an object that lost nothing stays
	if want != e {
		return nil, corrupt(IdentityPart, "entry is %+v, of this object it is %+v", e, want)
	}
	x.says = claims{horizon: e.DeleteHorizon}
	return x, nil
}

// entry is the manifest row of the whole object.
func (x *Index) entry(objectKey string, tail []byte) Entry {
	return Entry{
		ObjectKey: objectKey, Base: x.meta.Base, End: x.meta.End, Epoch: x.meta.Epoch,
		MaxTimestamp: x.maxTS, SealedMs: x.meta.SealedMs,
		DataBytes: x.dataBytes, ObjectSize: x.dataBytes + int64(len(tail)), IndexOffset: x.dataBytes,
		IndexLength: uint32(len(tail)), IndexCRC: record.CRC(tail),
		ChunkSize: x.meta.ChunkSize, Records: x.records, Attempt: x.meta.Attempt,
	}
}

// OpenSegment reads a segment object's tail without a manifest, from its footer. It
// checks everything but the batches. Errors: those of r, ErrNewerFormat, ErrCorrupt.
func OpenSegment(r io.ReaderAt, size int64) (SegmentMeta, *Index, error) {
	if size < trailerLen {
		return SegmentMeta{}, nil, corrupt(FooterPart, "object of %d bytes", size)
	}
	trailer, err := readAt(r, size-trailerLen, trailerLen)
	if err != nil {
		return SegmentMeta{}, nil, err
	}
	n, err := footerLen(FooterPart, segmentMagic, trailer, size)
	if err != nil {
		return SegmentMeta{}, nil, err
	}
	footer, err := readAt(r, size-int64(n), n)
	if err != nil {
		return SegmentMeta{}, nil, err
	}
	sections, err := readFooter(FooterPart, segmentMagic, footer, size)
	if err != nil {
		return SegmentMeta{}, nil, err
	}
	if len(sections) == 0 || sections[0].kind != batchesSection {
		return SegmentMeta{}, nil, corrupt(FooterPart, "the first of %d sections is not the batches", len(sections))
	}
	start := int64(sections[0].n)
	tail, err := readAt(r, start, int(size-start))
	if err != nil {
		return SegmentMeta{}, nil, err
	}
	x, err := decodeTail(tail, size)
	if err != nil {
		return SegmentMeta{}, nil, err
	}
	return x.meta, x, nil
}

func readAt(r io.ReaderAt, off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	if got, err := r.ReadAt(b, off); got < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %d bytes at %d: %w", n, off, err)
	}
	return b, nil
}

// Floor is the byte position of a batch boundary at or before the batch that holds o,
// in the chunk in which that batch begins.
func (x *Index) Floor(o protocol.Offset) (pos int64) {
	i := sort.Search(len(x.offsets), func(i int) bool { return x.offsets[i].offset > o })
	if i == 0 {
		return 0
	}
	return x.offsets[i-1].pos
}

// FloorTime is a batch boundary at or before the first batch whose max
// timestamp is not below ts, in the chunk where that batch begins; DataBytes where there is none.
func (x *Index) FloorTime(ts protocol.Timestamp) (pos int64) {
	i := sort.Search(len(x.times), func(i int) bool { return x.times[i].ts >= ts })
	switch {
	case i < len(x.times):
		return x.times[i].pos
	case ts <= x.maxTS: // no batch has a timestamp, and none is asked for
		return 0
	}
	return x.dataBytes
}

// Chunks is the number of chunks of the batches.
func (x *Index) Chunks() int { return len(x.chunks) }

// ChunkRange is where chunk i lies in the object, in bytes. The last may be shorter.
func (x *Index) ChunkRange(i int) (off, n int64) {
	size := int64(x.meta.ChunkSize)
	off = int64(i) * size
	return off, min(size, x.dataBytes-off)
}

// CheckChunk compares the bytes of chunk i with its CRC32C. Error: ErrCorrupt.
func (x *Index) CheckChunk(i int, b []byte) error {
	off, n := x.ChunkRange(i)
	if int64(len(b)) != n {
		return corrupt(ChunkPart, "chunk %d, bytes [%d, %d), came with %d bytes", i, off, off+n, len(b))
	}
	if got := record.CRC(b); got != x.chunks[i] {
		return corrupt(ChunkPart, "CRC of chunk %d, bytes [%d, %d), is %08x, want %08x", i, off, off+n, got, x.chunks[i])
	}
	return nil
}

// Verify reads all batches from data (the object, or its first DataBytes) once and
// checks chunk CRCs, batch CRCs, offsets and that the indexes say what the batches say, as does the
// entry that the index was decoded for. Errors: those of data, ErrCorrupt (EntryPart where the entry is wrong and the object is good).
func (x *Index) Verify(data io.ReaderAt) error {
	scan := newScanner(x.meta)
	scan.want = x.chunks
	if err := scan.scan(data, x.dataBytes); err != nil {
		return err
	}
	got := scan.got
	switch {
	case got.crc != x.crc:
		return corrupt(BatchPart, "CRC of all batches is %08x, footer says %08x", got.crc, x.crc)
	case got.records != x.records || got.maxTS != x.maxTS:
		return corrupt(IndexPart, "object says %d records up to timestamp %d, batches have %d up to %d", x.records, x.maxTS, got.records, got.maxTS)
	case !slices.Equal(got.offsets, x.offsets):
		return corrupt(IndexPart, "offset index is not that of the batches")
	case !slices.Equal(got.times, x.times):
		return corrupt(IndexPart, "time index is not that of the batches")
	case x.says.horizon != 0 && (got.horizon == 0 || x.says.horizon < got.horizon):
		// That the batches have one and the entry has none is no error: their tombstones may have gone.
		return corrupt(EntryPart, "delete horizon is %d, the earliest of the batches is %d", x.says.horizon, got.horizon)
	}
	return nil
}

// Meta is the object's identity and all it says of epochs, producers and transactions.
func (x *Index) Meta() SegmentMeta { return x.meta }

// DataBytes is the length of the batches, which start at 0.
func (x *Index) DataBytes() int64 { return x.dataBytes }

// Epochs is the lineage within the object. It must not be changed.
func (x *Index) Epochs() []protocol.EpochStart { return x.meta.Epochs }

// Producers is the producer state at the object's end. It must not be changed.
func (x *Index) Producers() []byte { return x.meta.Producers }

// Aborted lists the aborted transactions that overlap the object. It must not be changed.
func (x *Index) Aborted() []protocol.AbortedTxn { return x.meta.Aborted }

// Bytes is what the index takes on the heap, about, for caches to charge.
func (x *Index) Bytes() int64 {
	return int64(512 + len(x.meta.TopicName) + len(x.meta.Producers) + 16*(len(x.offsets)+len(x.times)+len(x.meta.Epochs)) +
		abortedLen*len(x.meta.Aborted) + crcLen*len(x.chunks))
}

// encode makes the tail: all sections but the batches, then the footer.
func (x *Index) encode() []byte {
	var w objectWriter
	w.skip(batchesSection, uint64(x.dataBytes), x.crc)
	w.add(identitySection, x.encodeIdentity())
	w.add(offsetsSection, x.encodeOffsets())
	w.add(timesSection, x.encodeTimes())
	be := binary.BigEndian
	var b []byte
	for _, e := range x.meta.Epochs {
		b = be.AppendUint32(b, uint32(e.Epoch))
		b = be.AppendUint64(b, uint64(e.Start))
	}
	w.add(epochsSection, b)
	w.add(producersSection, x.meta.Producers)
	b = b[:0]
	for _, a := range x.meta.Aborted {
		for _, v := range [...]int64{int64(a.Producer), int64(a.First), int64(a.Last), int64(a.LastStable)} {
			b = be.AppendUint64(b, uint64(v))
		}
	}
	w.add(abortedSection, b)
	b = b[:0]
	for _, c := range x.chunks {
		b = be.AppendUint32(b, c)
	}
	w.add(chunksSection, b)
	return w.finish(segmentMagic)
}

func (x *Index) encodeIdentity() []byte {
	be, m := binary.BigEndian, x.meta
	b := make([]byte, 0, identityLen+len(m.TopicName))
	b = append(b, m.Key.Topic[:]...)
	b = be.AppendUint32(b, uint32(m.Key.Partition))
	b = be.AppendUint64(b, uint64(m.Base))
	b = be.AppendUint64(b, uint64(m.End))
	b = be.AppendUint32(b, uint32(m.Epoch))
	b = be.AppendUint64(b, m.Attempt.Generation)
	b = be.AppendUint64(b, m.Attempt.Index)
	b = be.AppendUint64(b, m.Rand)
	b = be.AppendUint32(b, m.ChunkSize)
	b = be.AppendUint64(b, uint64(x.records))
	b = be.AppendUint64(b, uint64(x.maxTS))
	b = be.AppendUint64(b, uint64(m.SealedMs))
	b = be.AppendUint16(b, uint16(len(m.TopicName)))
	return append(b, m.TopicName...)
}

// encodeOffsets writes each entry as the differences to the last: offset, then position.
func (x *Index) encodeOffsets() []byte {
	b := binary.AppendUvarint(nil, uint64(len(x.offsets)))
	last := offsetEntry{offset: x.meta.Base}
	for _, e := range x.offsets {
		b = binary.AppendVarint(b, int64(e.offset-last.offset)) // only the first can be negative
		b = binary.AppendUvarint(b, uint64(e.pos-last.pos))
		last = e
	}
	return b
}

// encodeTimes writes each entry as differences too: timestamp, then position.
func (x *Index) encodeTimes() []byte {
	b := binary.AppendUvarint(nil, uint64(len(x.times)))
	last := timeEntry{ts: protocol.NoTimestamp}
	for _, e := range x.times {
		b = binary.AppendUvarint(b, uint64(e.ts-last.ts))
		b = binary.AppendUvarint(b, uint64(e.pos-last.pos))
		last = e
	}
	return b
}

// decodeTail reads what encode made. Every allocation is bounded by len(tail).
func decodeTail(tail []byte, size int64) (*Index, error) {
	start := size - int64(len(tail))
	sections, err := readFooter(FooterPart, segmentMagic, tail, size)
	if err != nil {
		return nil, err
	}
	if len(sections) == 0 || sections[0].kind != batchesSection || int64(sections[0].n) != start {
		return nil, corrupt(FooterPart, "the first of %d sections is not the batches, [0, %d)", len(sections), start)
	}
	parts, err := tailParts(sections[1:], tail, uint64(start))
	if err != nil {
		return nil, err
	}
	x := &Index{dataBytes: start}
	x.crc = sections[0].crc
	if err := x.decodeIdentity(parts[identitySection]); err != nil {
		return nil, err
	}
	if err := x.decodeLists(parts[epochsSection], parts[abortedSection], parts[chunksSection]); err != nil {
		return nil, err
	}
	x.meta.Producers = slices.Clone(parts[producersSection])
	if err := x.meta.check(); err != nil {
		return nil, corrupt(IdentityPart, "%v", err)
	}
	if want := (start + int64(x.meta.ChunkSize) - 1) / int64(x.meta.ChunkSize); int64(len(x.chunks)) != want {
		return nil, corrupt(IndexPart, "%d chunk CRCs for %d chunks", len(x.chunks), want)
	}
	if err := x.decodeOffsets(parts[offsetsSection]); err != nil {
		return nil, err
	}
	return x, x.decodeTimes(parts[timesSection])
}

// tailParts gives the bytes of each known section but the batches; each must be there once.
func tailParts(sections []section, tail []byte, start uint64) (parts [segmentSectionsEnd][]byte, err error) {
	seen := map[uint32]bool{batchesSection: true}
	for _, s := range sections {
		b, err := s.bytesOf(IndexPart, tail, start)
		if err != nil {
			return parts, err
		}
		if seen[s.kind] {
			return parts, corrupt(FooterPart, "two sections of kind %d", s.kind)
		}
		seen[s.kind] = true
		if s.kind < segmentSectionsEnd {
			parts[s.kind] = b
		}
	}
	for kind := batchesSection; kind < segmentSectionsEnd; kind++ {
		if !seen[kind] {
			return parts, corrupt(FooterPart, "no section of kind %d", kind)
		}
	}
	return parts, nil
}

func (x *Index) decodeIdentity(b []byte) error {
	if len(b) < identityLen {
		return corrupt(IdentityPart, "%d bytes, at least %d are needed", len(b), identityLen)
	}
	be, m := binary.BigEndian, &x.meta
	copy(m.Key.Topic[:], b)
	m.Key.Partition = int32(be.Uint32(b[16:]))
	m.Base, m.End = protocol.Offset(be.Uint64(b[20:])), protocol.Offset(be.Uint64(b[28:]))
	m.Epoch = protocol.Epoch(be.Uint32(b[36:]))
	m.Attempt = metadata.Attempt{Generation: be.Uint64(b[40:]), Index: be.Uint64(b[48:])}
	m.Rand, m.ChunkSize = be.Uint64(b[56:]), be.Uint32(b[64:])
	x.records, x.maxTS = int64(be.Uint64(b[68:])), protocol.Timestamp(be.Uint64(b[76:]))
	m.SealedMs = protocol.Timestamp(be.Uint64(b[84:]))
	if n := int(be.Uint16(b[92:])); n != len(b)-identityLen {
		return corrupt(IdentityPart, "topic name of %d bytes, %d are there", n, len(b)-identityLen)
	}
	m.TopicName = string(b[identityLen:])
	if x.records < 0 || x.maxTS < protocol.NoTimestamp {
		return corrupt(IdentityPart, "%d records up to timestamp %d", x.records, x.maxTS)
	}
	return nil
}

func (x *Index) decodeLists(epochs, aborted, chunks []byte) error {
	if len(epochs)%epochLen != 0 || len(aborted)%abortedLen != 0 || len(chunks)%crcLen != 0 {
		return corrupt(IndexPart, "epochs, aborted transactions and chunk CRCs of %d, %d and %d bytes", len(epochs), len(aborted), len(chunks))
	}
	be := binary.BigEndian
	for ; len(epochs) > 0; epochs = epochs[epochLen:] {
		x.meta.Epochs = append(x.meta.Epochs, protocol.EpochStart{
			Epoch: protocol.Epoch(be.Uint32(epochs)), Start: protocol.Offset(be.Uint64(epochs[4:])),
		})
	}
	for ; len(aborted) > 0; aborted = aborted[abortedLen:] {
		x.meta.Aborted = append(x.meta.Aborted, protocol.AbortedTxn{
			Producer: protocol.ProducerID(be.Uint64(aborted)), First: protocol.Offset(be.Uint64(aborted[8:])),
			Last: protocol.Offset(be.Uint64(aborted[16:])), LastStable: protocol.Offset(be.Uint64(aborted[24:])),
		})
	}
	x.chunks = make([]uint32, len(chunks)/crcLen)
	for i := range x.chunks {
		x.chunks[i] = be.Uint32(chunks[i*crcLen:])
	}
	return nil
}

// decodeOffsets wants one entry a chunk at most, the first at byte 0, all ascending within the object.
func (x *Index) decodeOffsets(b []byte) error {
	c := cursor{b: b}
	count := c.count(2)
	if !c.failed {
		x.offsets = make([]offsetEntry, 0, count)
	}
	last := offsetEntry{offset: x.meta.Base}
	for i := range count {
		e := offsetEntry{offset: last.offset + protocol.Offset(c.varint()), pos: last.pos + int64(c.uvarint())}
		size := int64(x.meta.ChunkSize)
		ok := e.offset >= 0 && e.pos == 0
		if i > 0 {
			ok = e.offset > last.offset && e.pos > last.pos && e.pos/size > last.pos/size
		}
		if c.failed || !ok || e.offset >= x.meta.End || e.pos >= x.dataBytes {
			return corrupt(IndexPart, "offset index entry %d: offset %d at byte %d", i, e.offset, e.pos)
		}
		x.offsets = append(x.offsets, e)
		last = e
	}
	if c.failed || len(c.b) > 0 || (len(x.offsets) == 0) != (x.dataBytes == 0) {
		return corrupt(IndexPart, "offset index of %d entries in %d bytes for %d bytes of batches", count, len(b), x.dataBytes)
	}
	return nil
}

// decodeTimes wants ascending entries at positions of the offset index, the last with the max timestamp.
func (x *Index) decodeTimes(b []byte) error {
	c := cursor{b: b}
	count := c.count(2)
	if !c.failed {
		x.times = make([]timeEntry, 0, count)
	}
	last := timeEntry{ts: protocol.NoTimestamp}
	for i := range count {
		e := timeEntry{ts: last.ts + protocol.Timestamp(c.uvarint()), pos: last.pos + int64(c.uvarint())}
		_, found := slices.BinarySearchFunc(x.offsets, e.pos, func(o offsetEntry, pos int64) int { return int(min(1, max(-1, o.pos-pos))) })
		if c.failed || e.ts <= last.ts || i > 0 && e.pos <= last.pos || !found {
			return corrupt(IndexPart, "time index entry %d: timestamp %d at byte %d", i, e.ts, e.pos)
		}
		x.times = append(x.times, e)
		last = e
	}
	if c.failed || len(c.b) > 0 || last.ts != x.maxTS {
		return corrupt(IndexPart, "time index of %d entries in %d bytes up to %d, max timestamp is %d", count, len(b), last.ts, x.maxTS)
	}
	return nil
}

// cursor reads varints; after a failure it gives zeros.
type cursor struct {
	b      []byte
	failed bool
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.failed, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.failed, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

// count reads how many elements of at least each bytes follow; more than can be there is a failure.
func (c *cursor) count(each int) int {
	n := c.uvarint()
	if n > uint64(len(c.b)/each) {
		c.failed, c.b = true, nil
		return 0
	}
	return int(n)
}
