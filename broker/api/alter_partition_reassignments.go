package api

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

// AlterPartitionReassignments, versions 0 and 1 (KIP-455, KIP-1073): a move to
// where a partition is completes at once; there is nowhere else to go, and nothing under way to cancel.
func (h *Handler) alterPartitionReassignments(req *kmsg.AlterPartitionAssignmentsRequest) kmsg.Response {
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	changeFactor := req.Version < 1 || req.AllowReplicationFactorChange
	resp.AllowReplicationFactorChange = changeFactor
	for _, t := range req.Topics {
		out := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		out.Topic = t.Topic
		for _, want := range t.Partitions {
			var replicas []protocol.BrokerID // nil: cancel
			if want.Replicas != nil {
				replicas = brokerIDs(want.Replicas)
			}
			err := h.cfg.Admin.Reassign(t.Topic, want.Partition, replicas, changeFactor)
			p := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			p.Partition, p.ErrorCode, p.ErrorMessage = want.Partition, protocol.CodeOf(err), detail(err)
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

// detail is what an error says beside its code, nil for nothing.
func detail(err error) *string {
	if e, ok := errors.AsType[*protocol.Error](err); ok && e.Message != "" {
		return &e.Message
	}
	return nil
}
