package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

// OffsetForLeaderEpoch, versions 2 to 4: where an epoch ends, for clients that
// check whether the log was truncated under them (KIP-320).
func (h *Handler) offsetForLeaderEpoch(ctx context.Context, req *kmsg.OffsetForLeaderEpochRequest) kmsg.Response {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Admin.Static().BrokerMillis(h.cfg.Admin.Image(), "remote.list.offsets.request.timeout.ms"))
	defer cancel()
	resp, img := kmsg.NewPtrOffsetForLeaderEpochResponse(), h.cfg.Admin.Image()
	for _, t := range req.Topics {
		out := kmsg.NewOffsetForLeaderEpochResponseTopic()
		out.Topic = t.Topic
		for _, p := range t.Partitions {
			op := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			op.Partition, op.LeaderEpoch, op.EndOffset = p.Partition, int32(protocol.NoEpoch), int64(protocol.NoOffset)
			l, err := h.leader(img, t.Topic, p.Partition)
			if err == nil {
				err = l.CheckEpoch(protocol.Epoch(p.CurrentLeaderEpoch))
			}
			if err == nil {
				var end protocol.EpochEnd
				if end, err = l.EpochEnd(ctx, h.cfg.Cold, protocol.Epoch(p.LeaderEpoch)); err == nil {
					op.LeaderEpoch, op.EndOffset = int32(end.Epoch), int64(end.End)
				}
			}
			op.ErrorCode = protocol.CodeOf(err)
			out.Partitions = append(out.Partitions, op)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}
