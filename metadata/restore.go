package metadata

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// imageFromProto builds the image of a snapshot. A row that Apply could not
// have written is an error: the snapshot is not one of ours.
func imageFromProto(m *metadatapb.Image) (*Image, error) {
	img := EmptyImage()
	img.index = m.GetIndex()
	img.clusterID = m.GetClusterId()
	img.version = m.GetStrataVersion()
	img.nextProducerID = protocol.ProducerID(m.GetNextProducerId())
	for _, row := range m.GetBrokers() {
		b, err := brokerFromProto(row)
		if err != nil {
			return nil, err
		}
		if _, twice := img.brokers.Set(b); twice {
			return nil, fmt.Errorf("broker %d is there twice", b.ID)
		}
	}
	if err := img.restoreTopics(m.GetTopics()); err != nil {
		return nil, err
	}
	if err := img.restorePartitions(m.GetPartitions()); err != nil {
		return nil, err
	}
	for _, r := range m.GetConfigs() {
		if r.GetType() != int32(ResourceType(r.GetType())) {
			return nil, fmt.Errorf("config resource type %d", r.GetType())
		}
		for _, c := range r.GetConfigs() {
			img.configs.Set(configRow{
				Resource: Resource{Type: ResourceType(r.GetType()), Name: r.GetName()}, Name: c.GetName(), Value: c.GetValue(),
			})
		}
	}
	return img, img.restoreBucket(m.GetBucket())
}

func brokerFromProto(m *metadatapb.Broker) (Broker, error) {
	incarnation, ok := id16(m.GetIncarnation())
	if !ok {
		return Broker{}, fmt.Errorf("broker %d has the incarnation %x", m.GetId(), m.GetIncarnation())
	}
	dirs, err := directoriesFromProto(m.GetDirectories())
	if err != nil {
		return Broker{}, fmt.Errorf("broker %d: %w", m.GetId(), err)
	}
	b := Broker{
		ID:          protocol.BrokerID(m.GetId()),
		Epoch:       protocol.BrokerEpoch(m.GetEpoch()),
		Incarnation: incarnation,
		Directories: dirs,
		Rack:        m.GetRack(),
		Fenced:      m.GetFenced(),
		MinVersion:  m.GetMinVersion(),
		MaxVersion:  m.GetMaxVersion(),
	}
	for _, l := range m.GetListeners() {
		if l.GetPort() > math.MaxUint16 {
			return Broker{}, fmt.Errorf("broker %d listens on port %d", b.ID, l.GetPort())
		}
		b.Listeners = append(b.Listeners, Listener{Name: l.GetName(), Protocol: l.GetProtocol(), Host: l.GetHost(), Port: uint16(l.GetPort())})
	}
	return b, nil
}

func directoriesFromProto(raw [][]byte) ([]DirectoryID, error) {
	var dirs []DirectoryID
	for _, r := range raw {
		if len(r) != len(DirectoryID{}) {
			return nil, fmt.Errorf("directory id %x", r)
		}
		dirs = append(dirs, DirectoryID(r))
	}
	return dirs, nil
}

func (i *Image) restoreTopics(rows []*metadatapb.Topic) error {
	for _, m := range rows {
		id, ok := id16(m.GetId())
		if !ok || CheckTopicName(m.GetName()) != nil || m.GetPartitions() <= 0 {
			return fmt.Errorf("topic %q of id %x with %d partitions", m.GetName(), m.GetId(), m.GetPartitions())
		}
		t := Topic{Name: m.GetName(), ID: id, Partitions: m.GetPartitions(), CreatedMs: protocol.Timestamp(m.GetCreatedMs())}
		_, idTwice := i.topics.Set(t)
		if _, nameTwice := i.names.Set(t.Name, t.ID); nameTwice || idTwice {
			return fmt.Errorf("topic %q of id %s is there twice", t.Name, t.ID)
		}
	}
	return nil
}

func (i *Image) restorePartitions(rows []*metadatapb.Partition) error {
	want := 0
	for t := range i.Topics() {
		want += int(t.Partitions)
	}
	for _, m := range rows {
		p, err := partitionFromProto(m)
		if err != nil {
			return err
		}
		if t, ok := i.TopicByID(p.Key.Topic); !ok || p.Key.Partition >= t.Partitions {
			return fmt.Errorf("partition %v is of no topic", p.Key)
		}
		if _, twice := i.partitions.Set(p); twice {
			return fmt.Errorf("partition %v is there twice", p.Key)
		}
	}
	if i.partitions.Len() != want {
		return fmt.Errorf("%d partitions of %d are there", i.partitions.Len(), want)
	}
	return nil
}

func partitionFromProto(m *metadatapb.Partition) (Partition, error) {
	id, _ := id16(m.GetTopicId())
	dirs, err := directoriesFromProto(m.GetDirectories())
	if err != nil {
		return Partition{}, fmt.Errorf("partition %x-%d: %w", id, m.GetPartition(), err)
	}
	p := Partition{
		Key:            protocol.PartitionKey{Topic: id, Partition: m.GetPartition()},
		Replicas:       idsFromProto(m.GetReplicas()),
		Directories:    dirs,
		ISR:            idsFromProto(m.GetIsr()),
		ELR:            idsFromProto(m.GetElr()),
		Leader:         protocol.BrokerID(m.GetLeader()),
		LeaderEpoch:    protocol.Epoch(m.GetLeaderEpoch()),
		PartitionEpoch: protocol.PartitionEpoch(m.GetPartitionEpoch()),
		LogStart:       protocol.Offset(m.GetLogStart()),
		Manifest: ManifestRow{
			Version:   m.GetManifest().GetVersion(),
			Root:      placeOf(m.GetManifest().GetRoot()),
			Attempt:   attemptOf(m.GetManifest().GetAttempt()),
			TieredEnd: protocol.Offset(m.GetManifest().GetTieredEnd()),
			Bytes:     m.GetManifest().GetBytes(),
			Segments:  m.GetManifest().GetSegments(),
		},
	}
	return p, p.check()
}

func idsFromProto(raw []int32) []protocol.BrokerID {
	var ids []protocol.BrokerID
	for _, r := range raw {
		ids = append(ids, protocol.BrokerID(r))
	}
	return ids
}

func (i *Image) restoreBucket(m *metadatapb.Bucket) error {
	i.bucket = Bucket{
		URL:        m.GetUrl(),
		Generation: m.GetGeneration(),
		Floor:      attemptOf(m.GetFloor()),
		FloorAtMs:  protocol.Timestamp(m.GetFloorAtMs()),
	}
	for _, r := range m.GetRoots() {
		i.bucket.Roots = append(i.bucket.Roots, Root{
			Seq: r.GetSeq(), Place: placeOf(r.GetPlace()), Cut: attemptOf(r.GetCut()), AtMs: protocol.Timestamp(r.GetAtMs()),
		})
	}
	if !slices.IsSortedFunc(i.bucket.Roots, func(a, b Root) int { return cmp.Compare(a.Seq, b.Seq) }) {
		return errors.New("roots are not in order")
	}
	return nil
}
