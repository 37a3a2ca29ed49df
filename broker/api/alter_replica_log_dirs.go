package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

// AlterReplicaLogDirs, versions 1 and 2 (KIP-113): there is one log directory, so
// that a partition is where it is to go, or there is no such place.
func (h *Handler) alterReplicaLogDirs(req *kmsg.AlterReplicaLogDirsRequest) kmsg.Response {
	resp, img := kmsg.NewPtrAlterReplicaLogDirsResponse(), h.cfg.Admin.Image()
	here := h.cfg.Replicas.Dir().Path()
	for _, dir := range req.Dirs {
		for _, t := range dir.Topics {
			out := kmsg.NewAlterReplicaLogDirsResponseTopic()
			out.Topic = t.Topic
			for _, number := range t.Partitions {
				_, err := h.leader(img, t.Topic, number)
				if dir.Dir != here {
					err = protocol.Errorf(kerr.LogDirNotFound, "no log directory %s", dir.Dir)
				}
				p := kmsg.NewAlterReplicaLogDirsResponseTopicPartition()
				p.Partition, p.ErrorCode = number, protocol.CodeOf(err)
				out.Partitions = append(out.Partitions, p)
			}
			resp.Topics = append(resp.Topics, out)
		}
	}
	return resp
}
