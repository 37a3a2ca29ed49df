package api

import (
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/replica"
)

// unknownBytes stands for a size that was not to be had.
const unknownBytes = -1

// DescribeLogDirs, versions 1 to 5: what each partition takes of the local disk, and how
// much room that has. The bucket is no log directory: tools add up what they are told.
// Null asks for all partitions. What is not here is left out, as in Kafka.
func (h *Handler) describeLogDirs(req *kmsg.DescribeLogDirsRequest) kmsg.Response {
	dir := h.cfg.Replicas.Dir()
	out := kmsg.NewDescribeLogDirsResponseDir()
	out.Dir, out.TotalBytes, out.UsableBytes = dir.Path(), unknownBytes, unknownBytes
	space, err := dir.Space()
	if err != nil {
		h.cfg.Logger.Error("cannot tell the room of the disk", "directory", dir.Path(), "error", err)
		out.ErrorCode = kerr.KafkaStorageError.Code
	} else {
		out.TotalBytes, out.UsableBytes = space.Total, space.Free
	}
	for _, l := range h.wantedLogs(req) {
		if n := len(out.Topics); n == 0 || out.Topics[n-1].Topic != l.Topic() {
			t := kmsg.NewDescribeLogDirsResponseDirTopic()
			t.Topic = l.Topic()
			out.Topics = append(out.Topics, t)
		}
		p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		p.Partition, p.Size = l.Key().Partition, l.Log().Size()
		p.OffsetLag = max(0, int64(l.HighWatermark()-l.Log().LEO()))
		t := &out.Topics[len(out.Topics)-1]
		t.Partitions = append(t.Partitions, p)
	}
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	resp.Dirs = append(resp.Dirs, out)
	return resp
}

// wantedLogs are the partitions asked for that have a log here, each once, by topic and number.
func (h *Handler) wantedLogs(req *kmsg.DescribeLogDirsRequest) []*replica.Leader {
	var out []*replica.Leader
	if req.Topics == nil {
		out = slices.Collect(h.cfg.Replicas.All())
	}
	img := h.cfg.Admin.Image()
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			if l, err := h.leader(img, t.Topic, p); err == nil {
				out = append(out, l)
			}
		}
	}
	slices.SortFunc(out, func(a, b *replica.Leader) int {
		return cmp.Or(cmp.Compare(a.Topic(), b.Topic()), cmp.Compare(a.Key().Partition, b.Key().Partition))
	})
	return slices.Compact(out)
}
