package format

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/format/formatpb"
)

// A page is a prefix of 8 bytes (magic, format version, zero) and a formatpb.Page.
// Its CRC32C and length stand with whoever refers to it.
const (
	pageMagic     = "strP"
	pagePrefixLen = 8
	maxPageBytes  = 4 << 20
	maxLevel      = 40
	maxTotal      = 1 << 48 // of bytes, records and offsets of one entry
	maxChildTotal = 1 << 50 // and of one child: sums of a page cannot overflow
)

// names turns the numbers in pages into object keys of one partition.
type names struct {
	key    protocol.PartitionKey
	prefix string
}

func namesOf(k protocol.PartitionKey) names { return names{key: k, prefix: PartitionPrefix(k)} }

func (n names) place(r pageRef) metadata.PagePlace {
	return metadata.PagePlace{
		Key:    manifestName(n.prefix, r.version, r.attempt, r.rand),
		Offset: r.offset, Length: r.length, CRC: r.crc,
	}
}

// node is a page in memory. Its slices are never changed in place.
type node struct {
	names names
	level int
	base  protocol.Offset
	items []item // level 0
	kids  []kid  // above
}

// item is an entry of a leaf.
type item struct {
	base, end protocol.Offset
	pb        *formatpb.Entry
}

// kid is a child of an inner page. One that is not written yet has a node and no ref.
type kid struct {
	sum   Summary
	count int
	ref   pageRef
	node  *node
}

// pageRef is a metadata.PagePlace by numbers.
type pageRef struct {
	version uint64
	attempt metadata.Attempt
	rand    uint64
	offset  uint64
	length  uint32
	crc     uint32
}

func (n *node) count() int { return len(n.items) + len(n.kids) }

func (n *node) summary() Summary {
	sum := Summary{Base: n.base, End: n.base, MaxTimestamp: protocol.NoTimestamp}
	for _, it := range n.items {
		sum.add(it.summary())
	}
	for _, k := range n.kids {
		sum.add(k.sum)
	}
	return sum
}

func (it item) summary() Summary {
	s := Summary{
		Base: it.base, End: it.end, MaxTimestamp: protocol.Timestamp(it.pb.GetMaxTimestamp()),
		Bytes: int64(it.pb.GetDataBytes()), ObjectBytes: int64(it.pb.GetDataBytes()) + int64(it.pb.GetTailBytes()),
		Segments: 1, Records: int64(it.pb.GetRecords()), DeleteHorizon: protocol.Timestamp(it.pb.GetDeleteHorizonMs()),
	}
	if it.pb.GetCompactions() > 0 {
		s.CompactedSegments, s.CompactedBytes = 1, s.Bytes
	}
	return s
}

// entry gives item i with its object's key.
func (n *node) entry(i int) Entry {
	it := n.items[i]
	e := it.pb
	attempt := metadata.Attempt{Generation: e.GetAttemptGeneration(), Index: e.GetAttemptIndex()}
	data := int64(e.GetDataBytes())
	base, end := it.base-protocol.Offset(e.GetLead()), it.end+protocol.Offset(e.GetTrail())
	epoch := protocol.Epoch(e.GetEpoch())
	return Entry{
		ObjectKey: segmentName(n.names.prefix, base, end, epoch, attempt, e.GetRand()),
		Base:      it.base, End: it.end, Epoch: epoch, MaxTimestamp: protocol.Timestamp(e.GetMaxTimestamp()),
		DataBytes: data, ObjectSize: data + int64(e.GetTailBytes()), IndexOffset: data,
		IndexLength: e.GetTailBytes(), IndexCRC: e.GetTailCrc(), ChunkSize: e.GetChunkSize(),
		Records: int64(e.GetRecords()), Attempt: attempt, SealedMs: protocol.Timestamp(e.GetSealedMs()),
		Compactions: e.GetCompactions(), DeleteHorizon: protocol.Timestamp(e.GetDeleteHorizonMs()),
	}
}

// newItem turns an Entry into what a leaf holds. It refuses what entry could not give back.
func newItem(k protocol.PartitionKey, e Entry) (item, error) {
	name, err := ParseKey(e.ObjectKey)
	switch {
	case err != nil:
		return item{}, err
	case name.Kind != SegmentObject || name.Key != k:
		return item{}, fmt.Errorf("%s is no segment object of %s", e.ObjectKey, k)
	case e.Epoch != name.Epoch || e.Attempt != name.Attempt:
		return item{}, fmt.Errorf("epoch %d, attempt %s of object %s", e.Epoch, e.Attempt, e.ObjectKey)
	case e.Base < name.Base || e.End > name.End:
		return item{}, fmt.Errorf("[%d, %d) is not within object %s", e.Base, e.End, e.ObjectKey)
	case e.DataBytes < 0 || e.IndexOffset != e.DataBytes || e.ObjectSize != e.DataBytes+int64(e.IndexLength) || e.Records < 0:
		return item{}, fmt.Errorf("sizes of %+v", e)
	}
	it := item{base: e.Base, end: e.End, pb: &formatpb.Entry{
		Span: uint64(e.End - e.Base), Lead: uint64(e.Base - name.Base), Trail: uint64(name.End - e.End), Epoch: int32(e.Epoch),
		AttemptGeneration: e.Attempt.Generation, AttemptIndex: e.Attempt.Index, Rand: name.Rand,
		MaxTimestamp: int64(e.MaxTimestamp), DataBytes: uint64(e.DataBytes), TailBytes: e.IndexLength, TailCrc: e.IndexCRC,
		ChunkSize: e.ChunkSize, Records: uint64(e.Records), SealedMs: int64(e.SealedMs),
		Compactions: e.Compactions, DeleteHorizonMs: int64(e.DeleteHorizon),
	}}
	return it, it.check()
}

