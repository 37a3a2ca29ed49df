package api

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// alterTimeout bounds a request that carries no timeout of its own.
const alterTimeout = 30 * time.Second

// IncrementalAlterConfigs, versions 0 and 1 (KIP-339), of topics and brokers:
// the changes of one resource are made all or none.
func (h *Handler) incrementalAlterConfigs(ctx context.Context, req *kmsg.IncrementalAlterConfigsRequest) kmsg.Response {
	ctx, cancel := context.WithTimeout(ctx, alterTimeout)
	defer cancel()
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	times := map[metadata.Resource]int{}
	for _, r := range req.Resources {
		times[metadata.Resource{Type: metadata.ResourceType(r.ResourceType), Name: r.ResourceName}]++
	}
	for _, r := range req.Resources {
		changes := make([]admin.ConfigChange, len(r.Configs))
		for i, c := range r.Configs {
			changes[i] = admin.ConfigChange{Name: c.Name, Op: admin.ConfigOp(c.Op), Value: c.Value}
		}
		resource := metadata.Resource{Type: metadata.ResourceType(r.ResourceType), Name: r.ResourceName}
		err := protocol.Errorf(kerr.InvalidRequest, "Each resource must appear at most once.")
		if times[resource] == 1 {
			err = h.cfg.Admin.AlterConfigs(ctx, resource, changes, req.ValidateOnly)
		}
		out := kmsg.NewIncrementalAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		out.ErrorCode, out.ErrorMessage = protocol.CodeOf(err), protocol.MessageOf(err)
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}
