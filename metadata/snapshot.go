package metadata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/proto"

	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// Errors of UnmarshalImage.
var (
	ErrSnapshotVersion = errors.New("metadata snapshot is of a format that this binary does not know")
	ErrSnapshotCorrupt = errors.New("metadata snapshot is corrupt")
)

// The frame of a snapshot; README.md has the diagram.
const (
	snapshotMagic   = "SIMG"
	snapshotVersion = 1
	snapshotHeader  = 8 // magic, version
	snapshotTrailer = 4 // CRC32C of all before it
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// MarshalImage writes the whole image as a snapshot.
func MarshalImage(img *Image) []byte {
	b := append([]byte(snapshotMagic), 0, 0, 0, snapshotVersion)
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(b, imageToProto(img))
	if err != nil {
		panic(fmt.Sprintf("metadata: image at %d does not marshal: %v", img.index, err)) // a string that is not UTF-8 got past Apply
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// UnmarshalImage reads what MarshalImage wrote and checks the invariants of
// every row. Errors wrap ErrSnapshotVersion or ErrSnapshotCorrupt. The image
// holds no reference to b.
func UnmarshalImage(b []byte) (*Image, error) {
	if len(b) < snapshotHeader+snapshotTrailer || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return nil, fmt.Errorf("%w: %d bytes without the magic %s", ErrSnapshotCorrupt, len(b), snapshotMagic)
	}
	if v := binary.BigEndian.Uint32(b[len(snapshotMagic):]); v != snapshotVersion {
		return nil, fmt.Errorf("%w: version %d, known is %d", ErrSnapshotVersion, v, snapshotVersion)
	}
	body, sum := b[:len(b)-snapshotTrailer], binary.BigEndian.Uint32(b[len(b)-snapshotTrailer:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return nil, fmt.Errorf("%w: CRC32C %08x, recorded %08x", ErrSnapshotCorrupt, got, sum)
	}
	var m metadatapb.Image
	if err := proto.Unmarshal(body[snapshotHeader:], &m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshotCorrupt, err)
	}
	img, err := imageFromProto(&m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshotCorrupt, err)
	}
	return img, nil
}

func imageToProto(img *Image) *metadatapb.Image {
	m := &metadatapb.Image{
		Index:          img.index,
		ClusterId:      img.clusterID,
		StrataVersion:  img.version,
		NextProducerId: int64(img.nextProducerID),
		Bucket:         bucketToProto(img.bucket),
	}
	for b := range img.Brokers() {
		m.Brokers = append(m.Brokers, brokerToProto(b))
	}
	img.topics.Scan(func(t Topic) bool {
		m.Topics = append(m.Topics, &metadatapb.Topic{Name: t.Name, Id: t.ID[:], Partitions: t.Partitions, CreatedMs: int64(t.CreatedMs)})
		return true
	})
	for p := range img.AllPartitions() {
		m.Partitions = append(m.Partitions, partitionToProto(p))
	}
	var last *metadatapb.ConfigResource
	img.configs.Scan(func(c configRow) bool {
		if last == nil || last.Type != int32(c.Resource.Type) || last.Name != c.Resource.Name {
			last = &metadatapb.ConfigResource{Type: int32(c.Resource.Type), Name: c.Resource.Name}
			m.Configs = append(m.Configs, last)
		}
		last.Configs = append(last.Configs, &metadatapb.Config{Name: c.Name, Value: &c.Value})
		return true
	})
	return m
}

func brokerToProto(b Broker) *metadatapb.Broker {
	m := &metadatapb.Broker{
		Id:          int32(b.ID),
		Epoch:       int64(b.Epoch),
		Incarnation: b.Incarnation[:],
		Directories: directoriesToProto(b.Directories),
		Rack:        b.Rack,
		Fenced:      b.Fenced,
		MinVersion:  b.MinVersion,
		MaxVersion:  b.MaxVersion,
	}
	for _, l := range b.Listeners {
		m.Listeners = append(m.Listeners, &metadatapb.Listener{Name: l.Name, Protocol: l.Protocol, Host: l.Host, Port: uint32(l.Port)})
	}
	return m
}

func directoriesToProto(dirs []DirectoryID) [][]byte {
	raw := make([][]byte, len(dirs))
	for i, d := range dirs {
		raw[i] = d[:]
	}
	return raw
}

func partitionToProto(p Partition) *metadatapb.Partition {
	m := &metadatapb.Partition{
		TopicId:        p.Key.Topic[:],
		Partition:      p.Key.Partition,
		Replicas:       idsToProto(p.Replicas),
		Directories:    directoriesToProto(p.Directories),
		Isr:            idsToProto(p.ISR),
		Elr:            idsToProto(p.ELR),
		Leader:         int32(p.Leader),
		LeaderEpoch:    int32(p.LeaderEpoch),
		PartitionEpoch: int32(p.PartitionEpoch),
		LogStart:       int64(p.LogStart),
	}
	if p.Manifest != (ManifestRow{}) {
		m.Manifest = &metadatapb.Manifest{
			Version:   p.Manifest.Version,
			Root:      placeToProto(p.Manifest.Root),
			Attempt:   attemptToProto(p.Manifest.Attempt),
			TieredEnd: int64(p.Manifest.TieredEnd),
			Bytes:     p.Manifest.Bytes,
			Segments:  p.Manifest.Segments,
		}
	}
	return m
}

func idsToProto(ids []protocol.BrokerID) []int32 {
	raw := make([]int32, len(ids))
	for i, id := range ids {
		raw[i] = int32(id)
	}
	return raw
}

func bucketToProto(b Bucket) *metadatapb.Bucket {
	m := &metadatapb.Bucket{
		Url:        b.URL,
		Generation: b.Generation,
		Floor:      attemptToProto(b.Floor),
		FloorAtMs:  int64(b.FloorAtMs),
	}
	for _, r := range b.Roots {
		m.Roots = append(m.Roots, &metadatapb.Root{Seq: r.Seq, Place: placeToProto(r.Place), Cut: attemptToProto(r.Cut), AtMs: int64(r.AtMs)})
	}
	return m
}

func attemptToProto(a Attempt) *metadatapb.Attempt {
	return &metadatapb.Attempt{Generation: a.Generation, Index: a.Index}
}

func placeToProto(p PagePlace) *metadatapb.PagePlace {
	return &metadatapb.PagePlace{Key: p.Key, Offset: p.Offset, Length: p.Length, Crc: p.CRC}
}
