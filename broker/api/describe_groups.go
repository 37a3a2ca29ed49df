package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/coordinator"
	"github.com/stratabroker/strata/broker/server"
)

// groupOperations is what an unrestricted principal may do with a group (KIP-430).
const groupOperations = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11

// DescribeGroups, versions 0 to 6: state and members of classic groups. From version 6 on
// a group that is not there is an error, before it is told as dead.
func (h *Handler) describeGroups(r *server.Request, c coordinator.Client, req *kmsg.DescribeGroupsRequest) {
	h.cfg.Groups.DescribeGroups(c, req, func(resp *kmsg.DescribeGroupsResponse) {
		for i := range resp.Groups {
			if g := &resp.Groups[i]; req.IncludeAuthorizedOperations && g.ErrorCode == 0 {
				g.AuthorizedOperations = groupOperations
			}
		}
		reply(r, resp)
	})
}
