package api

import (
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// DescribeTopicPartitions, version 0 (KIP-966): partitions with their eligible
// leader replicas, in the order of topic names, at most so many an answer; the cursor tells
// where the next one goes on. No topics asks for all.
func (h *Handler) describeTopicPartitions(req *kmsg.DescribeTopicPartitionsRequest) kmsg.Response {
	resp, img := kmsg.NewPtrDescribeTopicPartitionsResponse(), h.cfg.Admin.Image()
	names, all := topicsFrom(img, req)
	first := int32(0)
	if c := req.Cursor; c != nil {
		first = c.Partition
		if first < 0 || !all && (len(names) == 0 || names[0] != c.Topic) {
			return invalidCursor(req)
		}
		if len(names) == 0 || names[0] != c.Topic {
			first = 0 // the topic was deleted meanwhile
		}
	}
	left := min(req.ResponsePartitionLimit, int32(min(h.cfg.Admin.Static().Int("max.request.partition.size.limit"), math.MaxInt32)))
	left = max(left, 1)
	for _, name := range names {
		if left == 0 {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name}
			break
		}
		t, next := h.describePartitions(img, name, first, left)
		resp.Topics = append(resp.Topics, t)
		if next >= 0 {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: next}
			break
		}
		left -= int32(len(t.Partitions))
		first = 0
	}
	return resp
}

// topicsFrom are the topics to describe from the cursor on, each once, in order.
func topicsFrom(img *metadata.Image, req *kmsg.DescribeTopicPartitionsRequest) (names []string, all bool) {
	if all = len(req.Topics) == 0; all {
		for t := range img.Topics() {
			names = append(names, t.Name)
		}
	}
	for _, t := range req.Topics {
		names = append(names, t.Topic)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if req.Cursor != nil {
		i, _ := slices.BinarySearch(names, req.Cursor.Topic)
		names = names[i:]
	}
	return names, all
}

func invalidCursor(req *kmsg.DescribeTopicPartitionsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	for _, t := range req.Topics {
		out := kmsg.NewDescribeTopicPartitionsResponseTopic()
		out.Topic, out.ErrorCode, out.AuthorizedOperations = &t.Topic, kerr.InvalidRequest.Code, noOperations
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

// describePartitions describes at most most partitions of a topic; next is the first left out, or -1.
func (h *Handler) describePartitions(img *metadata.Image, name string, first, most int32) (out kmsg.DescribeTopicPartitionsResponseTopic, next int32) {
	out, next = kmsg.NewDescribeTopicPartitionsResponseTopic(), -1
	out.Topic, out.IsInternal, out.AuthorizedOperations = &name, admin.Internal(name), topicOperations
	t, ok := img.Topic(name)
	if !ok {
		out.ErrorCode = kerr.UnknownTopicOrPartition.Code
		if metadata.CheckTopicName(name) != nil {
			out.ErrorCode = kerr.InvalidTopicException.Code
		}
		return out, next
	}
	out.TopicID = t.ID
	for number := first; number < t.Partitions; number++ {
		if number-first == most {
			return out, number
		}
		row, ok := img.Partition(protocol.PartitionKey{Topic: t.ID, Partition: number})
		if ok {
			out.Partitions = append(out.Partitions, h.describePartition(img, row))
		}
	}
	return out, next
}

func (h *Handler) describePartition(img *metadata.Image, row metadata.Partition) kmsg.DescribeTopicPartitionsResponseTopicPartition {
	p := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
	p.Partition, p.LeaderID, p.LeaderEpoch = row.Key.Partition, int32(row.Leader), int32(row.LeaderEpoch)
	p.Replicas, p.ISR, p.EligibleLeaderReplicas, p.LastKnownELR = wireIDs(row.Replicas), wireIDs(row.ISR), wireIDs(row.ELR), []int32{}
	for _, id := range row.Replicas {
		if b, ok := img.Broker(id); !ok || b.Fenced {
			p.OfflineReplicas = append(p.OfflineReplicas, int32(id))
		}
	}
	if b, ok := img.Broker(row.Leader); !ok || b.Fenced || h.cfg.Replicas.IsOffline(row.Key) {
		p.LeaderID, p.ErrorCode = int32(protocol.NoBroker), kerr.LeaderNotAvailable.Code
	}
	return p
}

func wireIDs(ids []protocol.BrokerID) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}
