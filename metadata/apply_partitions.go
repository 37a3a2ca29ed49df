package metadata

import (
	"fmt"
	"slices"

	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

func (d *draft) partitionOf(topic []byte, partition int32) (Partition, error) {
	id, ok := id16(topic)
	if !ok {
		return Partition{}, invalid("topic id %x", topic)
	}
	key := protocol.PartitionKey{Topic: id, Partition: partition}
	p, ok := d.img.Partition(key)
	if !ok {
		return Partition{}, fmt.Errorf("%w: %v", ErrUnknownPartition, key)
	}
	return p, nil
}

func (p *Partition) checkLeaderEpoch(epoch int32) error {
	if p.LeaderEpoch != protocol.Epoch(epoch) {
		return fmt.Errorf("%w: %v has %d, the command %d", ErrStaleLeaderEpoch, p.Key, p.LeaderEpoch, epoch)
	}
	return nil
}

// alterPartitions writes the ISRs that a leader asks for (KIP-497), each row
// accepted or refused for itself.
func (d *draft) alterPartitions(c *metadatapb.AlterPartitions) error {
	b, err := d.brokerOf(c.GetBroker(), c.GetBrokerEpoch())
	if err != nil {
		return err
	}
	for _, change := range c.GetChanges() {
		d.result.Rows = append(d.result.Rows, d.alterPartition(b, change))
	}
	return nil
}

func (d *draft) alterPartition(b Broker, c *metadatapb.PartitionChange) error {
	p, err := d.partitionOf(c.GetTopicId(), c.GetPartition())
	if err != nil {
		return err
	}
	if err := p.checkLeaderEpoch(c.GetExpectedLeaderEpoch()); err != nil {
		return err
	}
	if p.Leader != b.ID {
		return fmt.Errorf("%w: %v is led by %d, not by %d", ErrStaleLeaderEpoch, p.Key, p.Leader, b.ID)
	}
	if p.PartitionEpoch != protocol.PartitionEpoch(c.GetExpectedPartitionEpoch()) {
		return fmt.Errorf("%w: %v has %d, expected %d", ErrStalePartition, p.Key, p.PartitionEpoch, c.GetExpectedPartitionEpoch())
	}
	isr := make([]protocol.BrokerID, 0, len(c.GetIsr()))
	for _, id := range c.GetIsr() {
		isr = append(isr, protocol.BrokerID(id))
	}
	if !slices.Contains(isr, p.Leader) || !distinct(isr) {
		return invalid("ISR %v of %v is without its leader %d, or holds a replica twice", isr, p.Key, p.Leader)
	}
	for _, id := range isr {
		if !slices.Contains(p.Replicas, id) || !slices.Contains(p.ISR, id) && !d.alive(id) {
			return fmt.Errorf("%w: %d in %v", ErrIneligibleReplica, id, p.Key)
		}
	}
	q := p
	q.ISR, q.ELR = isr, nil
	if len(isr) < d.minISR(p) {
		for _, id := range slices.Concat(p.ELR, p.ISR) {
			if !slices.Contains(isr, id) {
				q.ELR = append(q.ELR, id)
			}
		}
	}
	d.changeReplicaState(p, q)
	return nil
}

// advanceLogStarts moves log starts forward, each row accepted or refused for
// itself. The tiered end is lifted where a log start passes it: what lies below
// it is never uploaded any more, and the next manifest begins there. The
// manifest version stays; its entries below the log start are dead and go with the next version.
func (d *draft) advanceLogStarts(c *metadatapb.AdvanceLogStarts) error {
	for _, row := range c.GetRows() {
		d.result.Rows = append(d.result.Rows, d.advanceLogStart(row))
	}
	return nil
}

func (d *draft) advanceLogStart(row *metadatapb.LogStart) error {
	p, err := d.partitionOf(row.GetTopicId(), row.GetPartition())
	if err != nil {
		return err
	}
	if err := p.checkLeaderEpoch(row.GetLeaderEpoch()); err != nil {
		return err
	}
	to := protocol.Offset(row.GetOffset())
	if to <= p.LogStart {
		return nil
	}
	p.LogStart = to
	p.Manifest.TieredEnd = max(p.Manifest.TieredEnd, to)
	d.setPartition(p)
	return nil
}
