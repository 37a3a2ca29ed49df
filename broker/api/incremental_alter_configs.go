package api

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/broker/loggers"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// alterTimeout bounds a request that carries no timeout of its own.
const alterTimeout = 30 * time.Second

// IncrementalAlterConfigs, versions 0 and 1 (KIP-339), of topics, brokers and
// their loggers: the changes of one resource are made all or none.
func (h *Handler) incrementalAlterConfigs(ctx context.Context, req *kmsg.IncrementalAlterConfigsRequest) kmsg.Response {
	ctx, cancel := context.WithTimeout(ctx, alterTimeout)
	defer cancel()
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	times := map[metadata.Resource]int{}
	for _, r := range req.Resources {
		times[resourceOf(r.ResourceType, r.ResourceName)]++
	}
	for _, r := range req.Resources {
		changes := make([]admin.ConfigChange, len(r.Configs))
		for i, c := range r.Configs {
			changes[i] = admin.ConfigChange{Name: c.Name, Op: admin.ConfigOp(c.Op), Value: c.Value}
		}
		resource := resourceOf(r.ResourceType, r.ResourceName)
		var err error
		switch {
		case times[resource] > 1:
			err = errTwice()
		case resource.Type == metadata.LoggerResource:
			err = h.alterLoggers(resource.Name, changes, req.ValidateOnly)
		default:
			err = h.cfg.Admin.AlterConfigs(ctx, resource, changes, req.ValidateOnly)
		}
		out := kmsg.NewIncrementalAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		out.ErrorCode, out.ErrorMessage = protocol.CodeOf(err), protocol.MessageOf(err)
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}

func resourceOf(kind kmsg.ConfigResourceType, name string) metadata.Resource {
	return metadata.Resource{Type: metadata.ResourceType(kind), Name: name}
}

func errTwice() error {
	return protocol.Errorf(kerr.InvalidRequest, "Each resource must appear at most once.")
}

// alterLoggers changes log levels of this broker (KIP-412); they last as long as the process.
func (h *Handler) alterLoggers(broker string, changes []admin.ConfigChange, validateOnly bool) error {
	if err := admin.CheckChanges(changes); err != nil {
		return err
	}
	id, err := strconv.ParseInt(broker, 10, 32)
	if err != nil {
		return protocol.Errorf(kerr.InvalidRequest, "Node id must be an integer, but it is: %s", broker)
	}
	if protocol.BrokerID(id) != h.cfg.Self {
		return protocol.Errorf(kerr.InvalidRequest, "Unexpected node id. Expected %d, but received %d", h.cfg.Self, id)
	}
	levels := make([]loggers.Change, len(changes))
	for i, c := range changes {
		levels[i].Name = c.Name
		switch c.Op {
		case admin.OpSet:
			levels[i].Level = *c.Value
		case admin.OpDelete:
			levels[i].Remove = true
		default:
			return protocol.Errorf(kerr.InvalidRequest, "%s operation is not allowed for the BROKER_LOGGER resource", c.Op)
		}
	}
	if err := h.cfg.Loggers.Check(levels); err != nil {
		code := kerr.InvalidConfig
		if errors.Is(err, loggers.ErrRoot) {
			code = kerr.InvalidRequest
		}
		return protocol.Errorf(code, "%v", err)
	}
	if !validateOnly {
		h.cfg.Loggers.Apply(levels)
	}
	return nil
}
