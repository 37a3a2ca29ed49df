package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

// errNoTransactions refuses a transactional producer with a code that every
// client takes as final: others would be retried for ever.
func errNoTransactions() error {
	return protocol.Errorf(kerr.TransactionalIDAuthorizationFailed, "Transactions are not served by this broker; use an idempotent producer without transactional.id.")
}

// InitProducerId, versions 0 to 5: an idempotent producer gets an id of its own
// with epoch 0, also one that asks to go on with the id it has (KIP-360): as in
// Kafka, only a transactional id keeps its producer id.
func (h *Handler) initProducerID(ctx context.Context, req *kmsg.InitProducerIDRequest) kmsg.Response {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch = int64(protocol.NoProducerID), int16(protocol.NoProducerEpoch)
	if req.TransactionalID != nil {
		err := errNoTransactions()
		if *req.TransactionalID == "" {
			err = protocol.Errorf(kerr.InvalidRequest, "the transactional id is empty")
		}
		resp.ErrorCode = protocol.CodeOf(err)
		return resp
	}
	ctx, cancel := context.WithTimeout(ctx, alterTimeout)
	defer cancel()
	id, err := h.cfg.Admin.AllocateProducerID(ctx)
	if err != nil {
		// COORDINATOR_LOAD_IN_PROGRESS is what clients retry here.
		resp.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		return resp
	}
	resp.ProducerID, resp.ProducerEpoch = int64(id), 0
	return resp
}
