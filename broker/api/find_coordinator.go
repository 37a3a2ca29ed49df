package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/broker/server"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// Key types of FindCoordinator.
const (
	groupKey       = 0
	transactionKey = 1
)

// FindCoordinator, versions 0 to 6, several keys from version 4 on: who leads
// the partition of __consumer_offsets that a group's name falls into.
func (h *Handler) findCoordinator(r *server.Request, req *kmsg.FindCoordinatorRequest) kmsg.Response {
	resp := kmsg.NewPtrFindCoordinatorResponse()
	keys := req.CoordinatorKeys
	if req.Version < 4 {
		keys = []string{req.CoordinatorKey}
	}
	img := h.cfg.Admin.Image()
	for _, key := range keys {
		out := kmsg.NewFindCoordinatorResponseCoordinator()
		out.Key, out.NodeID, out.Port = key, int32(protocol.NoBroker), -1
		b, err := h.coordinatorOf(img, req.CoordinatorType, key)
		if err == nil {
			var ok bool
			if out.Host, out.Port, ok = endpoint(b, r.Conn.Listener); ok {
				out.NodeID = int32(b.ID)
			} else {
				err = protocol.Errorf(kerr.CoordinatorNotAvailable, "the coordinator has no listener %s", r.Conn.Listener)
			}
		}
		out.ErrorCode, out.ErrorMessage = protocol.CodeOf(err), protocol.MessageOf(err)
		if err == nil {
			out.ErrorMessage = kmsg.StringPtr(successMessage(req.Version))
		}
		resp.Coordinators = append(resp.Coordinators, out)
	}
	if req.Version < 4 {
		only := resp.Coordinators[0]
		resp.NodeID, resp.Host, resp.Port = only.NodeID, only.Host, only.Port
		resp.ErrorCode, resp.ErrorMessage, resp.Coordinators = only.ErrorCode, only.ErrorMessage, nil
	}
	return resp
}

// successMessage is what Kafka has in the place of an error's message where there is none.
func successMessage(version int16) string {
	if version < 4 {
		return "NONE"
	}
	return ""
}

// needsOffsetsTopic tells whether the topic that groups live in must be made first.
func (h *Handler) needsOffsetsTopic(req *kmsg.FindCoordinatorRequest) bool {
	_, ok := h.cfg.Admin.Image().Topic(admin.OffsetsTopic)
	return !ok && req.CoordinatorType == groupKey
}

// createAndFind makes that topic at the first use of a group, so that the first
// answer can be the right one; when it cannot, the client is told to ask again.
func (h *Handler) createAndFind(ctx context.Context, r *server.Request, req *kmsg.FindCoordinatorRequest) kmsg.Response {
	ctx, cancel := context.WithTimeout(ctx, createWait)
	defer cancel()
	if err := h.cfg.Admin.Ensure(ctx, admin.OffsetsTopic); err != nil {
		h.cfg.Logger.Warn("cannot create the offsets topic", "topic", admin.OffsetsTopic, "error", err)
	}
	return h.findCoordinator(r, req)
}

func (h *Handler) coordinatorOf(img *metadata.Image, kind int8, key string) (metadata.Broker, error) {
	switch kind {
	case groupKey:
	case transactionKey:
		return metadata.Broker{}, errNoTransactions()
	default:
		return metadata.Broker{}, protocol.Errorf(kerr.InvalidRequest, "coordinator type %d is not served", kind)
	}
	partition := h.cfg.Groups.FindPartition(key)
	topic, ok := img.Topic(admin.OffsetsTopic)
	if partition < 0 || !ok {
		return metadata.Broker{}, protocol.Errorf(kerr.CoordinatorNotAvailable, "%s is being created", admin.OffsetsTopic)
	}
	row, _ := img.Partition(protocol.PartitionKey{Topic: topic.ID, Partition: partition})
	b, ok := img.Broker(row.Leader)
	if !ok || b.Fenced {
		return metadata.Broker{}, protocol.Errorf(kerr.CoordinatorNotAvailable, "partition %d of %s has no leader", partition, admin.OffsetsTopic)
	}
	return b, nil
}
