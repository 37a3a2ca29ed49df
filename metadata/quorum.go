package metadata

import "github.com/stratabroker/strata/protocol"

// Quorum is what one member knows of the Raft log that carries the metadata.
// Offsets are Raft's indexes.
type Quorum struct {
	Leader        protocol.BrokerID // NoBroker where it knows none
	Term          uint64
	HighWatermark protocol.Offset // first index that is not committed
	Voters        []QuorumMember
	Observers     []QuorumMember // get the log and have no vote
}

// QuorumMember is one broker's disk in the quorum.
type QuorumMember struct {
	Broker    protocol.BrokerID
	Directory DirectoryID
	LogEnd    protocol.Offset // first index it does not have; NoOffset where that is not known
}
