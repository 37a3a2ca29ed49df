package admin

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// Election is how a client wants a leader to be chosen (KIP-460).
type Election int8

// The elections.
const (
	PreferredElection Election = 0 // the first replica of the assignment
	UncleanElection   Election = 1 // any replica, where there is no leader
)

// ElectLeader answers a wish for an election. Every partition is led by the
// first of its replicas that may lead, which the metadata sees to by itself at each change; so
// there is never one to be held, and the answer says why.
func (a *Admin) ElectLeader(topic string, partition int32, kind Election) error {
	img := a.Image()
	t, ok := img.Topic(topic)
	if !ok {
		return protocol.Errorf(kerr.UnknownTopicOrPartition, "No such topic as %s", topic)
	}
	p, ok := img.Partition(protocol.PartitionKey{Topic: t.ID, Partition: partition})
	if !ok {
		return protocol.Errorf(kerr.UnknownTopicOrPartition, "No such partition as %s-%d", topic, partition)
	}
	leader, led := img.Broker(p.Leader)
	led = led && !leader.Fenced
	switch {
	case kind == PreferredElection && led && p.Leader == p.Replicas[0], kind == UncleanElection && led:
		return protocol.Errorf(kerr.ElectionNotNeeded, "Leader election not needed for topic partition.")
	case kind == PreferredElection:
		return protocol.Errorf(kerr.PreferredLeaderNotAvailable, "The preferred leader was not available.")
	}
	return protocol.Errorf(kerr.EligibleLeadersNotAvailable, "Eligible topic partition leaders are not available.")
}

// Reassign moves a partition to other replicas; nil cancels a move. A move to
// where the partition is completes at once, and there is never one under way to be cancelled. Others
// are refused: a cluster of one broker has nowhere to move to.
func (a *Admin) Reassign(topic string, partition int32, replicas []protocol.BrokerID, changeFactor bool) error {
	img := a.Image()
	t, ok := img.Topic(topic)
	if !ok {
		return protocol.Errorf(kerr.UnknownTopicOrPartition, "Unable to find a topic named %s.", topic)
	}
	p, ok := img.Partition(protocol.PartitionKey{Topic: t.ID, Partition: partition})
	if !ok {
		return protocol.Errorf(kerr.UnknownTopicOrPartition, "Unable to find partition %s:%d.", topic, partition)
	}
	if replicas == nil {
		return protocol.Errorf(kerr.NoReassignmentInProgress, "")
	}
	if err := checkAssignment(img, replicas); err != nil {
		return err
	}
	switch {
	case !changeFactor && len(replicas) != len(p.Replicas):
		return protocol.Errorf(kerr.InvalidReplicationFactor, "The replication factor is changed from %d to %d", len(p.Replicas), len(replicas))
	case !slices.Equal(replicas, p.Replicas):
		return protocol.Errorf(kerr.InvalidReplicaAssignment, "Partition %s-%d cannot be moved from %v to %v: replicas stay where they are.", topic, partition, p.Replicas, replicas)
	}
	return nil
}

func checkAssignment(img *metadata.Image, replicas []protocol.BrokerID) error {
	if len(replicas) == 0 {
		return protocol.Errorf(kerr.InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.")
	}
	for i, id := range replicas {
		if _, ok := img.Broker(id); !ok {
			return protocol.Errorf(kerr.InvalidReplicaAssignment, "The manual partition assignment includes broker %d, but no such broker is registered.", id)
		}
		if slices.Contains(replicas[:i], id) {
			return protocol.Errorf(kerr.InvalidReplicaAssignment, "The manual partition assignment includes the broker %d more than once.", id)
		}
	}
	return nil
}

// UnregisterBroker refuses to forget a broker: this one serves, and no other is
// registered. Kafka forgets one that serves, which is then of no use until it is started again.
func (a *Admin) UnregisterBroker(id protocol.BrokerID) error {
	if _, ok := a.Image().Broker(id); !ok {
		return protocol.Errorf(kerr.BrokerIDNotRegistered, "Broker ID %d is not currently registered", id)
	}
	return protocol.Errorf(kerr.InvalidRequest, "Broker %d holds partitions of this cluster: it cannot be unregistered.", id)
}
