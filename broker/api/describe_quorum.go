package api

import (
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// metadataTopic is how Kafka's protocol names the metadata's log.
const metadataTopic = "__cluster_metadata"

// DescribeQuorum, versions 0 to 2 (KIP-595, KIP-853): the Raft quorum of the
// metadata. Its offsets are Raft's indexes. A node's listeners are those for
// controllers, of which there are none while a broker is its own controller.
func (h *Handler) describeQuorum(req *kmsg.DescribeQuorumRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeQuorumResponse()
	none := ""
	resp.ErrorMessage = &none
	if len(req.Topics) != 1 || req.Topics[0].Topic != metadataTopic || len(req.Topics[0].Partitions) != 1 || req.Topics[0].Partitions[0].Partition != 0 {
		for _, t := range req.Topics {
			resp.Topics = append(resp.Topics, unknownQuorum(t))
		}
		return resp
	}
	q, err := h.cfg.Quorum()
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = protocol.CodeOf(err), protocol.MessageOf(err)
		return resp
	}
	p := kmsg.NewDescribeQuorumResponseTopicPartition()
	p.ErrorMessage = &none
	p.LeaderID, p.LeaderEpoch, p.HighWatermark = int32(q.Leader), int32(min(q.Term, math.MaxInt32)), int64(q.HighWatermark)
	p.CurrentVoters, p.Observers = h.quorumMembers(q.Voters), h.quorumMembers(q.Observers)
	t := kmsg.NewDescribeQuorumResponseTopic()
	t.Topic = metadataTopic
	t.Partitions = append(t.Partitions, p)
	resp.Topics = append(resp.Topics, t)
	for _, m := range q.Voters {
		node := kmsg.NewDescribeQuorumResponseNode()
		node.NodeID = int32(m.Broker)
		resp.Nodes = append(resp.Nodes, node)
	}
	return resp
}

// quorumMembers: this broker reads its own log at all times; when others did is not known.
func (h *Handler) quorumMembers(members []metadata.QuorumMember) (out []kmsg.DescribeQuorumResponseTopicPartitionReplicaState) {
	for _, m := range members {
		s := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
		s.ReplicaID, s.ReplicaDirectoryID, s.LogEndOffset = int32(m.Broker), m.Directory, int64(m.LogEnd)
		if m.Broker == h.cfg.Self {
			s.LastFetchTimestamp = h.cfg.Now().UnixMilli()
			s.LastCaughtUpTimestamp = s.LastFetchTimestamp
		}
		out = append(out, s)
	}
	return out
}

func unknownQuorum(want kmsg.DescribeQuorumRequestTopic) kmsg.DescribeQuorumResponseTopic {
	t := kmsg.NewDescribeQuorumResponseTopic()
	t.Topic = want.Topic
	for _, wp := range want.Partitions {
		p := kmsg.NewDescribeQuorumResponseTopicPartition()
		p.Partition, p.ErrorCode, p.ErrorMessage = wp.Partition, kerr.UnknownTopicOrPartition.Code, &kerr.UnknownTopicOrPartition.Description
		t.Partitions = append(t.Partitions, p)
	}
	return t
}
