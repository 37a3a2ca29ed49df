package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// leastDeletion is how many milliseconds a deletion may take at least, whatever the
// client's timeout says: Kafka's, on one broker, waits for nobody and never times out.
const leastDeletion = 1000

// deletion is what one request wants of one partition.
type deletion struct {
	topic     string
	partition int32
	before    protocol.Offset
	leader    *replica.Leader
	err       error
}

// DeleteRecords, versions 0 to 2: moves log starts forward, in both tiers. On
// reply the new start is durable and nothing below it is shown; files and objects
// follow. What is named twice is answered once, by the offset named last, as in Kafka.
func (h *Handler) deleteRecords(ctx context.Context, req *kmsg.DeleteRecordsRequest) kmsg.Response {
	ctx, cancel := within(ctx, max(req.TimeoutMillis, leastDeletion))
	defer cancel()
	wanted, img := deletions(req), h.cfg.Admin.Image()
	var starts []admin.LogStart
	var moved []*deletion
	for _, d := range wanted {
		var start admin.LogStart
		if start, d.err = h.deleteTo(img, d); d.err == nil {
			starts, moved = append(starts, start), append(moved, d)
		}
	}
	for i, err := range h.cfg.Admin.AdvanceLogStarts(ctx, starts) {
		moved[i].err = err
	}
	return toldDeletions(wanted)
}

// deletions are in the order of the request.
func deletions(req *kmsg.DeleteRecordsRequest) (out []*deletion) {
	type place struct {
		topic     string
		partition int32
	}
	known := map[place]*deletion{}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			at := place{t.Topic, p.Partition}
			d := known[at]
			if d == nil {
				d = &deletion{topic: t.Topic, partition: p.Partition}
				known[at] = d
				out = append(out, d)
			}
			d.before = protocol.Offset(p.Offset)
		}
	}
	return out
}

// deleteTo checks one deletion, and gives the log start that does it.
func (h *Handler) deleteTo(img *metadata.Image, d *deletion) (admin.LogStart, error) {
	if _, ok := img.Topic(d.topic); ok && admin.Internal(d.topic) {
		return admin.LogStart{}, protocol.Errorf(kerr.InvalidTopicException, "Cannot delete records of internal topic %s", d.topic)
	}
	var err error
	if d.leader, err = h.leader(img, d.topic, d.partition); err != nil {
		return admin.LogStart{}, err
	}
	epoch := d.leader.Epoch() // before the high watermark, which is this leader's or a later one's
	to, err := d.leader.DeleteTo(d.before)
	return admin.LogStart{Key: d.leader.Key(), Offset: to, Epoch: epoch}, err
}

func toldDeletions(wanted []*deletion) *kmsg.DeleteRecordsResponse {
	resp := kmsg.NewPtrDeleteRecordsResponse()
	topics := map[string]int{}
	for _, d := range wanted {
		i, ok := topics[d.topic]
		if !ok {
			i = len(resp.Topics)
			topics[d.topic] = i
			t := kmsg.NewDeleteRecordsResponseTopic()
			t.Topic = d.topic
			resp.Topics = append(resp.Topics, t)
		}
		p := kmsg.NewDeleteRecordsResponseTopicPartition()
		p.Partition, p.LowWatermark, p.ErrorCode = d.partition, int64(protocol.NoOffset), protocol.CodeOf(d.err)
		if d.err == nil {
			p.LowWatermark = int64(d.leader.LogStart())
		}
		resp.Topics[i].Partitions = append(resp.Topics[i].Partitions, p)
	}
	return resp
}
