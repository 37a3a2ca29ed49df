// Package group is the state machine of classic consumer groups and of
// committed offsets: all groups of one partition of __consumer_offsets. An
// event and the time go in; records, replies and the next deadline come out.
// It has no goroutine, lock, clock or I/O. Package broker/coordinator runs it;
// broker/api uses PartitionFor. It follows Kafka 4.x (KIP-62, KIP-211, KIP-345,
// KIP-394, KIP-559, KIP-814).
package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// Settings are the limits that groups live by.
type Settings struct {
	MinSessionTimeout      time.Duration // group.min.session.timeout.ms
	MaxSessionTimeout      time.Duration // group.max.session.timeout.ms
	InitialRebalanceDelay  time.Duration // group.initial.rebalance.delay.ms
	MaxSize                int32         // group.max.size
	OffsetMetadataMaxBytes int32         // offset.metadata.max.bytes
	OffsetsRetention       time.Duration // offsets.retention.minutes
	ExpiryInterval         time.Duration // offsets.retention.check.interval.ms: least time between two looks for what expired
	// Memory bounds what all shards that share it hold: ids, protocol metadata, assignments and committed offsets.
	// nil gives a shard 64 MiB of its own.
	Memory *Memory
	// MaxBatchBytes bounds the record batch of one operation: max.message.bytes of
	// __consumer_offsets. Zero means 1 MiB.
	MaxBatchBytes int
}

// Client is who sent a request.
type Client struct {
	ID   string // client.id, "" where null
	Host string // as Kafka's tools print it: "/192.0.2.1"
}

// Topics is the topics that exist now; *metadata.Image is one.
type Topics interface {
	Topic(name string) (metadata.Topic, bool)
	TopicByID(id protocol.TopicID) (metadata.Topic, bool)
}

// Token names a request that waits for its reply; the caller chooses it, not
// zero and unique among those that wait.
type Token uint64

// Record is one record to be written to the partition. A nil Value is a tombstone.
type Record struct {
	Key, Value []byte
}

// Reply answers the request that Token names.
type Reply struct {
	Token    Token
	Response kmsg.Response
}

// Output is what an event leads to. Records of an operation are to be written
// as one batch; the replies must be held until they, and all records of
// earlier outputs, are committed.
type Output struct {
	Records []Record
	Replies []Reply
	Notes   []Note
}

// Note is something an operator may want to read in the log.
type Note struct {
	Group      string
	Member     string // "" where it is about the whole group
	Generation int32
	State      string
	What       string
}
