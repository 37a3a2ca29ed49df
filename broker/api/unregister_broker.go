package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

// UnregisterBroker, version 0: refused, with the reason.
func (h *Handler) unregisterBroker(req *kmsg.UnregisterBrokerRequest) kmsg.Response {
	resp := kmsg.NewPtrUnregisterBrokerResponse()
	err := h.cfg.Admin.UnregisterBroker(protocol.BrokerID(req.BrokerID))
	resp.ErrorCode, resp.ErrorMessage = protocol.CodeOf(err), protocol.MessageOf(err)
	return resp
}
