package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/coordinator"
	"github.com/stratabroker/strata/broker/server"
)

// DeleteGroups, versions 0 to 3: groups without members go, with what they committed;
// durable when answered.
func (h *Handler) deleteGroups(r *server.Request, c coordinator.Client, req *kmsg.DeleteGroupsRequest) {
	h.cfg.Groups.DeleteGroups(c, req, func(resp *kmsg.DeleteGroupsResponse) { reply(r, resp) })
}
