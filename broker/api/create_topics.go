package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// CreateTopics, versions 2 to 7. Topics are created one by one; each has its
// own answer. Version 5 and later tell the settings that the topic got (KIP-525).
func (h *Handler) createTopics(ctx context.Context, req *kmsg.CreateTopicsRequest) kmsg.Response {
	ctx, cancel := within(ctx, req.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrCreateTopicsResponse()
	count := map[string]int{}
	for _, t := range req.Topics {
		count[t.Topic]++
	}
	for _, t := range req.Topics {
		if count[t.Topic] == 0 {
			continue // answered already
		}
		out := kmsg.NewCreateTopicsResponseTopic()
		out.Topic, out.NumPartitions, out.ReplicationFactor = t.Topic, -1, -1
		topic, factor, err := metadata.Topic{}, int16(-1), protocol.Errorf(kerr.InvalidRequest, "Found multiple entries for this topic.")
		if count[t.Topic] == 1 {
			topic, factor, err = h.createTopic(ctx, t, req.ValidateOnly)
		}
		count[t.Topic] = 0
		if err != nil {
			out.ErrorCode, out.ErrorMessage = protocol.CodeOf(err), protocol.MessageOf(err)
		} else {
			out.TopicID, out.NumPartitions, out.ReplicationFactor = topic.ID, topic.Partitions, factor
			out.Configs = h.createdConfigs(t)
			if req.ValidateOnly {
				out.TopicID = protocol.TopicID{}
			}
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func (h *Handler) createTopic(ctx context.Context, t kmsg.CreateTopicsRequestTopic, validateOnly bool) (metadata.Topic, int16, error) {
	want := admin.NewTopic{Name: t.Topic, Partitions: t.NumPartitions, Replication: t.ReplicationFactor, Configs: map[string]string{}}
	if len(t.ReplicaAssignment) > 0 {
		want.Assignment = map[int32][]protocol.BrokerID{}
		for _, a := range t.ReplicaAssignment {
			if want.Assignment[a.Partition] != nil {
				return metadata.Topic{}, -1, protocol.Errorf(kerr.InvalidReplicaAssignment, "partition %d is assigned twice", a.Partition)
			}
			want.Assignment[a.Partition] = brokerIDs(a.Replicas)
		}
	}
	for _, c := range t.Configs {
		if c.Value == nil {
			return metadata.Topic{}, -1, protocol.Errorf(kerr.InvalidConfig, "Null value not supported for topic configs: %s", c.Name)
		}
		want.Configs[c.Name] = *c.Value
	}
	return h.cfg.Admin.CreateTopic(ctx, want, validateOnly)
}

func brokerIDs(ids []int32) []protocol.BrokerID {
	out := make([]protocol.BrokerID, len(ids))
	for i, id := range ids {
		out[i] = protocol.BrokerID(id)
	}
	return out
}

func (h *Handler) createdConfigs(t kmsg.CreateTopicsRequestTopic) []kmsg.CreateTopicsResponseTopicConfig {
	overrides := map[string]string{}
	for _, c := range t.Configs {
		overrides[c.Name] = *c.Value
	}
	var out []kmsg.CreateTopicsResponseTopicConfig
	img := h.cfg.Admin.Image()
	for _, s := range metadata.TopicSettings() {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		v := h.cfg.Admin.Static().TopicValue(img, "", &s)
		if set, ok := overrides[s.Name]; ok {
			v.Value, v.Source = s.Canonical(set), metadata.SourceTopic
		}
		c.Name, c.Value, c.Source = s.Name, &v.Value, int8(v.Source)
		out = append(out, c)
	}
	return out
}
