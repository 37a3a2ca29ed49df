package group

import (
	"bytes"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// namedProtocolVersion is the first version of SyncGroup that must say which protocol it
// is about (KIP-559).
const namedProtocolVersion = 5

// Sync handles a SyncGroup. The reply waits for the leader's.
func (s *Shard) Sync(now time.Time, token Token, req *kmsg.SyncGroupRequest) Output {
	s.now = now
	w := waiter{token: token, version: req.Version}
	g, m, err := s.syncing(req)
	if err != nil {
		s.reply(w, syncError(err))
		return s.take()
	}
	switch g.state {
	case completing:
		if m.sync.waits() {
			s.answerSync(m, syncError(kerr.RebalanceInProgress)) // the client gave up on that one
		}
		m.sync = w
		s.synced(g, m)
		if g.leader == m.id {
			s.assign(g, req.GroupAssignment)
		}
	case stable:
		s.synced(g, m)
		s.reply(w, g.assigned(m))
	default:
		s.reply(w, syncError(kerr.RebalanceInProgress))
	}
	return s.take()
}

// syncing checks a SyncGroup.
func (s *Shard) syncing(req *kmsg.SyncGroupRequest) (*group, *member, *kerr.Error) {
	switch {
	case req.Version >= namedProtocolVersion && (req.ProtocolType == nil || req.Protocol == nil):
		return nil, nil, kerr.InconsistentGroupProtocol
	case req.Group == "":
		return nil, nil, kerr.InvalidGroupID
	}
	g := s.groups[req.Group]
	if g == nil || g.state == empty {
		return nil, nil, kerr.UnknownMemberID
	}
	m, err := g.find(req.MemberID, req.InstanceID)
	switch {
	case err != nil:
		return nil, nil, err
	case req.Generation != g.generation:
		return nil, nil, kerr.IllegalGeneration
	case req.ProtocolType != nil && *req.ProtocolType != g.protocolType,
		req.Protocol != nil && g.protocol != nil && *req.Protocol != *g.protocol:
		return nil, nil, kerr.InconsistentGroupProtocol
	}
	return g, m, nil
}

// synced notes that a member has asked for its assignment.
func (s *Shard) synced(g *group, m *member) {
	delete(g.unsynced, m.id)
	if len(g.unsynced) == 0 {
		s.timers.cancel(&g.syncTimer)
	}
}

// assign takes the leader's assignment: it is written, the group is stable, all who
// wait are answered. Members that the leader left out get an empty one.
func (s *Shard) assign(g *group, as []kmsg.SyncGroupRequestGroupAssignment) {
	extra := 0
	for _, m := range g.members {
		extra -= len(m.assignment)
	}
	for _, a := range as {
		if g.byID[a.MemberID] != nil {
			extra += len(a.MemberAssignment)
		}
	}
	if !s.room(extra, true) {
		// Java takes other codes for fatal; with this one members look for the coordinator and join again.
		s.refuseAssignment(g, kerr.CoordinatorNotAvailable, "groups hold all the memory that they may")
		return
	}
	for _, m := range g.members {
		m.assignment = nil
	}
	for _, a := range as {
		if m := g.byID[a.MemberID]; m != nil {
			m.assignment = bytes.Clone(a.MemberAssignment)
		}
	}
	for _, m := range g.members {
		s.weigh(m)
	}
	r := metadataRecord(g, s.nowMs())
	if !s.fits(r) {
		s.refuseAssignment(g, kerr.UnknownServerError, "the assignment exceeds max.message.bytes of the offsets topic")
		return
	}
	s.record(r)
	g.written = true
	s.enter(g, stable)
	s.note(g, "", "is stable with %d members", len(g.members))
	for _, m := range g.members {
		if m.sync.waits() {
			s.answerSync(m, g.assigned(m))
			s.restartSession(g, m)
		}
	}
	if len(g.offsets) > 0 {
		s.sweepBy(s.now) // offsets of topics that nobody subscribes to any more may expire
	}
}

// refuseAssignment tells all who wait for their assignment that there is none, and has them join again.
func (s *Shard) refuseAssignment(g *group, err *kerr.Error, reason string) {
	for _, m := range g.members {
		if m.sync.waits() {
			s.answerSync(m, syncError(err))
			s.restartSession(g, m)
		}
	}
	s.prepareRebalance(g, reason)
}

func (s *Shard) answerSync(m *member, resp *kmsg.SyncGroupResponse) {
	s.reply(m.sync, resp)
	m.sync = waiter{}
}

func (g *group) assigned(m *member) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	protocolType := g.protocolType
	resp.ProtocolType, resp.Protocol, resp.MemberAssignment = &protocolType, g.protocol, m.assignment
	return resp
}

