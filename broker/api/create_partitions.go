package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

// CreatePartitions, versions 0 to 3: a topic grows, never shrinks.
func (h *Handler) createPartitions(ctx context.Context, req *kmsg.CreatePartitionsRequest) kmsg.Response {
	ctx, cancel := within(ctx, req.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrCreatePartitionsResponse()
	count := map[string]int{}
	for _, t := range req.Topics {
		count[t.Topic]++
	}
	for _, t := range req.Topics {
		if count[t.Topic] == 0 {
			continue // answered already
		}
		err := protocol.Errorf(kerr.InvalidRequest, "Duplicate topic name.")
		if count[t.Topic] == 1 {
			var manual [][]protocol.BrokerID
			for _, a := range t.Assignment {
				manual = append(manual, brokerIDs(a.Replicas))
			}
			err = h.cfg.Admin.AddPartitions(ctx, t.Topic, t.Count, manual, req.ValidateOnly)
		}
		count[t.Topic] = 0
		out := kmsg.NewCreatePartitionsResponseTopic()
		out.Topic, out.ErrorCode, out.ErrorMessage = t.Topic, protocol.CodeOf(err), protocol.MessageOf(err)
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}
