package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/protocol"
)

// UpdateFeatures, versions 0 to 2 (KIP-584, KIP-778): the features of the cluster, all
// updates or none. The one feature is strata.version.
func (h *Handler) updateFeatures(ctx context.Context, req *kmsg.UpdateFeaturesRequest) kmsg.Response {
	ctx, cancel := within(ctx, req.TimeoutMillis)
	defer cancel()
	updates := make([]admin.FeatureUpdate, len(req.FeatureUpdates))
	for i, f := range req.FeatureUpdates {
		updates[i] = admin.FeatureUpdate{Feature: f.Feature, Level: f.MaxVersionLevel, Kind: admin.UpdateKind(f.UpgradeType)}
		if req.Version == 0 {
			updates[i].Kind = admin.Upgrade
			if f.AllowDowngrade {
				updates[i].Kind = admin.SafeDowngrade
			}
		}
	}
	err := h.cfg.Admin.UpdateFeatures(ctx, updates, req.ValidateOnly)
	resp := kmsg.NewPtrUpdateFeaturesResponse()
	resp.ErrorCode, resp.ErrorMessage = protocol.CodeOf(err), protocol.MessageOf(err)
	if err != nil && resp.ErrorCode == kerr.InvalidUpdateVersion.Code {
		text := "The update failed for all features since the following feature had an error: " + *resp.ErrorMessage
		resp.ErrorMessage = &text
	}
	if err == nil && req.Version < 2 {
		for _, f := range updates {
			result := kmsg.NewUpdateFeaturesResponseResult()
			result.Feature = f.Feature
			resp.Results = append(resp.Results, result)
		}
	}
	return resp
}
