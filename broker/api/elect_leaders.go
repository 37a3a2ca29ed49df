package api

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// ElectLeaders, versions 0 to 2 (KIP-460): preferred and unclean elections.
// Null asks for all partitions; then those that need none are left out.
func (h *Handler) electLeaders(req *kmsg.ElectLeadersRequest) kmsg.Response {
	resp := kmsg.NewPtrElectLeadersResponse()
	kind := admin.Election(req.ElectionType)
	unknown := kind != admin.PreferredElection && kind != admin.UncleanElection
	if unknown {
		resp.ErrorCode = kerr.InvalidRequest.Code
	}
	topics, all := req.Topics, req.Topics == nil
	if all {
		topics = everyPartition(h.cfg.Admin.Image())
	}
	for _, t := range topics {
		out := kmsg.NewElectLeadersResponseTopic()
		out.Topic = t.Topic
		for _, number := range t.Partitions {
			err := protocol.Errorf(kerr.InvalidRequest, "%s", fmt.Sprintf("Unknown election type %d", kind))
			if !unknown {
				err = h.cfg.Admin.ElectLeader(t.Topic, number, kind)
			}
			if all && errors.Is(err, kerr.ElectionNotNeeded) {
				continue
			}
			p := kmsg.NewElectLeadersResponseTopicPartition()
			p.Partition, p.ErrorCode, p.ErrorMessage = number, protocol.CodeOf(err), protocol.MessageOf(err)
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func everyPartition(img *metadata.Image) (out []kmsg.ElectLeadersRequestTopic) {
	for topic := range img.Topics() {
		t := kmsg.NewElectLeadersRequestTopic()
		t.Topic = topic.Name
		for n := range topic.Partitions {
			t.Partitions = append(t.Partitions, n)
		}
		out = append(out, t)
	}
	return out
}