// check tells what of an item cannot be, in whichever way it came.
func (it item) check() error {
	e := it.pb
	size := e.GetChunkSize()
	switch {
	case it.base < 0 || it.end <= it.base || e.GetLead() > uint64(it.base) || e.GetTrail() > math.MaxInt64-uint64(it.end):
		return fmt.Errorf("offsets [%d, %d), %d before, %d after", it.base, it.end, e.GetLead(), e.GetTrail())
	case e.GetEpoch() < 0 || min(e.GetMaxTimestamp(), e.GetSealedMs()) < int64(protocol.NoTimestamp):
		return fmt.Errorf("epoch %d, max timestamp %d, sealed at %d", e.GetEpoch(), e.GetMaxTimestamp(), e.GetSealedMs())
	case e.GetDataBytes() > maxTotal || e.GetRecords() > maxTotal || e.GetTailBytes() < trailerLen:
		return fmt.Errorf("%d bytes of batches, %d records, tail of %d bytes", e.GetDataBytes(), e.GetRecords(), e.GetTailBytes())
	case size < minChunkSize || size > maxChunkSize || size&(size-1) != 0:
		return fmt.Errorf("chunk size %d", size)
	}
	return it.checkCompaction()
}

func (it item) checkCompaction() error {
	if h, n := it.pb.GetDeleteHorizonMs(), it.pb.GetCompactions(); h < 0 || h > 0 && n == 0 {
		return fmt.Errorf("delete horizon %d after %d compactions", h, n)
	}
	return nil
}

// encode gives the page's bytes. All its kids must have been written.
func (n *node) encode() []byte {
	p := &formatpb.Page{TopicId: n.names.key.Topic[:], Partition: n.names.key.Partition, Level: uint32(n.level), Base: int64(n.base)}
	for _, it := range n.items {
		p.Entries = append(p.Entries, it.pb)
	}
	for _, k := range n.kids {
		if k.node != nil {
			panic("format: page is encoded before its child")
		}
		p.Children = append(p.Children, &formatpb.Child{
			Span: uint64(k.sum.End - k.sum.Base), Version: k.ref.version,
			AttemptGeneration: k.ref.attempt.Generation, AttemptIndex: k.ref.attempt.Index, Rand: k.ref.rand,
			Offset: k.ref.offset, Length: k.ref.length, Crc: k.ref.crc, Count: uint32(k.count),
			MaxTimestamp: int64(k.sum.MaxTimestamp), DataBytes: uint64(k.sum.Bytes), ObjectBytes: uint64(k.sum.ObjectBytes),
			Segments: uint64(k.sum.Segments), Records: uint64(k.sum.Records),
			CompactedSegments: uint64(k.sum.CompactedSegments), CompactedBytes: uint64(k.sum.CompactedBytes),
			DeleteHorizonMs: int64(k.sum.DeleteHorizon),
		})
	}
	b := append(make([]byte, 0, pagePrefixLen+proto.Size(p)), pageMagic...)
	b = binary.BigEndian.AppendUint16(b, FormatVersion)
	b = binary.BigEndian.AppendUint16(b, 0)
	return mustAppend(b, p)
}

func mustAppend(b []byte, m proto.Message) []byte {
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		panic(fmt.Sprintf("format: message does not encode: %v", err)) // only an invalid UTF-8 string could
	}
	return b
}

// decodeNode checks and decodes the bytes of the page at p.
func decodeNode(b []byte, p metadata.PagePlace) (*node, error) {
	bad := func(err error) (*node, error) {
		return nil, corrupt(PagePart, "[%d, +%d) of %s: %v", p.Offset, p.Length, p.Key, err)
	}
	name, err := ParseKey(p.Key)
	if err == nil && name.Kind != ManifestObject {
		err = fmt.Errorf("key of a %s object", name.Kind)
	}
	if err != nil {
		return bad(err)
	}
	if err := checkPage(b, p); err != nil {
		return bad(err)
	}
	if v := binary.BigEndian.Uint16(b[4:]); v > FormatVersion {
		return nil, newer(PagePart, uint64(v))
	}
	var pb formatpb.Page
	if err := proto.Unmarshal(b[pagePrefixLen:], &pb); err != nil {
		return bad(err)
	}
	if string(pb.GetTopicId()) != string(name.Key.Topic[:]) || pb.GetPartition() != name.Key.Partition {
		return bad(fmt.Errorf("it is a page of %x-%d", pb.GetTopicId(), pb.GetPartition()))
	}
	n := &node{names: namesOf(name.Key), level: int(pb.GetLevel()), base: protocol.Offset(pb.GetBase())}
	if err := n.decodeItems(&pb); err != nil {
		return bad(err)
	}
	return n, nil
}

