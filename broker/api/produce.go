package api

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/broker/server"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// produce is one Produce, versions 3 to 13 (topic ids from 13 on). Batches are
// appended before Handle returns, so the order of requests is the order in the
// log; the reply goes when the last partition has what acks asks for.
type produce struct {
	r    *server.Request
	acks replica.Acks

	mu      sync.Mutex
	resp    *kmsg.ProduceResponse // guarded by mu; nil once replied
	pending int                   // guarded by mu: partitions without an answer, and one for the request itself
	failed  bool                  // guarded by mu: some partition has an error
	timeout *time.Timer           // guarded by mu; nil while nothing waits
}

// unanswered marks a partition whose answer has not come: no error has this code.
const unanswered = math.MinInt16

func (h *Handler) produce(r *server.Request) {
	req, err := protocol.DecodeProduce(r.Header.Version, r.Body)
	if err != nil {
		r.Reply(server.Response{NoReply: true, Close: err})
		return
	}
	p := &produce{r: r, acks: replica.Acks(req.Acks), resp: newProduceResponse(req), pending: 1}
	for i := range req.Topics {
		p.pending += len(req.Topics[i].Partitions)
	}
	resp := p.resp // done fills in what this names
	now, img := h.cfg.Now(), h.cfg.Admin.Image()
	for i := range req.Topics {
		t := &req.Topics[i]
		topic, topicErr := findTopic(img, t.Name, t.ID)
		if topicErr != nil && r.Header.Version >= 13 {
			topicErr = unknownTopicID(t.ID) // the zero id too
		}
		for j := range t.Partitions {
			part, out := &t.Partitions[j], &resp.Topics[i].Partitions[j]
			l, err := h.producible(req, topic, topicErr, part.Index)
			if err != nil {
				p.done(out, replica.Appended{}, err)
				continue
			}
			l.Stats().ProduceRequests.Add(1)
			l.Append(part.Records, p.acks, now, func(a replica.Appended, err error) { p.done(out, a, err) })
		}
	}
	r.Free() // the log has the records
	p.started(time.Duration(req.TimeoutMs) * time.Millisecond)
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
	case admin.Internal(t.Name):
		return nil, protocol.Errorf(kerr.InvalidTopicException, "Cannot append to internal topic %s", t.Name)
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
			t.Partitions[j].ErrorCode = unanswered
		}
	}
	return resp
}

// done fills in one partition's answer, unless the request has timed out.
func (p *produce) done(out *kmsg.ProduceResponseTopicPartition, a replica.Appended, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resp == nil {
		return
	}
	p.fill(out, a, err)
	p.finish()
}

// fill needs mu.
func (p *produce) fill(out *kmsg.ProduceResponseTopicPartition, a replica.Appended, err error) {
	out.ErrorCode = protocol.CodeOf(err)
	if err != nil {
		p.failed = true
		out.ErrorMessage = protocol.MessageOf(err)
		out.BaseOffset, out.LogAppendTime, out.LogStartOffset = int64(protocol.NoOffset), int64(protocol.NoTimestamp), int64(protocol.NoOffset)
		return
	}
	out.BaseOffset, out.LogAppendTime, out.LogStartOffset = int64(a.First), int64(a.AppendTime), int64(a.LogStart)
}

// started is called when all partitions were appended to. What still waits for
// acks may wait as long as the client says.
func (p *produce) started(timeout time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finish()
	if p.resp != nil {
		p.timeout = time.AfterFunc(max(timeout, 0), p.expire)
	}
}

// expire answers for the partitions whose acknowledgement has not come. Their
// records are in the log and may yet be committed, as with Kafka.
func (p *produce) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resp == nil {
		return
	}
	for i := range p.resp.Topics {
		for j := range p.resp.Topics[i].Partitions {
			if out := &p.resp.Topics[i].Partitions[j]; out.ErrorCode == unanswered {
				p.fill(out, replica.Appended{}, protocol.Errorf(kerr.RequestTimedOut, "the append was not acknowledged in time"))
			}
		}
	}
	p.pending = 1
	p.finish()
}

// finish counts one answer and replies with the last. It needs mu.
func (p *produce) finish() {
	if p.pending--; p.pending > 0 {
		return
	}
	if p.timeout != nil {
		p.timeout.Stop()
	}
	resp := p.resp
	p.resp = nil
	if p.acks != replica.AcksNone {
		reply(p.r, resp)
		return
	}
	none := server.Response{NoReply: true}
	if p.failed {
		// With acks=0 closing the connection is the only way to tell (as Kafka does).
		none.Close = fmt.Errorf("produce with acks=0 failed: %s", firstError(resp))
	}
	p.r.Reply(none)
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
