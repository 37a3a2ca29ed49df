// Package coordinator runs the group state machines of package group: one
// shard for each partition of __consumer_offsets that this broker leads, one
// goroutine for each shard. A shard replays its partition on load, decides one
// operation after the other, appends what it decided as one record batch and
// holds every reply until all it rests on is committed. It knows nothing of
// sockets, topics' settings or buckets: the log comes in through Partitions,
// topic names and ids through group.Topics. The composition root makes it,
// package broker/api calls it.
package coordinator

import (
	"context"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/group"
	"github.com/stratabroker/strata/protocol"
)

// Partitions is __consumer_offsets as led here.
type Partitions interface {
	// Count is the number of partitions of the topic, 0 while it does not exist.
	// It never blocks.
	Count() int32
	// Ensure creates the topic if it is missing.
	Ensure(ctx context.Context) error
	// Append writes one batch as the leader of epoch and calls done exactly once, from
	// another goroutine: with the batch's base offset once it is below the high watermark,
	// or with an error when it was refused (then it is not in the log) or when the
	// leadership of epoch ended. It does not wait for the commit, and batches of
	// one partition keep the order of the calls.
	Append(p int32, epoch protocol.Epoch, batch []byte, done func(protocol.Offset, error))
	// Read gives whole committed batches that hold or follow from, of both tiers; next is
	// the offset to go on with. next == from means the end: the high watermark, once
	// it has passed everything that the log held when this leadership began. Before
	// that Read fails, and is tried again: what is committed later would be missing
	// from the state.
	Read(ctx context.Context, p int32, from protocol.Offset) (batches []byte, next protocol.Offset, err error)
	// Room tells that the disk has room for what groups write. It never blocks.
	Room() bool
	// Start is the log start offset of the partition.
	Start(p int32) protocol.Offset
}

// Client is who sent a request.
type Client = group.Client

// Config is what a Coordinator needs.
type Config struct {
	Partitions Partitions
	// Topics gives the topics of the newest image. When TopicDeleted is called it must
	// already show the deletion.
	Topics func() group.Topics
	Group  group.Settings // the group.* and offset* settings
	// Ends, if set, gives where a restored partition ends, and may wait for that: when a shard is loaded, offsets
	// that were committed beyond are set back before it serves. false where nothing is to be set back.
	Ends func(context.Context, protocol.PartitionKey) (protocol.Offset, bool)
	// MailboxRequests is how many requests of one shard may wait to be decided; as many
	// appends, or replies that wait for appends, hold back further decisions. Zero means 1024.
	MailboxRequests int
	Logger          *slog.Logger
}

// API is what request handlers and the composition root call; *Coordinator is
// the one implementation. No method waits for a shard, the log or the network
// (but Close). Each request's reply function is called exactly once, from any
// goroutine, with a response that the callee owns. A request must be decoded
// by ReadFrom (its strings own their bytes), and must not change until the reply; nothing of
// it is kept after that.
type API interface {
	// FindPartition is the partition of __consumer_offsets that coordinates the group, -1
	// while the topic does not exist: then its creation is under way and the client is
	// told COORDINATOR_NOT_AVAILABLE.
	FindPartition(groupID string) int32
	// OnLeadership tells that this broker leads the partition in the epoch, or no longer
	// leads it. Calls for one partition come in the order of their epochs.
	OnLeadership(partition int32, epoch protocol.Epoch, leader bool)
	// TopicDeleted removes what groups committed for the topics.
	TopicDeleted(names []string)

	Join(c Client, req *kmsg.JoinGroupRequest, reply func(*kmsg.JoinGroupResponse))
	Sync(c Client, req *kmsg.SyncGroupRequest, reply func(*kmsg.SyncGroupResponse))
	Heartbeat(c Client, req *kmsg.HeartbeatRequest, reply func(*kmsg.HeartbeatResponse))
	Leave(c Client, req *kmsg.LeaveGroupRequest, reply func(*kmsg.LeaveGroupResponse))
	OffsetCommit(c Client, req *kmsg.OffsetCommitRequest, reply func(*kmsg.OffsetCommitResponse))
	OffsetFetch(c Client, req *kmsg.OffsetFetchRequest, reply func(*kmsg.OffsetFetchResponse))

	Management
}

// Management is what those who look after groups ask for. Deletions are durable when the
// reply comes; authorized operations are left to the caller.
type Management interface {
	DescribeGroups(c Client, req *kmsg.DescribeGroupsRequest, reply func(*kmsg.DescribeGroupsResponse))
	ListGroups(c Client, req *kmsg.ListGroupsRequest, reply func(*kmsg.ListGroupsResponse))
	DeleteGroups(c Client, req *kmsg.DeleteGroupsRequest, reply func(*kmsg.DeleteGroupsResponse))
	OffsetDelete(c Client, req *kmsg.OffsetDeleteRequest, reply func(*kmsg.OffsetDeleteResponse))
}
