package api

import (
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/coordinator"
	"github.com/stratabroker/strata/broker/server"
)

// handleGroup serves JoinGroup (0 to 9), SyncGroup (0 to 5), Heartbeat (0 to 4),
// LeaveGroup (0 to 5), OffsetCommit (2 to 10) and OffsetFetch (1 to 10), and
// those who look after groups: all that they mean is the coordinator's.
func (h *Handler) handleGroup(r *server.Request, req kmsg.Request) {
	client := coordinator.Client{ID: r.Header.ClientID, Host: clientHost(r.Conn.Remote)}
	switch req := req.(type) {
	case *kmsg.JoinGroupRequest:
		h.cfg.Groups.Join(client, req, func(resp *kmsg.JoinGroupResponse) { reply(r, resp) })
	case *kmsg.SyncGroupRequest:
		h.cfg.Groups.Sync(client, req, func(resp *kmsg.SyncGroupResponse) { reply(r, resp) })
	case *kmsg.HeartbeatRequest:
		h.cfg.Groups.Heartbeat(client, req, func(resp *kmsg.HeartbeatResponse) { reply(r, resp) })
	case *kmsg.LeaveGroupRequest:
		h.cfg.Groups.Leave(client, req, func(resp *kmsg.LeaveGroupResponse) { reply(r, resp) })
	case *kmsg.OffsetCommitRequest:
		h.cfg.Groups.OffsetCommit(client, req, func(resp *kmsg.OffsetCommitResponse) { reply(r, resp) })
	case *kmsg.OffsetFetchRequest:
		h.cfg.Groups.OffsetFetch(client, req, func(resp *kmsg.OffsetFetchResponse) { reply(r, resp) })
	case *kmsg.DescribeGroupsRequest:
		h.describeGroups(r, client, req)
	case *kmsg.ListGroupsRequest:
		h.listGroups(r, client, req)
	case *kmsg.DeleteGroupsRequest:
		h.deleteGroups(r, client, req)
	case *kmsg.OffsetDeleteRequest:
		h.offsetDelete(r, client, req)
	default:
		// The table of served APIs names something that nothing here answers.
		panic(fmt.Sprintf("no handler for %s", apiName(r.Header.Key)))
	}
}

// clientHost is how Kafka shows a client's address: "/127.0.0.1".
func clientHost(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		host = a.String()
	}
	return "/" + host
}
