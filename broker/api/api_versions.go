package api

import (
	"regexp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// softwareName is what a client may call itself and its version (KIP-511).
var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

// ApiVersions, versions 0 to 5: what this broker serves. The one feature is
// strata.version; none of Kafka's is finalised, so clients use neither transactions of version 2 nor the
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
	h.features(resp)
	return resp
}

// features tells the levels of strata.version that this binary applies, and the finalised one.
func (h *Handler) features(resp *kmsg.ApiVersionsResponse) {
	img := h.cfg.Admin.Image()
	resp.FinalizedFeaturesEpoch = int64(img.Index())
	supported := kmsg.NewApiVersionsResponseSupportedFeature()
	supported.Name, supported.MinVersion, supported.MaxVersion = metadata.VersionFeature, int16(metadata.MinVersion), int16(metadata.MaxVersion)
	resp.SupportedFeatures = append(resp.SupportedFeatures, supported)
	if level := int16(img.Version()); level > 0 {
		finalised := kmsg.NewApiVersionsResponseFinalizedFeature()
		finalised.Name, finalised.MinVersionLevel, finalised.MaxVersionLevel = metadata.VersionFeature, level, level
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, finalised)
	}
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