func syncError(err *kerr.Error) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ErrorCode = err.Code
	return resp
}

// Heartbeat handles a Heartbeat.
func (s *Shard) Heartbeat(now time.Time, token Token, req *kmsg.HeartbeatRequest) Output {
	s.now = now
	resp := kmsg.NewPtrHeartbeatResponse()
	if err := s.heartbeat(req); err != nil {
		resp.ErrorCode = err.Code
	}
	s.reply(waiter{token: token, version: req.Version}, resp)
	return s.take()
}

func (s *Shard) heartbeat(req *kmsg.HeartbeatRequest) *kerr.Error {
	if req.Group == "" {
		return kerr.InvalidGroupID
	}
	g := s.groups[req.Group]
	if g == nil {
		return kerr.UnknownMemberID
	}
	m, err := g.find(req.MemberID, req.InstanceID)
	if err != nil {
		return err
	}
	if req.Generation != g.generation {
		return kerr.IllegalGeneration
	}
	s.restartSession(g, m)
	if g.state == preparing {
		return kerr.RebalanceInProgress
	}
	return nil
}

// membersVersion is the first version of LeaveGroup that names several members.
const membersVersion = 3

// Leave handles a LeaveGroup, of one member or of several (KIP-345).
func (s *Shard) Leave(now time.Time, token Token, req *kmsg.LeaveGroupRequest) Output {
	s.now = now
	resp := kmsg.NewPtrLeaveGroupResponse()
	w := waiter{token: token, version: req.Version}
	if req.Group == "" {
		resp.ErrorCode = kerr.InvalidGroupID.Code
		s.reply(w, resp)
		return s.take()
	}
	leaving := req.Members
	if req.Version < membersVersion {
		one := kmsg.NewLeaveGroupRequestMember()
		one.MemberID = req.MemberID
		leaving = []kmsg.LeaveGroupRequestMember{one}
	}
	g, left := s.groups[req.Group], false
	for _, l := range leaving {
		r := kmsg.NewLeaveGroupResponseMember()
		r.MemberID, r.InstanceID = l.MemberID, l.InstanceID
		err := kerr.UnknownMemberID
		if g != nil {
			err = s.leave(g, l)
		}
		if err != nil {
			r.ErrorCode = err.Code
		} else {
			left = true
		}
		resp.Members = append(resp.Members, r)
	}
	if req.Version < membersVersion {
		resp.ErrorCode, resp.Members = resp.Members[0].ErrorCode, nil
	}
	s.reply(w, resp)
	if left {
		s.rebalanceAfterLeave(g)
	}
	return s.take()
}

func (s *Shard) rebalanceAfterLeave(g *group) {
	switch g.state {
	case stable, completing:
		s.prepareRebalance(g, "members left")
	case preparing:
		s.maybeCompleteJoin(g)
	case empty:
	}
	s.forgetIfUnused(g)
}

func (s *Shard) leave(g *group, l kmsg.LeaveGroupRequestMember) *kerr.Error {
	if s.uninvite(g, l.MemberID) {
		return nil
	}
	var m *member
	var err *kerr.Error
	if l.MemberID == "" && l.InstanceID != nil {
		// An administrator removes a static member without knowing its id.
		if m = g.static[*l.InstanceID]; m == nil {
			return kerr.UnknownMemberID
		}
	} else if m, err = g.find(l.MemberID, l.InstanceID); err != nil {
		return err
	}
	reason := "not said"
	if l.Reason != nil && *l.Reason != "" {
		reason = *l.Reason
	}
	s.note(g, m.id, "left: %s", reason)
	s.remove(g, m)
	return nil
}
