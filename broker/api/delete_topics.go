package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// DeleteTopics, versions 1 to 6: by name, from version 6 on also by id. A
// topic is gone for clients on reply; its files and objects follow.
func (h *Handler) deleteTopics(ctx context.Context, req *kmsg.DeleteTopicsRequest) kmsg.Response {
	ctx, cancel := within(ctx, req.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrDeleteTopicsResponse()
	wanted := req.Topics
	for _, name := range req.TopicNames {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = &name
		wanted = append(wanted, t)
	}
	times := map[string]int{}
	for _, w := range wanted {
		if w.Topic != nil {
			times[*w.Topic]++
		}
	}
	for _, w := range wanted {
		out := kmsg.NewDeleteTopicsResponseTopic()
		if w.Topic != nil && times[*w.Topic] != 1 {
			if times[*w.Topic] > 1 { // told once, as Kafka does
				out.Topic, out.ErrorCode, out.ErrorMessage = w.Topic, kerr.InvalidRequest.Code, kmsg.StringPtr("Duplicate topic name.")
				resp.Topics = append(resp.Topics, out)
				times[*w.Topic] = 0
			}
			continue
		}
		out.Topic, out.TopicID = w.Topic, w.TopicID
		t, err := h.deletable(w)
		if err == nil {
			out.Topic, out.TopicID = &t.Name, t.ID
			err = h.cfg.Admin.DeleteTopic(ctx, t.ID)
		}
		out.ErrorCode, out.ErrorMessage = protocol.CodeOf(err), protocol.MessageOf(err)
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func (h *Handler) deletable(w kmsg.DeleteTopicsRequestTopic) (metadata.Topic, error) {
	img, id := h.cfg.Admin.Image(), protocol.TopicID(w.TopicID)
	switch {
	case w.Topic != nil && !id.IsZero():
		return metadata.Topic{}, protocol.Errorf(kerr.InvalidRequest, "You may not specify both topic name and topic id.")
	case w.Topic == nil && id.IsZero():
		return metadata.Topic{}, protocol.Errorf(kerr.InvalidRequest, "Neither topic name nor id were specified.")
	case w.Topic == nil:
		return findTopic(img, "", id)
	}
	return findTopic(img, *w.Topic, id)
}
