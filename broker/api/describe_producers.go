package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

// DescribeProducers, version 0 (KIP-664): the idempotent and transactional
// producers that a partition knows. The time of a producer is the wall clock at its last
// append, by which it expires; Kafka's is that of its last record.
func (h *Handler) describeProducers(req *kmsg.DescribeProducersRequest) kmsg.Response {
	resp, img := kmsg.NewPtrDescribeProducersResponse(), h.cfg.Admin.Image()
	type asked struct {
		topic     string
		partition int32
	}
	seen := map[asked]bool{} // each is told once: it may have many producers
	for _, t := range req.Topics {
		out := kmsg.NewDescribeProducersResponseTopic()
		out.Topic = t.Topic
		_, known := img.Topic(t.Topic)
		for _, number := range t.Partitions {
			what := asked{t.Topic, number}
			if seen[what] {
				continue
			}
			seen[what] = true
			p := kmsg.NewDescribeProducersResponseTopicPartition()
			p.Partition = number
			l, err := h.leader(img, t.Topic, number)
			switch {
			case err != nil && !known:
				p.ErrorCode, p.ErrorMessage = kerr.UnknownTopicOrPartition.Code, &kerr.UnknownTopicOrPartition.Description
			case err != nil:
				p.ErrorCode = protocol.CodeOf(err)
			default:
				for _, active := range l.Log().Producers() {
					a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
					a.ProducerID, a.ProducerEpoch, a.LastSequence = int64(active.ID), int32(active.Epoch), active.LastSequence
					a.LastTimestamp, a.CoordinatorEpoch, a.CurrentTxnStartOffset = int64(active.LastAppend), active.CoordinatorEpoch, int64(active.TxnFirst)
					p.ActiveProducers = append(p.ActiveProducers, a)
				}
			}
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}
