package api

import (
	"fmt"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/broker/server"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// produce is one Produce, versions 3 to 13 (topic ids from 13 on). Batches are
// appended before Handle returns, so the order of requests is the order in the
// log; the reply goes when the last partition has what acks asks for.
type produce struct {
	r        *server.Request
	acks     replica.Acks
	resp     *kmsg.ProduceResponse
	pending  atomic.Int64
	anyError atomic.Bool
}

func (h *Handler) produce(r *server.Request) {
	req, err := protocol.DecodeProduce(r.Header.Version, r.Body)
	if err != nil {
		r.Reply(server.Response{NoReply: true, Close: err})
		return
	}
	p := &produce{r: r, acks: replica.Acks(req.Acks), resp: newProduceResponse(req)}
	partitions := 0
	for i := range req.Topics {
		partitions += len(req.Topics[i].Partitions)
	}
	p.pending.Store(int64(partitions) + 1)
	now, img := h.cfg.Now(), h.cfg.Admin.Image()
	for i := range req.Topics {
		t := &req.Topics[i]
		topic, topicErr := findTopic(img, t.Name, t.ID)
		if topicErr != nil && r.Header.Version >= 13 {
			topicErr = unknownTopicID(t.ID) // the zero id too
		}
		for j := range t.Partitions {
			part, out := &t.Partitions[j], &p.resp.Topics[i].Partitions[j]
			l, err := h.producible(req, topic, topicErr, part.Index)
			if err != nil {
				p.done(out, replica.Appended{}, err)
				continue
			}
			l.Stats().ProduceRequests.Add(1)
			l.Append(part.Records, p.acks, now, func(a replica.Appended, err error) { p.done(out, a, err) })
		}
	}
	p.finish()
}

func findTopic(img *metadata.Image, name string, id protocol.TopicID) (metadata.Topic, error) {
	if !id.IsZero() {
		if t, ok := img.TopicByID(id); ok {
			return t, nil
		}
		return metadata.Topic{}, unknownTopicID(id)
	}
	t, ok := img.Topic(name)
	if !ok {
		return t, protocol.Errorf(kerr.UnknownTopicOrPartition, "no topic %q", name)
	}
	return t, nil
}

// producible finds the partition that a client may write to.
func (h *Handler) producible(req *protocol.ProduceRequest, t metadata.Topic, topicErr error, partition int32) (*replica.Leader, error) {
	switch {
	case req.Acks < -1 || req.Acks > 1:
		return nil, protocol.Errorf(kerr.InvalidRequiredAcks, "acks=%d", req.Acks)
	case req.TransactionalID != nil:
		return nil, errNoTransactions()
	case topicErr != nil:
		return nil, topicErr
	case partition < 0 || partition >= t.Partitions:
		return nil, unknownPartition(t.Name, partition)
	}
	return h.cfg.Replicas.Get(protocol.PartitionKey{Topic: t.ID, Partition: partition})
}

func newProduceResponse(req *protocol.ProduceRequest) *kmsg.ProduceResponse {
	resp := kmsg.NewPtrProduceResponse()
	resp.Topics = make([]kmsg.ProduceResponseTopic, len(req.Topics))
	for i := range req.Topics {
		t := &resp.Topics[i]
		*t = kmsg.NewProduceResponseTopic()
		t.Topic, t.TopicID = req.Topics[i].Name, req.Topics[i].ID
		t.Partitions = make([]kmsg.ProduceResponseTopicPartition, len(req.Topics[i].Partitions))
		for j := range t.Partitions {
			t.Partitions[j] = kmsg.NewProduceResponseTopicPartition()
			t.Partitions[j].Partition = req.Topics[i].Partitions[j].Index
		}
	}
	return resp
}

// done fills in one partition's answer. Each is filled in by one caller; the
// count of pending ones orders that before the encoding.
func (p *produce) done(out *kmsg.ProduceResponseTopicPartition, a replica.Appended, err error) {
	if err != nil {
		p.anyError.Store(true)
		out.ErrorCode, out.ErrorMessage = protocol.CodeOf(err), protocol.MessageOf(err)
		out.BaseOffset, out.LogAppendTime, out.LogStartOffset = int64(protocol.NoOffset), int64(protocol.NoTimestamp), int64(protocol.NoOffset)
	} else {
		out.BaseOffset, out.LogAppendTime, out.LogStartOffset = int64(a.First), int64(a.AppendTime), int64(a.LogStart)
	}
	p.finish()
}

func (p *produce) finish() {
	if p.pending.Add(-1) > 0 {
		return
	}
	if p.acks != replica.AcksNone {
		reply(p.r, p.resp)
		return
	}
	resp := server.Response{NoReply: true}
	if p.anyError.Load() {
		// With acks=0 closing the connection is the only way to tell (as Kafka does).
		resp.Close = fmt.Errorf("produce with acks=0 failed: %s", firstError(p.resp))
	}
	p.r.Reply(resp)
}

func firstError(resp *kmsg.ProduceResponse) string {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return fmt.Sprintf("topic %q partition %d: %v", t.Topic, p.Partition, kerr.ErrorForCode(p.ErrorCode))
			}
		}
	}
	return "no error"
}
