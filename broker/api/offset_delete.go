package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/coordinator"
	"github.com/stratabroker/strata/broker/server"
)

// OffsetDelete, version 0 (KIP-496): what a group committed for topics that it does not
// subscribe to; durable when answered.
func (h *Handler) offsetDelete(r *server.Request, c coordinator.Client, req *kmsg.OffsetDeleteRequest) {
	h.cfg.Groups.OffsetDelete(c, req, func(resp *kmsg.OffsetDeleteResponse) { reply(r, resp) })
}
