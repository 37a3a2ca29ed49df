package metadata

import (
	"bytes"
	"cmp"
	"iter"
	"strings"

	"github.com/tidwall/btree"

	"github.com/stratabroker/strata/protocol"
)

// Image is the whole metadata at one index of the log. It is immutable: Apply
// returns another one that shares what did not change. Any number of
// goroutines may read it; only the applying one may call Apply, since a copy
// of a persistent map marks the map it came from.
type Image struct {
	index          uint64
	clusterID      string
	version        uint32 // finalised strata.version
	nextProducerID protocol.ProducerID
	brokers        *btree.BTreeG[Broker]
	topics         *btree.BTreeG[Topic] // by id
	names          *btree.Map[string, protocol.TopicID]
	partitions     *btree.BTreeG[Partition]
	configs        *btree.BTreeG[configRow] // one override a row
	bucket         Bucket
}

// configRow is one override of one resource.
type configRow struct {
	Resource Resource
	Name     string
	Value    string
}

// EmptyImage is the image before the first command.
func EmptyImage() *Image {
	noLocks := btree.Options{NoLocks: true}
	return &Image{
		brokers:    btree.NewBTreeGOptions(func(a, b Broker) bool { return a.ID < b.ID }, noLocks),
		topics:     btree.NewBTreeGOptions(func(a, b Topic) bool { return bytes.Compare(a.ID[:], b.ID[:]) < 0 }, noLocks),
		names:      new(btree.Map[string, protocol.TopicID]),
		partitions: btree.NewBTreeGOptions(func(a, b Partition) bool { return compareKeys(a.Key, b.Key) < 0 }, noLocks),
		configs:    btree.NewBTreeGOptions(func(a, b configRow) bool { return compareConfigs(a, b) < 0 }, noLocks),
	}
}

func compareKeys(a, b protocol.PartitionKey) int {
	return cmp.Or(bytes.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
}

func compareConfigs(a, b configRow) int {
	return cmp.Or(cmp.Compare(a.Resource.Type, b.Resource.Type),
		strings.Compare(a.Resource.Name, b.Resource.Name), strings.Compare(a.Name, b.Name))
}

// Index is the log index of the last command in the image.
func (i *Image) Index() uint64 { return i.index }

// ClusterID is empty before InitCluster.
func (i *Image) ClusterID() string { return i.clusterID }

// Version is the finalised level of strata.version, 0 before InitCluster.
func (i *Image) Version() uint32 { return i.version }

// NextProducerID is the first producer id not handed out in a block.
func (i *Image) NextProducerID() protocol.ProducerID { return i.nextProducerID }

// Bucket is the cluster's bond with its bucket.
func (i *Image) Bucket() Bucket { return i.bucket }

// Broker looks up a broker, fenced or not.
func (i *Image) Broker(id protocol.BrokerID) (Broker, bool) { return i.brokers.Get(Broker{ID: id}) }

// Brokers yields all brokers by id.
func (i *Image) Brokers() iter.Seq[Broker] { return i.brokers.Scan }

// Topic looks a topic up by name.
func (i *Image) Topic(name string) (Topic, bool) {
	id, ok := i.names.Get(name)
	if !ok {
		return Topic{}, false
	}
	return i.TopicByID(id)
}

// TopicByID looks a topic up by id.
func (i *Image) TopicByID(id protocol.TopicID) (Topic, bool) { return i.topics.Get(Topic{ID: id}) }

// Topics yields all topics in the order of their names.
func (i *Image) Topics() iter.Seq[Topic] {
	return func(yield func(Topic) bool) {
		i.names.Scan(func(_ string, id protocol.TopicID) bool {
			t, _ := i.TopicByID(id)
			return yield(t)
		})
	}
}

// TopicCount and PartitionCount are the sizes of the tables.
func (i *Image) TopicCount() int { return i.topics.Len() }

// PartitionCount is the number of partitions of all topics.
func (i *Image) PartitionCount() int { return i.partitions.Len() }

// Partition looks up one partition.
func (i *Image) Partition(key protocol.PartitionKey) (Partition, bool) {
	return i.partitions.Get(Partition{Key: key})
}

// Partitions yields the partitions of one topic in order.
func (i *Image) Partitions(id protocol.TopicID) iter.Seq[Partition] {
	return func(yield func(Partition) bool) {
		i.partitions.Ascend(Partition{Key: protocol.PartitionKey{Topic: id}}, func(p Partition) bool {
			return p.Key.Topic == id && yield(p)
		})
	}
}

// AllPartitions yields every partition, by topic id and number.
func (i *Image) AllPartitions() iter.Seq[Partition] { return i.partitions.Scan }

// Config looks up one override; ok is false where the resource does not set name.
func (i *Image) Config(r Resource, name string) (value string, ok bool) {
	row, ok := i.configs.Get(configRow{Resource: r, Name: name})
	return row.Value, ok
}

// Configs yields the overrides of one resource by name.
func (i *Image) Configs(r Resource) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		i.configs.Ascend(configRow{Resource: r}, func(c configRow) bool {
			return c.Resource == r && yield(c.Name, c.Value)
		})
	}
}
