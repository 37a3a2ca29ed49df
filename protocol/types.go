// Package protocol holds the words and bytes that every other room shares:
// the types that must not be confused, the table of Kafka APIs and versions
// served, request framing, and the mapping to Kafka's error codes. It knows
// nothing of clusters, disks or buckets. Every room may import it.
package protocol

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
type ProducerID int64

// ProducerEpoch counts the lives of a ProducerID.
type ProducerEpoch int16

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
