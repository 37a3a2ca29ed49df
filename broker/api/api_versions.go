package api

import (
	"regexp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

// softwareName is what a client may call itself and its version (KIP-511).
var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

// ApiVersions, versions 0 to 5: what this broker serves. No feature of Kafka is
// finalised; clients then use neither transactions of version 2 nor the
// consumer protocol. An unknown version is answered by the server itself.
func (h *Handler) apiVersions(req *kmsg.ApiVersionsRequest) kmsg.Response {
	resp := kmsg.NewPtrApiVersionsResponse()
	if req.Version >= 3 && (!softwareName.MatchString(req.ClientSoftwareName) || !softwareName.MatchString(req.ClientSoftwareVersion)) {
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp
	}
	if code := h.rebootstrap(req); code != 0 {
		resp.ErrorCode = code
		return resp
	}
	for api := range protocol.APIs() {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = api.Key, api.Advertised, api.Max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	resp.FinalizedFeaturesEpoch = int64(h.cfg.Admin.Image().Index())
	return resp
}

// rebootstrap tells a client that it meant another cluster or broker (version 5, KIP-1242).
func (h *Handler) rebootstrap(req *kmsg.ApiVersionsRequest) int16 {
	if req.Version < 5 {
		return 0
	}
	if req.ClusterID != nil && *req.ClusterID != h.cfg.Admin.Image().ClusterID() ||
		req.NodeID >= 0 && protocol.BrokerID(req.NodeID) != h.cfg.Self {
		return kerr.RebootstrapRequired.Code
	}
	return 0
}
