package api

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/broker/server"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// createWait bounds how long a Metadata request waits for topics to be created.
const createWait = 5 * time.Second

// noOperations stands for "not asked for" in the authorized operations of an answer.
const noOperations = -1 << 31

// What an unrestricted principal may do, as the bit sets of KIP-430: bits are
// the numbers of Kafka's AclOperation.
const (
	topicOperations   = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	clusterOperations = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
)

// Metadata, versions 0 to 13: brokers as reached by the listener that the
// client came by, and topics by name or id.
func (h *Handler) metadata(r *server.Request, req *kmsg.MetadataRequest) *kmsg.MetadataResponse {
	img := h.cfg.Admin.Image()
	resp := kmsg.NewPtrMetadataResponse()
	resp.ClusterID = optional(img.ClusterID())
	resp.ControllerID = int32(h.cfg.Self)
	resp.AuthorizedOperations = noOperations
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = clusterOperations
	}
	for b := range img.Brokers() {
		host, port, ok := endpoint(b, r.Conn.Listener)
		if b.Fenced || !ok {
			continue
		}
		mb := kmsg.NewMetadataResponseBroker()
		mb.NodeID, mb.Host, mb.Port, mb.Rack = int32(b.ID), host, port, optional(b.Rack)
		resp.Brokers = append(resp.Brokers, mb)
	}
	// Null means all; in version 0, which has no null, an empty list does.
	if req.Topics == nil || req.Version == 0 && len(req.Topics) == 0 {
		for t := range img.Topics() {
			resp.Topics = append(resp.Topics, h.describe(img, t))
		}
	}
	for _, t := range distinct(req.Topics) {
		resp.Topics = append(resp.Topics, h.lookup(img, t))
	}
	for i := range resp.Topics {
		resp.Topics[i].AuthorizedOperations = noOperations
		if req.IncludeTopicAuthorizedOperations && resp.Topics[i].ErrorCode == 0 {
			resp.Topics[i].AuthorizedOperations = topicOperations
		}
	}
	return resp
}

// distinct leaves out what was asked for before, by id or, without one, by name: each topic is told once.
func distinct(topics []kmsg.MetadataRequestTopic) []kmsg.MetadataRequestTopic {
	type asked struct {
		id   [16]byte
		name string
	}
	seen := map[asked]bool{}
	return slices.DeleteFunc(slices.Clone(topics), func(t kmsg.MetadataRequestTopic) bool {
		what := asked{id: t.TopicID}
		if t.Topic != nil && protocol.TopicID(t.TopicID).IsZero() {
			what.name = *t.Topic
		}
		before := seen[what]
		seen[what] = true
		return before
	})
}

func (h *Handler) lookup(img *metadata.Image, want kmsg.MetadataRequestTopic) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID = want.Topic, want.TopicID
	if id := protocol.TopicID(want.TopicID); !id.IsZero() {
		if t, ok := img.TopicByID(id); ok {
			return h.describe(img, t)
		}
		out.ErrorCode = kerr.UnknownTopicID.Code
		return out
	}
	if want.Topic == nil || metadata.CheckTopicName(*want.Topic) != nil {
		out.ErrorCode = kerr.InvalidTopicException.Code
		return out
	}
	if t, ok := img.Topic(*want.Topic); ok {
		return h.describe(img, t)
	}
	out.ErrorCode, out.IsInternal = kerr.UnknownTopicOrPartition.Code, admin.Internal(*want.Topic)
	return out
}

// toCreate lists the topics that a request asks for, that do not exist, and
// that both the client and auto.create.topics.enable allow to be created.
func (h *Handler) toCreate(req *kmsg.MetadataRequest) []string {
	if req.Version >= 4 && !req.AllowAutoTopicCreation || !h.cfg.Admin.Static().Bool("auto.create.topics.enable") {
		return nil
	}
	var out []string
	img := h.cfg.Admin.Image()
	for _, t := range req.Topics {
		if t.Topic == nil || t.TopicID != [16]byte{} || metadata.CheckTopicName(*t.Topic) != nil {
			continue
		}
		if _, ok := img.Topic(*t.Topic); !ok {
			out = append(out, *t.Topic)
		}
	}
	return out
}

// createMissing creates topics and then answers. Kafka answers first and lets
// the client ask again; creating takes milliseconds here, so the first answer
// can be the right one. A topic that could not be created is told as
// LEADER_NOT_AVAILABLE, which clients retry.
func (h *Handler) createMissing(ctx context.Context, r *server.Request, req *kmsg.MetadataRequest, topics []string) kmsg.Response {
	ctx, cancel := context.WithTimeout(ctx, createWait)
	defer cancel()
	failed := map[string]int16{}
	for _, name := range topics {
		switch err := h.cfg.Admin.Ensure(ctx, name); {
		case err == nil:
		case errors.Is(err, kerr.InvalidTopicException), errors.Is(err, kerr.InvalidReplicationFactor):
			failed[name] = protocol.CodeOf(err)
		default:
			failed[name] = kerr.LeaderNotAvailable.Code
		}
	}
	resp := h.metadata(r, req)
	for i := range resp.Topics {
		if t := &resp.Topics[i]; t.Topic != nil && failed[*t.Topic] != 0 && t.ErrorCode == kerr.UnknownTopicOrPartition.Code {
			t.ErrorCode = failed[*t.Topic]
		}
	}
	return resp
}

func (h *Handler) describe(img *metadata.Image, t metadata.Topic) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID, out.IsInternal = &t.Name, t.ID, admin.Internal(t.Name)
	for row := range img.Partitions(t.ID) {
		p := kmsg.NewMetadataResponseTopicPartition()
		p.Partition, p.Leader, p.LeaderEpoch = row.Key.Partition, int32(row.Leader), int32(row.LeaderEpoch)
		for _, id := range row.Replicas {
			p.Replicas = append(p.Replicas, int32(id))
			if b, ok := img.Broker(id); !ok || b.Fenced {
				p.OfflineReplicas = append(p.OfflineReplicas, int32(id))
			}
		}
		for _, id := range row.ISR {
			p.ISR = append(p.ISR, int32(id))
		}
		if b, ok := img.Broker(row.Leader); !ok || b.Fenced || h.cfg.Replicas.IsOffline(row.Key) {
			p.Leader, p.ErrorCode = int32(protocol.NoBroker), kerr.LeaderNotAvailable.Code
		}
		out.Partitions = append(out.Partitions, p)
	}
	return out
}
