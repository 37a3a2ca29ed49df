package broker

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// replayBytes is how much of a partition the coordinators read at a time.
const replayBytes = 1 << 20

// offsetsTopic shows __consumer_offsets to the coordinators.
type offsetsTopic struct {
	admin    *admin.Admin
	replicas *replica.Manager
	cold     replica.Cold
	full     func() bool // the disk's reserve is touched
}

// Room implements coordinator.Partitions.
func (o offsetsTopic) Room() bool { return !o.full() }

// Count implements coordinator.Partitions.
func (o offsetsTopic) Count() int32 {
	t, _ := o.admin.Image().Topic(admin.OffsetsTopic)
	return t.Partitions
}

// Ensure implements coordinator.Partitions.
func (o offsetsTopic) Ensure(ctx context.Context) error {
	return o.admin.Ensure(ctx, admin.OffsetsTopic)
}

func (o offsetsTopic) leader(p int32) (*replica.Leader, error) {
	t, ok := o.admin.Image().Topic(admin.OffsetsTopic)
	if !ok {
		return nil, protocol.Errorf(kerr.CoordinatorNotAvailable, "%s does not exist", admin.OffsetsTopic)
	}
	return o.replicas.Get(protocol.PartitionKey{Topic: t.ID, Partition: p})
}

// Append implements coordinator.Partitions.
func (o offsetsTopic) Append(p int32, epoch protocol.Epoch, batch []byte, done func(protocol.Offset, error)) {
	l, err := o.leader(p)
	if err != nil {
		go done(protocol.NoOffset, err)
		return
	}
	l.AppendInternal(record.Batch(batch), epoch, time.Now(), func(a replica.Appended, err error) {
		// Maybe still inside this call, whose caller is the shard that done wakes.
		go done(a.First, err)
	})
}

// Read implements coordinator.Partitions.
func (o offsetsTopic) Read(ctx context.Context, p int32, from protocol.Offset) ([]byte, protocol.Offset, error) {
	l, err := o.leader(p)
	if err != nil {
		return nil, from, err
	}
	return l.ReadCommitted(ctx, o.cold, from, replayBytes)
}

// Start implements coordinator.Partitions.
func (o offsetsTopic) Start(p int32) protocol.Offset {
	l, err := o.leader(p)
	if err != nil {
		return 0
	}
	return l.LogStart()
}
