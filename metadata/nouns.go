// Package metadata is the cluster's metadata as pure values: the nouns, the
// immutable Image, the Commands that change it, Apply, placement, and the
// tables of settings. It has no goroutine, lock, clock or I/O; package
// metadata/quorum runs it on Raft. Every room above protocol may import it.
package metadata

import (
	"fmt"

	"github.com/stratabroker/strata/protocol"
)

// DirectoryID names one log directory of one broker for life.
type DirectoryID [16]byte

// Incarnation names one process of a broker.
type Incarnation [16]byte

// Listener is an endpoint that a broker advertises to clients.
type Listener struct {
	Name     string // upper case, as in listeners=
	Protocol string // PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
	Host     string
	Port     uint16
}

// Broker is a registered broker. A fenced one leads nothing and is not shown to clients.
type Broker struct {
	ID          protocol.BrokerID
	Epoch       protocol.BrokerEpoch
	Incarnation Incarnation
	Directories []DirectoryID
	Rack        string
	Listeners   []Listener
	Fenced      bool
	MinVersion  uint32
	MaxVersion  uint32
}

// Topic is a topic's identity. Its partitions are rows of their own.
type Topic struct {
	Name       string
	ID         protocol.TopicID
	Partitions int32
	CreatedMs  protocol.Timestamp
}

// Partition is one partition's row. Slices are never changed in place.
type Partition struct {
	Key            protocol.PartitionKey
	Replicas       []protocol.BrokerID
	Directories    []DirectoryID // parallel to Replicas
	ISR            []protocol.BrokerID
	ELR            []protocol.BrokerID
	Leader         protocol.BrokerID // NoBroker when there is none
	LeaderEpoch    protocol.Epoch
	PartitionEpoch protocol.PartitionEpoch
	LogStart       protocol.Offset
	Manifest       ManifestRow
}

// Attempt orders tries of an upload or cold compaction: the OWNER generation,
// then the Raft index at which the try began (DESIGN D14).
type Attempt struct {
	Generation uint64
	Index      uint64
}

// Compare orders attempts; it is -1, 0 or 1.
func (a Attempt) Compare(b Attempt) int {
	switch {
	case a == b:
		return 0
	case a.Generation < b.Generation, a.Generation == b.Generation && a.Index < b.Index:
		return -1
	}
	return 1
}

// String gives "<generation>.<index>".
func (a Attempt) String() string { return fmt.Sprintf("%d.%d", a.Generation, a.Index) }

// PagePlace locates one page of a manifest or root.
type PagePlace struct {
	Key    string // object, relative to the bucket's prefix
	Offset uint64 // bytes into the object
	Length uint32
	CRC    uint32 // CRC32C of those bytes
}

// ManifestRow is all the image holds of a partition's cold tier: which manifest
// version is current and what it amounts to. Version 0 is the empty manifest,
// which has no object.
type ManifestRow struct {
	Version   uint64
	Root      PagePlace
	Attempt   Attempt
	TieredEnd protocol.Offset // first offset not in a segment object; also the first to upload
	Bytes     uint64          // of the segment objects it names
	Segments  uint64
}

// ResourceType is Kafka's number for what a config belongs to.
type ResourceType int8

// Resource types that have configs.
const (
	TopicResource  ResourceType = 2
	BrokerResource ResourceType = 4
	// Resources without overrides in the metadata.
	LoggerResource        ResourceType = 8
	ClientMetricsResource ResourceType = 16
	GroupResource         ResourceType = 32
)

// Resource names what a set of config overrides belongs to. The broker default is Name "".
type Resource struct {
	Type ResourceType
	Name string
}
