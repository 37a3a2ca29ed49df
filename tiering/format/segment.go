package format

import (
	"io"

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
	Aborted   []protocol.AbortedTxn // every aborted transaction that overlaps [Base, End)
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
	DataBytes    int64 // batches, bytes [0, DataBytes) of the object
	ObjectSize   int64
	IndexOffset  int64 // of the tail that DecodeIndex takes: indexes to footer, one ranged GET
	IndexLength  uint32
	IndexCRC     uint32
	ChunkSize    uint32
	Records      int64 // sum of the batches' record counts
	Attempt      metadata.Attempt
}

// Segment is a segment object about to be uploaded.
type Segment struct {
	meta  SegmentMeta
	index *Index
	tail  []byte
	data  io.ReaderAt
}

// BuildSegment reads size bytes of batches once, in order and a chunk at a
// time, and makes the object's tail. It refuses (ErrEdit) a meta that
// cannot be, and (ErrCorrupt) batches that fail their CRC, do not ascend or
// leave [Base, End). batches is read again by Body.
func BuildSegment(meta SegmentMeta, batches io.ReaderAt, size int64) (*Segment, error) {
	panic("body follows")
}

// Size is the object's length in bytes.
func (s *Segment) Size() int64 { panic("body follows") }

// Body reads the object from its start; each call gives an independent reader, for a retry.
func (s *Segment) Body() io.ReadSeeker { panic("body follows") }

// Entry is the manifest row of the whole object. objectKey must be the meta's
// ObjectKey (else a reader could not tell the object from a swapped one): it panics otherwise.
func (s *Segment) Entry(objectKey string) Entry { panic("body follows") }

// Index is a segment object's decoded tail. It is immutable.
type Index struct{ meta SegmentMeta }

// DecodeIndex reads the tail that e locates and checks that it belongs to e.
// Errors: ErrNewerFormat, ErrCorrupt (IdentityPart for another object's tail).
func DecodeIndex(tail []byte, e Entry) (*Index, error) { panic("body follows") }

// OpenSegment reads a segment object's tail without a manifest, from its footer. It
// checks everything but the batches. Errors: those of r, ErrNewerFormat, ErrCorrupt.
func OpenSegment(r io.ReaderAt, size int64) (SegmentMeta, *Index, error) { panic("body follows") }

// Floor is the byte position of a batch boundary at or before the batch that holds o,
// in the chunk in which that batch begins.
func (x *Index) Floor(o protocol.Offset) (pos int64) { panic("body follows") }

// FloorTime is a batch boundary at or before the first batch whose max
// timestamp is not below ts, in the chunk where that batch begins; DataBytes where there is none.
func (x *Index) FloorTime(ts protocol.Timestamp) (pos int64) { panic("body follows") }

// Chunks is the number of chunks of the batches.
func (x *Index) Chunks() int { panic("body follows") }

// ChunkRange is where chunk i lies in the object, in bytes. The last may be shorter.
func (x *Index) ChunkRange(i int) (off, n int64) { panic("body follows") }

// CheckChunk compares the bytes of chunk i with its CRC32C. Error: ErrCorrupt.
func (x *Index) CheckChunk(i int, b []byte) error { panic("body follows") }

// Verify reads all batches from data (the object, or its first DataBytes) once and
// checks chunk CRCs, batch CRCs, offsets and that the indexes say what the batches say.
// Errors: those of data, ErrCorrupt.
func (x *Index) Verify(data io.ReaderAt) error { panic("body follows") }

// Meta is the object's identity and all it says of epochs, producers and transactions.
func (x *Index) Meta() SegmentMeta { return x.meta }

// DataBytes is the length of the batches, which start at 0.
func (x *Index) DataBytes() int64 { panic("body follows") }

// Epochs, Producers and Aborted are as SegmentMeta says. They must not be changed.
func (x *Index) Epochs() []protocol.EpochStart { return x.meta.Epochs }

// Producers is the producer state at End.
func (x *Index) Producers() []byte { return x.meta.Producers }

// Aborted lists the aborted transactions that overlap the object.
func (x *Index) Aborted() []protocol.AbortedTxn { return x.meta.Aborted }

// Bytes is what the index takes on the heap, about, for caches to charge.
func (x *Index) Bytes() int64 { panic("body follows") }
