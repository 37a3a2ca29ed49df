package format

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/format/formatpb"
)

// Root is a recovery point in time, first form (D20): the metadata image, which holds
// every manifest row, at one cut.
type Root struct {
	Generation, Seq uint64
	Cut             metadata.Attempt
	AtMs            protocol.Timestamp
	ClusterID       string
	Image           []byte // opaque; metadata.MarshalImage
}

// Section kinds of a root object.
const (
	rootHeadSection uint32 = iota + 1
	rootImageSection
)

// EncodeRoot makes the object for key and its place, which spans the whole object. It panics where
// key is not a RootKey of the root's generation and seq.
func EncodeRoot(r Root, key string) (object []byte, place metadata.PagePlace) {
	name, err := ParseKey(key)
	if err != nil || name.Kind != RootObject || name.Generation != r.Generation || name.Seq != r.Seq {
		panic(fmt.Sprintf("format: root %d of generation %d as %q", r.Seq, r.Generation, key))
	}
	var w objectWriter
	w.add(rootHeadSection, mustAppend(nil, &formatpb.RootHead{
		Generation: r.Generation, Seq: r.Seq, CutGeneration: r.Cut.Generation, CutIndex: r.Cut.Index,
		AtMs: int64(r.AtMs), ClusterId: r.ClusterID,
	}))
	w.add(rootImageSection, r.Image)
	object = w.finish(rootMagic)
	if int64(len(object)) > math.MaxUint32 {
		panic(fmt.Sprintf("format: root of %d bytes", len(object)))
	}
	return object, metadata.PagePlace{Key: key, Length: uint32(len(object)), CRC: record.CRC(object)}
}

// DecodeRoot reads a whole root object; Image aliases b. The caller compares Generation and Seq
// with the key. Errors: ErrNewerFormat, ErrCorrupt.
func DecodeRoot(b []byte) (Root, error) {
	sections, err := readFooter(RootPart, rootMagic, b, int64(len(b)))
	if err != nil {
		return Root{}, err
	}
	if len(sections) < 2 || sections[0].kind != rootHeadSection || sections[1].kind != rootImageSection {
		return Root{}, corrupt(RootPart, "sections %v", sections)
	}
	head, err := sections[0].bytesOf(RootPart, b, 0)
	if err != nil {
		return Root{}, err
	}
	image, err := sections[1].bytesOf(RootPart, b, 0)
	if err != nil {
		return Root{}, err
	}
	var pb formatpb.RootHead
	if err := proto.Unmarshal(head, &pb); err != nil {
		return Root{}, corrupt(RootPart, "head: %v", err)
	}
	return Root{
		Generation: pb.GetGeneration(), Seq: pb.GetSeq(), AtMs: protocol.Timestamp(pb.GetAtMs()), ClusterID: pb.GetClusterId(),
		Cut: metadata.Attempt{Generation: pb.GetCutGeneration(), Index: pb.GetCutIndex()}, Image: image,
	}, nil
}
