package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/server"
)

// DescribeCluster, versions 0 to 2. Only the endpoints of brokers (type 1) are
// known here; the controllers' (KIP-919) are asked on the controller listener.
func (h *Handler) describeCluster(r *server.Request, req *kmsg.DescribeClusterRequest) kmsg.Response {
	const brokerEndpoints, controllerEndpoints = 1, 2
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.ControllerID, resp.EndpointType = int32(h.cfg.Self), brokerEndpoints
	resp.ClusterAuthorizedOperations = noOperations
	if req.Version >= 1 && req.EndpointType != brokerEndpoints {
		message := "This listener knows the endpoints of brokers only."
		resp.ErrorCode, resp.ErrorMessage = kerr.MismatchedEndpointType.Code, &message
		if req.EndpointType != controllerEndpoints {
			resp.ErrorCode = kerr.UnsupportedEndpointType.Code
		}
		return resp
	}
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = clusterOperations
	}
	img := h.cfg.Admin.Image()
	resp.ClusterID = img.ClusterID()
	for b := range img.Brokers() {
		host, port, ok := endpoint(b, r.Conn.Listener)
		if !ok || b.Fenced && !req.IncludeFencedBrokers {
			continue
		}
		db := kmsg.NewDescribeClusterResponseBroker()
		db.NodeID, db.Host, db.Port, db.Rack, db.IsFenced = int32(b.ID), host, port, optional(b.Rack), b.Fenced
		resp.Brokers = append(resp.Brokers, db)
	}
	return resp
}
