package api

import (
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/metadata"
)

// ListConfigResources, versions 0 and 1 (KIP-714, KIP-1142): what has settings, by
// type, all types where none is named. Version 0 asks for client metrics only, of which there are none.
func (h *Handler) listConfigResources(req *kmsg.ListConfigResourcesRequest) kmsg.Response {
	resp := kmsg.NewPtrListConfigResourcesResponse()
	known := []metadata.ResourceType{
		metadata.TopicResource, metadata.BrokerResource, metadata.LoggerResource, metadata.ClientMetricsResource, metadata.GroupResource,
	}
	types := []metadata.ResourceType{metadata.ClientMetricsResource}
	if req.Version >= 1 {
		types = nil
		for _, t := range req.ResourceTypes {
			if !slices.Contains(known, metadata.ResourceType(t)) {
				resp.ErrorCode = kerr.UnsupportedVersion.Code
				return resp
			}
			if !slices.Contains(types, metadata.ResourceType(t)) {
				types = append(types, metadata.ResourceType(t))
			}
		}
		if len(types) == 0 {
			types = known
		}
	}
	for _, t := range types {
		for name := range h.configResources(t) {
			r := kmsg.NewListConfigResourcesResponseConfigResource()
			r.Name, r.Type = name, int8(t)
			resp.ConfigResources = append(resp.ConfigResources, r)
		}
	}
	return resp
}

// configResources yields the names of what has settings of a type.
func (h *Handler) configResources(t metadata.ResourceType) func(yield func(string) bool) {
	img := h.cfg.Admin.Image()
	return func(yield func(string) bool) {
		switch t {
		case metadata.TopicResource:
			for topic := range img.Topics() {
				if !yield(topic.Name) {
					return
				}
			}
		case metadata.BrokerResource, metadata.LoggerResource:
			for b := range img.Brokers() {
				if !yield(strconv.Itoa(int(b.ID))) {
					return
				}
			}
		default: // neither groups nor client metrics have settings here
		}
	}
}
