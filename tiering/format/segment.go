package format

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// DefaultChunkSize is the unit of ranged reads in bytes: each chunk of a
// segment object's batches has a CRC32C of its own.
const DefaultChunkSize = 128 << 10

// SegmentMeta is what a segment object says beside its batches. Key, Base,
// End, Epoch, Attempt and Rand are its identity: its object key is made of
// them, and its tail repeats them, so that a swapped object is found out.
type SegmentMeta struct {
	Key       protocol.PartitionKey
	TopicName string
	Base, End protocol.Offset
	Epoch     protocol.Epoch        // leader epoch of the uploader
	Epochs    []protocol.EpochStart // lineage within [Base, End): the first is the epoch in force at Base
	Producers []byte                // producer state at End, opaque (producer.State.Encode)
	Aborted   []protocol.AbortedTxn // every aborted transaction that overlaps [Base, End); after compaction those it holds batches of or that go on behind it
	SealedMs  protocol.Timestamp    // when the segment was sealed, wall clock; retention falls back on it where batches have no timestamp
	Attempt   metadata.Attempt
	Rand      uint64 // fresh random bits for each try
	ChunkSize uint32 // bytes, a power of two from 4 KiB to 1 MiB; 0 means DefaultChunkSize
}

// ObjectKey is the one key that an object with this meta may have.
func (m SegmentMeta) ObjectKey() string {
	return SegmentKey(m.Key, m.Base, m.End, m.Epoch, m.Attempt, m.Rand)
}

// Entry is one row of a manifest: all it takes to read the object without HEAD
// or suffix reads. DataBytes, Records, MaxTimestamp and the sizes are the whole object's, also
// where the entry is narrower.
type Entry struct {
	ObjectKey    string
	Base, End    protocol.Offset // what this entry covers, [Base, End); may be narrower than the object
	Epoch        protocol.Epoch  // leader epoch of the uploader
	MaxTimestamp protocol.Timestamp
	SealedMs     protocol.Timestamp // when the object's segment was sealed, wall clock
	DataBytes    int64              // batches, bytes [0, DataBytes) of the object
	ObjectSize   int64
	IndexOffset  int64 // of the tail that DecodeIndex takes: indexes to footer, one ranged GET
	IndexLength  uint32
	IndexCRC     uint32
	ChunkSize    uint32
	Records      int64 // sum of the batches' record counts
	Attempt      metadata.Attempt
	// Compactions is how many cold compactions the entry has been through. Entries that have been through one
	// lie before all that have not, and hold no record that a later one below the first of those supersedes.
	Compactions uint32
	// DeleteHorizon is when the first of the tombstones and markers of a compacted entry may go (KIP-534), wall clock; 0: it has none.
	DeleteHorizon protocol.Timestamp
}

// Summary is what the entry adds to that of its page.
func (e *Entry) Summary() Summary {
	s := Summary{
		Base: e.Base, End: e.End, MaxTimestamp: e.MaxTimestamp, Bytes: e.DataBytes, ObjectBytes: e.ObjectSize, Segments: 1, Records: e.Records,
		DeleteHorizon: e.DeleteHorizon,
	}
	if e.Compactions > 0 {
		s.CompactedSegments, s.CompactedBytes = 1, e.DataBytes
	}
	return s
}

// Segment is a segment object about to be uploaded.
type Segment struct {
	index *Index
	tail  []byte
	data  io.ReaderAt
}

