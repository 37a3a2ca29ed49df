package metadata

import (
	"errors"

	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// Command is one change of the metadata. See metadata.proto for the kinds and
// their preconditions.
type Command = metadatapb.Command

// Refusals of Apply. A refused command changes nothing. The proposer matches
// them with errors.Is; the mapping to Kafka's codes is in package broker/api.
var (
	ErrClusterExists      = errors.New("the cluster is initialised already")
	ErrTopicExists        = errors.New("a topic of this name exists")
	ErrTopicIDExists      = errors.New("a topic of this id exists")
	ErrUnknownTopic       = errors.New("no such topic")
	ErrUnknownPartition   = errors.New("no such partition")
	ErrUnknownBroker      = errors.New("no such broker")
	ErrStaleBrokerEpoch   = errors.New("broker epoch is not current")
	ErrStaleLeaderEpoch   = errors.New("leader epoch is not current")
	ErrStalePartition     = errors.New("partition epoch is not current")
	ErrPartitionCount     = errors.New("partition count is not what the proposer expected")
	ErrProducerIDBlock    = errors.New("next producer id is not what the proposer expected")
	ErrStaleManifest      = errors.New("parent manifest version is not current")
	ErrBelowSweepFloor    = errors.New("attempt began before the sweep floor")
	ErrManifestGap        = errors.New("manifest does not start at the tiered end, or moves it back")
	ErrStaleSweepFloor    = errors.New("sweep floor is not what the proposer expected, or would move back")
	ErrStaleRoot          = errors.New("root is not newer than the newest, or its cut is below the sweep floor")
	ErrStaleGeneration    = errors.New("OWNER generation is not above the current one")
	ErrInvalidCommand     = errors.New("command is malformed")
	ErrUnsupportedVersion = errors.New("broker cannot apply the finalised strata.version")
	ErrUnknownCommand     = errors.New("this binary does not know the kind of command") // whoever meets it in the log must stop
	ErrUnknownDirectory   = errors.New("broker has no such log directory")
	ErrAllReplicasFenced  = errors.New("every replica of the assignment is fenced")
	ErrIneligibleReplica  = errors.New("replica may not join the ISR: it is fenced, unknown or not assigned")
	ErrReplicationFactor  = errors.New("replication factor is larger than the number of unfenced brokers, or not positive")
)

// Result is what Apply says to the proposer of a command that was accepted.
// Refused commands give an error instead.
type Result struct {
	Index           uint64               // of this command in the log
	BrokerEpoch     protocol.BrokerEpoch // RegisterBroker
	FirstProducerID protocol.ProducerID  // AllocateProducerIDs
	Rows            []error              // AlterPartitions, AdvanceLogStarts: one a row, nil where accepted
}

// Delta says what one command, or the restore of a snapshot, changed. Keys that
// no longer exist in the image were removed.
type Delta struct {
	Brokers    []protocol.BrokerID
	Topics     []protocol.TopicID      // created, removed or grown
	Removed    []Topic                 // topics that the image before had and this one has not
	Partitions []protocol.PartitionKey // replica state, log start or manifest changed, or created
	Configs    []Resource
	Bucket     bool
}
