package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// AlterConfigs, versions 0 to 2, of topics and brokers: what is given replaces
// all that the resource sets; what is not given goes back to its default. Loggers
// are changed by IncrementalAlterConfigs only, as Kafka's.
func (h *Handler) alterConfigs(ctx context.Context, req *kmsg.AlterConfigsRequest) kmsg.Response {
	ctx, cancel := context.WithTimeout(ctx, alterTimeout)
	defer cancel()
	resp := kmsg.NewPtrAlterConfigsResponse()
	times := map[metadata.Resource]int{}
	for _, r := range req.Resources {
		times[resourceOf(r.ResourceType, r.ResourceName)]++
	}
	for _, r := range req.Resources {
		whole := make([]admin.ConfigChange, len(r.Configs))
		for i, c := range r.Configs {
			whole[i] = admin.ConfigChange{Name: c.Name, Op: admin.OpSet, Value: c.Value}
		}
		resource := resourceOf(r.ResourceType, r.ResourceName)
		err := errTwice()
		if times[resource] == 1 {
			err = h.cfg.Admin.ReplaceConfigs(ctx, resource, whole, req.ValidateOnly)
		}
		out := kmsg.NewAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		out.ErrorCode, out.ErrorMessage = protocol.CodeOf(err), protocol.MessageOf(err)
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}
