package coordinator

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/group"
)

// refusal is why a shard does not answer a request itself.
type refusal uint8

const (
	loading refusal = iota // the partition is being read
	crowded                // too many requests wait
	moved                  // this broker does not coordinate the group, or no longer
	noRoom                 // the disk is full: groups are read, not changed
)

// operation is one request on its way through a shard. Exactly one of reply and
// refuse is called, once.
type operation struct {
	decide func(g *group.Shard, now time.Time, token group.Token) group.Output
	reply  func(kmsg.Response)
	refuse func(refusal)
	writes bool // may lead to records
}

func (c *Coordinator) submit(groupID string, op operation) {
	s := c.shardOf(groupID)
	if s == nil {
		op.refuse(moved)
		return
	}
	s.submit(op)
}

// submitMember is submit for the requests of members, which must name a group: an empty
// id is refused wherever it is sent.
func (c *Coordinator) submitMember(groupID string, op operation) {
	if groupID == "" {
		out := op.decide(group.NewShard(c.cfg.Group), time.Now(), 1)
		op.reply(out.Replies[0].Response)
		return
	}
	c.submit(groupID, op)
}

// Join implements API.
func (c *Coordinator) Join(client Client, req *kmsg.JoinGroupRequest, reply func(*kmsg.JoinGroupResponse)) {
	c.submitMember(req.Group, operation{
		decide: func(g *group.Shard, now time.Time, t group.Token) group.Output {
			return g.Join(now, t, client, newUUID(), req)
		},
		writes: true,
		reply:  func(r kmsg.Response) { reply(r.(*kmsg.JoinGroupResponse)) },
		refuse: func(why refusal) {
			r := kmsg.NewPtrJoinGroupResponse()
			r.Version, r.Generation, r.MemberID = req.Version, -1, req.MemberID
			r.ErrorCode = refusalCode(why)
			reply(r)
		},
	})
}

// Sync implements API. Clients do not expect COORDINATOR_LOAD_IN_PROGRESS here; the
// rebalance is lost anyway, so they are sent back to JoinGroup.
func (c *Coordinator) Sync(_ Client, req *kmsg.SyncGroupRequest, reply func(*kmsg.SyncGroupResponse)) {
	c.submitMember(req.Group, operation{
		decide: func(g *group.Shard, now time.Time, t group.Token) group.Output { return g.Sync(now, t, req) },
		writes: true,
		reply:  func(r kmsg.Response) { reply(r.(*kmsg.SyncGroupResponse)) },
		refuse: func(why refusal) {
			r := kmsg.NewPtrSyncGroupResponse()
			r.Version, r.ErrorCode = req.Version, kerr.RebalanceInProgress.Code
			if why == moved || why == noRoom {
				r.ErrorCode = refusalCode(why)
			}
			reply(r)
		},
	})
}

// Heartbeat implements API. While the shard loads every member is taken to be alive: its
// session begins anew when the load ends.
func (c *Coordinator) Heartbeat(_ Client, req *kmsg.HeartbeatRequest, reply func(*kmsg.HeartbeatResponse)) {
	c.submitMember(req.Group, operation{
		decide: func(g *group.Shard, now time.Time, t group.Token) group.Output { return g.Heartbeat(now, t, req) },
		reply:  func(r kmsg.Response) { reply(r.(*kmsg.HeartbeatResponse)) },
		refuse: func(why refusal) {
			r := kmsg.NewPtrHeartbeatResponse()
			r.Version = req.Version
			switch why {
			case moved:
				r.ErrorCode = kerr.NotCoordinator.Code
			case crowded:
				r.ErrorCode = kerr.CoordinatorNotAvailable.Code // Java takes LOAD_IN_PROGRESS for fatal here
			case loading, noRoom: // a heartbeat writes nothing
			}
			reply(r)
		},
	})
}

// Leave implements API.
func (c *Coordinator) Leave(_ Client, req *kmsg.LeaveGroupRequest, reply func(*kmsg.LeaveGroupResponse)) {
	c.submitMember(req.Group, operation{
		decide: func(g *group.Shard, now time.Time, t group.Token) group.Output { return g.Leave(now, t, req) },
		writes: true,
		reply:  func(r kmsg.Response) { reply(r.(*kmsg.LeaveGroupResponse)) },
		refuse: func(why refusal) {
			r := kmsg.NewPtrLeaveGroupResponse()
			r.Version, r.ErrorCode = req.Version, refusalCode(why)
			reply(r)
		},
	})
}

// OffsetCommit implements API.
func (c *Coordinator) OffsetCommit(
	_ Client, req *kmsg.OffsetCommitRequest, reply func(*kmsg.OffsetCommitResponse),
) {
	c.submit(req.Group, operation{
		decide: func(g *group.Shard, now time.Time, t group.Token) group.Output {
			return g.OffsetCommit(now, t, c.cfg.Topics(), req)
		},
		writes: true,
		reply:  func(r kmsg.Response) { reply(r.(*kmsg.OffsetCommitResponse)) },
		refuse: func(why refusal) { reply(refusedCommit(req, refusalCode(why))) },
	})
}

func refusedCommit(req *kmsg.OffsetCommitRequest, code int16) *kmsg.OffsetCommitResponse {
	r := kmsg.NewPtrOffsetCommitResponse()
	r.Version = req.Version
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, code
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	return r
}

func refusalCode(why refusal) int16 {
	switch why {
	case moved:
		return kerr.NotCoordinator.Code
	case noRoom:
		return kerr.CoordinatorNotAvailable.Code
	case loading, crowded:
	}
	return kerr.CoordinatorLoadInProgress.Code
}

// newUUID is a random UUID (version 4) for a member id.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
