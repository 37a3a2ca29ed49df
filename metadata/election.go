package metadata

import (
	"slices"
	"strconv"

	"github.com/stratabroker/strata/protocol"
)

// How leaders are chosen, as in Kafka with KIP-966, with one rule of our own:
//
//   - A fenced or newly registered broker leaves the ISR of every partition in
//     which another member remains. Where the ISR then is below min ISR, it is
//     kept in the ELR: the high watermark cannot advance without min ISR
//     members, so it still holds everything below it. After an unclean start it
//     is in neither.
//   - The leader is kept while it is in the ISR and unfenced; else it is the
//     first replica of the assignment that is in the ISR and unfenced; else the
//     first such of the ELR, which then is the whole ISR. A change of leader
//     raises the leader epoch; any change raises the partition epoch.
//   - The last member of the ISR stays in it, and stays leader, while it is
//     fenced and nobody else may lead. Kafka writes leader -1 there and the
//     leader back with a new epoch on return; that is two rewrites of every row
//     at each restart of a lone broker, for nothing: no other replica may be
//     elected, so the epoch cannot have two histories. What a fenced leader
//     means is for readers to say: it is shown to clients as no leader.
//
// ISR is never empty.

// alive tells whether a broker may become leader or join an ISR.
func (d *draft) alive(id protocol.BrokerID) bool {
	b, ok := d.img.Broker(id)
	return ok && !b.Fenced
}

// partitionsOf lists the partitions with a replica on the broker. It reads all
// rows: brokers register and are fenced seldom.
func (d *draft) partitionsOf(id protocol.BrokerID) []Partition {
	var found []Partition
	for p := range d.img.AllPartitions() {
		if slices.Contains(p.Replicas, id) {
			found = append(found, p)
		}
	}
	return found
}

// withoutReplica takes a broker that is down out of the ISR, unless nobody else
// holds what the ISR holds. After an unclean start the broker is not trusted to
// hold everything below the high watermark, so that the ELR goes before it.
func withoutReplica(p Partition, id protocol.BrokerID, minISR int, unclean bool) Partition {
	if unclean {
		p.ELR = without(p.ELR, id)
	}
	switch {
	case !slices.Contains(p.ISR, id):
	case len(p.ISR) > 1:
		p.ISR = without(p.ISR, id)
		if len(p.ISR) < minISR && !unclean {
			p.ELR = append(slices.Clone(p.ELR), id)
		}
	case unclean && len(p.ELR) > 0:
		p.ISR, p.ELR = p.ELR, nil
	}
	return p
}

func without(ids []protocol.BrokerID, id protocol.BrokerID) []protocol.BrokerID {
	if !slices.Contains(ids, id) {
		return ids
	}
	return slices.DeleteFunc(slices.Clone(ids), func(o protocol.BrokerID) bool { return o == id })
}

// elect chooses the leader of p; alive tells who is registered and unfenced.
func elect(p Partition, alive func(protocol.BrokerID) bool) Partition {
	next := p.Leader
	if !slices.Contains(p.ISR, next) || !alive(next) {
		next = firstAlive(p.Replicas, p.ISR, alive)
	}
	if next == protocol.NoBroker {
		next = firstAlive(p.Replicas, p.ELR, alive)
		if next != protocol.NoBroker {
			// The high watermark has not moved since the ISR fell below min ISR:
			// its members are as eligible as the new leader is.
			p.ISR, p.ELR = []protocol.BrokerID{next}, slices.Concat(without(p.ELR, next), p.ISR)
		}
	}
	if next == protocol.NoBroker && len(p.ISR) == 1 {
		next = p.ISR[0]
	}
	if next != p.Leader {
		p.Leader = next
		p.LeaderEpoch++
	}
	return p
}

func firstAlive(order, among []protocol.BrokerID, alive func(protocol.BrokerID) bool) protocol.BrokerID {
	for _, id := range order {
		if slices.Contains(among, id) && alive(id) {
			return id
		}
	}
	return protocol.NoBroker
}

// changeReplicaState writes q over p where they differ, one partition epoch later.
func (d *draft) changeReplicaState(p, q Partition) {
	if sameReplicaState(p, q) {
		return
	}
	q.PartitionEpoch = p.PartitionEpoch + 1
	d.setPartition(q)
}

func sameReplicaState(p, q Partition) bool {
	return p.Leader == q.Leader && p.LeaderEpoch == q.LeaderEpoch &&
		slices.Equal(p.Replicas, q.Replicas) && slices.Equal(p.Directories, q.Directories) &&
		slices.Equal(p.ISR, q.ISR) && slices.Equal(p.ELR, q.ELR)
}

const minISRConfig = "min.insync.replicas"

// minISR is what the image knows of the partition's min.insync.replicas. A
// value in a broker's own file is not known here; then it counts as 1, so that
// the ELR holds fewer replicas than it might, never more.
func (d *draft) minISR(p Partition) int {
	return min(d.img.minISR(p.Key.Topic), len(p.Replicas))
}

func (i *Image) minISR(id protocol.TopicID) int {
	t, _ := i.TopicByID(id)
	value, ok := i.Config(Resource{Type: TopicResource, Name: t.Name}, minISRConfig)
	if !ok {
		value = i.configOrEmpty(Resource{Type: BrokerResource}, minISRConfig)
	}
	if n, err := strconv.Atoi(value); err == nil && n > 0 {
		return n
	}
	return 1
}

func (i *Image) configOrEmpty(r Resource, name string) string {
	value, _ := i.Config(r, name)
	return value
}
