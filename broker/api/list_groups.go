package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/coordinator"
	"github.com/stratabroker/strata/broker/server"
)

// ListGroups, versions 0 to 5: the groups that this broker coordinates, those too that only
// store offsets; by state (4, KIP-518) and type (5, KIP-848).
func (h *Handler) listGroups(r *server.Request, c coordinator.Client, req *kmsg.ListGroupsRequest) {
	h.cfg.Groups.ListGroups(c, req, func(resp *kmsg.ListGroupsResponse) { reply(r, resp) })
}
