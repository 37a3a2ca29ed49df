// Package protocol holds the words and bytes that every other room shares:
// the types that must not be confused, the table of Kafka APIs and versions
// served, request framing, and the mapping to Kafka's error codes. It knows
// nothing of clusters, disks or buckets. Every room may import it.
package protocol

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// Offset is the position of a record in a partition.
type Offset int64

// Epoch is a leader epoch: it grows by at least one with each new leader of a partition.
type Epoch int32

// PartitionEpoch counts the changes of a partition's replica state.
type PartitionEpoch int32

// BrokerID names a broker in the cluster (Kafka's node.id).
type BrokerID int32

// BrokerEpoch is given to a broker at each registration; it never goes back.
type BrokerEpoch int64

// ProducerID and ProducerEpoch identify one life of an idempotent producer.
type (
	ProducerID    int64
	ProducerEpoch int16
)

// Timestamp is milliseconds since the Unix epoch, as Kafka writes it.
type Timestamp int64

// Sentinels of the wire protocol.
const (
	NoOffset        Offset        = -1
	NoEpoch         Epoch         = -1
	NoBroker        BrokerID      = -1
	NoProducerID    ProducerID    = -1
	NoProducerEpoch ProducerEpoch = -1
	NoSequence      int32         = -1
	NoTimestamp     Timestamp     = -1
)

// TopicID is a topic's identity for life: a topic made anew under an old name
// has another one (KIP-516).
type TopicID [16]byte

// String gives the form that Kafka's tools print: URL-safe base64 without padding.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// Hex gives the form used in object names: 32 lower-case hex digits, free of
// characters that a store or shell might treat specially.
func (id TopicID) Hex() string { return hex.EncodeToString(id[:]) }

// IsZero tells whether the id is absent.
func (id TopicID) IsZero() bool { return id == TopicID{} }

// ParseTopicID reads what String printed.
func ParseTopicID(s string) (TopicID, error) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(raw) != 16 {
		return TopicID{}, fmt.Errorf("topic id %q: want 22 characters of URL-safe base64", s)
	}
	return TopicID(raw), nil
}

// ParseTopicIDHex reads what Hex printed.
func ParseTopicIDHex(s string) (TopicID, error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != 16 {
		return TopicID{}, fmt.Errorf("topic id %q: want 32 hex digits", s)
	}
	return TopicID(raw), nil
}

// PartitionKey names a partition by its topic's identity.
type PartitionKey struct {
	Topic     TopicID
	Partition int32
}

// String gives "<topic id>-<partition>".
func (k PartitionKey) String() string { return fmt.Sprintf("%s-%d", k.Topic, k.Partition) }

// ByteSize is a number of bytes.
type ByteSize int64

// EpochStart says at which offset a leader epoch began; a slice of them in
// ascending order is a partition's epoch lineage.
type EpochStart struct {
	Epoch Epoch
	Start Offset
}

// AbortedTxn is one aborted transaction as Fetch reports it: records of the
// producer from First up to Last (its marker's offset) are not committed.
type AbortedTxn struct {
	Producer   ProducerID
	First      Offset
	Last       Offset
	LastStable Offset
}