// checkPage looks at a page from outside: nothing is decoded yet, and nothing will be that takes much memory.
func checkPage(b []byte, p metadata.PagePlace) error {
	switch {
	case len(b) != int(p.Length) || len(b) < pagePrefixLen || len(b) > maxPageBytes:
		return fmt.Errorf("%d bytes", len(b))
	case record.CRC(b) != p.CRC:
		return fmt.Errorf("CRC is %08x, want %08x", record.CRC(b), p.CRC)
	case string(b[:4]) != pageMagic:
		return fmt.Errorf("magic is %q", b[:4])
	case binary.BigEndian.Uint16(b[4:]) == 0:
		return errors.New("format version 0")
	}
	if n := countFields(b[pagePrefixLen:]); n > maxFanout+16 {
		return fmt.Errorf("%d items", n)
	}
	return nil
}

// decodeItems fills a page's items or kids.
func (n *node) decodeItems(pb *formatpb.Page) error {
	entries, children := pb.GetEntries(), pb.GetChildren()
	if n.base < 0 || pb.GetLevel() > maxLevel || len(entries) > 0 && n.level > 0 || (len(children) > 0) != (n.level > 0) {
		return fmt.Errorf("level %d, base %d, %d entries, %d children", pb.GetLevel(), n.base, len(entries), len(children))
	}
	next := n.base
	for i, e := range entries {
		if e.GetSpan() > maxTotal {
			return fmt.Errorf("entry %d spans %d", i, e.GetSpan())
		}
		it := item{base: next, end: next + protocol.Offset(e.GetSpan()), pb: e}
		if err := it.check(); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		n.items = append(n.items, it)
		next = it.end
	}
	for i, c := range children {
		k, err := newChild(next, c)
		if err != nil {
			return fmt.Errorf("child %d: %w", i, err)
		}
		n.kids = append(n.kids, k)
		next = k.sum.End
	}
	return nil
}

// newChild decodes a child that begins at base.
func newChild(base protocol.Offset, c *formatpb.Child) (kid, error) {
	if c.GetDataBytes() > maxChildTotal || c.GetObjectBytes() > maxChildTotal || c.GetSegments() > maxChildTotal || c.GetRecords() > maxChildTotal {
		return kid{}, fmt.Errorf("%d bytes, %d of objects, %d segments, %d records", c.GetDataBytes(), c.GetObjectBytes(), c.GetSegments(), c.GetRecords())
	}
	if c.GetCompactedSegments() > c.GetSegments() || c.GetCompactedBytes() > c.GetDataBytes() || c.GetDeleteHorizonMs() < 0 {
		return kid{}, fmt.Errorf("%d of %d segments and %d of %d bytes are compacted, delete horizon %d",
			c.GetCompactedSegments(), c.GetSegments(), c.GetCompactedBytes(), c.GetDataBytes(), c.GetDeleteHorizonMs())
	}
	end := base + protocol.Offset(c.GetSpan())
	if c.GetSpan() > math.MaxInt64 || end <= base || c.GetCount() == 0 || c.GetMaxTimestamp() < int64(protocol.NoTimestamp) {
		return kid{}, fmt.Errorf("spans %d from %d, %d items, max timestamp %d", c.GetSpan(), base, c.GetCount(), c.GetMaxTimestamp())
	}
	return kid{
		count: int(c.GetCount()),
		sum: Summary{
			Base: base, End: end, MaxTimestamp: protocol.Timestamp(c.GetMaxTimestamp()), Bytes: int64(c.GetDataBytes()),
			ObjectBytes: int64(c.GetObjectBytes()), Segments: int64(c.GetSegments()), Records: int64(c.GetRecords()),
			CompactedSegments: int64(c.GetCompactedSegments()), CompactedBytes: int64(c.GetCompactedBytes()),
			DeleteHorizon: protocol.Timestamp(c.GetDeleteHorizonMs()),
		},
		ref: pageRef{
			version: c.GetVersion(), attempt: metadata.Attempt{Generation: c.GetAttemptGeneration(), Index: c.GetAttemptIndex()},
			rand: c.GetRand(), offset: c.GetOffset(), length: c.GetLength(), crc: c.GetCrc(),
		},
	}, nil
}

// countFields counts the fields of a message without decoding them, so that a page cannot ask
// for more memory than its items may take.
func countFields(b []byte) (n int) {
	for len(b) > 0 {
		_, _, size := protowire.ConsumeField(b)
		if size < 0 {
			return n // Unmarshal tells what is wrong
		}
		b = b[size:]
		n++
	}
	return n
}