// BuildSegment reads size bytes of batches once, in order and a chunk at a
// time, and makes the object's tail. It refuses (ErrInvalid) a meta that
// cannot be, and (ErrCorrupt) batches that fail their CRC, do not ascend or
// leave [Base, End); only the first may begin below Base. batches is read again by Body.
func BuildSegment(meta SegmentMeta, batches io.ReaderAt, size int64) (*Segment, error) {
	if meta.ChunkSize == 0 {
		meta.ChunkSize = DefaultChunkSize
	}
	if err := meta.check(); err != nil {
		return nil, fmt.Errorf("%w segment of %s: %w", ErrInvalid, meta.Key, err)
	}
	if size < 0 {
		return nil, fmt.Errorf("%w segment of %s: %d bytes of batches", ErrInvalid, meta.Key, size)
	}
	scan := newScanner(meta)
	if err := scan.scan(batches, size); err != nil {
		return nil, fmt.Errorf("build segment of %s at %d: %w", meta.Key, meta.Base, err)
	}
	x := &Index{meta: meta, dataBytes: size, digest: scan.got}
	tail := x.encode()
	if int64(len(tail)) > math.MaxUint32 {
		return nil, fmt.Errorf("%w segment of %s: %d bytes of indexes", ErrInvalid, meta.Key, len(tail))
	}
	return &Segment{index: x, tail: tail, data: batches}, nil
}

// Size is the object's length in bytes.
func (s *Segment) Size() int64 { return s.index.dataBytes + int64(len(s.tail)) }

// Body reads the object from its start; each call gives an independent reader, for a retry.
func (s *Segment) Body() io.ReadSeeker { return io.NewSectionReader(s, 0, s.Size()) }

// ReadAt reads from the object that will be: the batches, then the tail.
func (s *Segment) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read segment object at %d", off)
	}
	if data := s.index.dataBytes - off; data > 0 {
		want := p[:min(int64(len(p)), data)]
		n, err = s.data.ReadAt(want, off)
		switch {
		case n == len(want):
		case err == nil, errors.Is(err, io.EOF):
			return n, io.ErrUnexpectedEOF
		default:
			return n, err
		}
	}
	if n == len(p) {
		return n, nil
	}
	if at := off + int64(n) - s.index.dataBytes; at < int64(len(s.tail)) {
		n += copy(p[n:], s.tail[at:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Entry is the manifest row of the whole object. objectKey must be the meta's
// ObjectKey (else a reader would take the object for a swapped one): it panics otherwise.
func (s *Segment) Entry(objectKey string) Entry {
	if want := s.index.meta.ObjectKey(); objectKey != want {
		panic(fmt.Sprintf("format: segment object %q was built as %q", objectKey, want))
	}
	return s.index.entry(objectKey, s.tail)
}

// Bounds of the chunk size.
const (
	minChunkSize = 4 << 10
	maxChunkSize = 1 << 20
)

// check tells what of a meta cannot be.
func (m SegmentMeta) check() error {
	switch {
	case m.Base < 0 || m.End <= m.Base:
		return fmt.Errorf("offsets [%d, %d)", m.Base, m.End)
	case m.Key.Partition < 0 || m.Epoch < 0 || m.SealedMs < protocol.NoTimestamp:
		return fmt.Errorf("partition %d, leader epoch %d, sealed at %d", m.Key.Partition, m.Epoch, m.SealedMs)
	case m.ChunkSize < minChunkSize || m.ChunkSize > maxChunkSize || m.ChunkSize&(m.ChunkSize-1) != 0:
		return fmt.Errorf("chunk size %d is not a power of two from %d to %d", m.ChunkSize, minChunkSize, maxChunkSize)
	case len(m.TopicName) > math.MaxUint16:
		return fmt.Errorf("topic name of %d bytes", len(m.TopicName))
	}
	return m.checkLists()
}

func (m SegmentMeta) checkLists() error {
	for i, e := range m.Epochs {
		if e.Start >= m.End || i > 0 && (e.Epoch <= m.Epochs[i-1].Epoch || e.Start <= m.Epochs[i-1].Start) {
			return fmt.Errorf("epoch lineage %v within [%d, %d)", m.Epochs, m.Base, m.End)
		}
	}
	for _, a := range m.Aborted {
		if a.First > a.Last || a.Last < m.Base || a.First >= m.End {
			return fmt.Errorf("aborted transaction %+v does not overlap [%d, %d)", a, m.Base, m.End)
		}
	}
	return nil
}
