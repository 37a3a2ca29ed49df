package group

import (
	"bytes"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// knownIDVersion is the first version of JoinGroup in which a dynamic member must come
// back with the id it was given (KIP-394), skipVersion the first that can tell a leader
// not to assign (KIP-814).
const (
	knownIDVersion = 4
	skipVersion    = 9
)

// Join handles a JoinGroup. unique makes a new member's id (a random UUID). The
// reply may wait for other members.
func (s *Shard) Join(now time.Time, token Token, c Client, unique string, req *kmsg.JoinGroupRequest) Output {
	s.now = now
	w := waiter{token: token, version: req.Version}
	session := time.Duration(req.SessionTimeoutMillis) * time.Millisecond
	if req.Group == "" || len(req.Group) > maxString {
		s.refuseJoin(w, req.MemberID, kerr.InvalidGroupID)
		return s.take()
	}
	if !storable(c, req) {
		s.refuseJoin(w, req.MemberID, kerr.InvalidRequest)
		return s.take()
	}
	if session < s.settings.MinSessionTimeout || session > s.settings.MaxSessionTimeout {
		s.refuseJoin(w, req.MemberID, kerr.InvalidSessionTimeout)
		return s.take()
	}
	g := s.groups[req.Group]
	if g == nil {
		if req.MemberID != "" {
			s.refuseJoin(w, req.MemberID, kerr.UnknownMemberID)
			return s.take()
		}
		g = newGroup(req.Group)
		s.enlist(g)
	}
	j := joiner{waiter: w, client: c, req: req, assignors: assignors(req.Protocols), session: session}
	j.rebalance = time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond
	if req.Version == 0 || j.rebalance < 0 {
		j.rebalance = session
	}
	switch {
	case !s.admits(g, req.MemberID):
		s.turnAway(g, j)
	case !g.accepts(req.ProtocolType, j.assignors):
		s.refuseJoin(w, req.MemberID, kerr.InconsistentGroupProtocol)
	case s.heavy(g, j):
	case req.MemberID == "":
		s.joinNew(g, j, unique)
	default:
		s.joinKnown(g, j)
	}
	s.forgetIfUnused(g)
	return s.take()
}

// storable tells whether what a member says of itself fits into records.
func storable(c Client, req *kmsg.JoinGroupRequest) bool {
	ok := len(c.ID) <= maxString && len(c.Host) <= maxString && len(req.ProtocolType) <= maxString &&
		(req.InstanceID == nil || len(*req.InstanceID) <= maxString)
	return ok && !slices.ContainsFunc(req.Protocols, func(p kmsg.JoinGroupRequestProtocol) bool {
		return len(p.Name) > maxString
	})
}

// joiner is a JoinGroup taken apart. assignors does not alias the request.
type joiner struct {
	waiter
	client             Client
	req                *kmsg.JoinGroupRequest
	assignors          []assignor
	session, rebalance time.Duration
}

func (j *joiner) reason() string {
	if j.req.Reason == nil || *j.req.Reason == "" {
		return "not said"
	}
	return *j.req.Reason
}

// assignors copies the protocols of a request; of a name given twice the first counts.
func assignors(ps []kmsg.JoinGroupRequestProtocol) []assignor {
	out := make([]assignor, 0, len(ps))
	for _, p := range ps {
		if !slices.ContainsFunc(out, func(a assignor) bool { return a.name == p.Name }) {
			out = append(out, assignor{p.Name, bytes.Clone(p.Metadata)})
		}
	}
	return out
}

// admits tells whether the group has room. While it prepares, those who wait count, so
// that a group over its limit loses the last to come back; else the members do.
func (s *Shard) admits(g *group, memberID string) bool {
	m := g.byID[memberID]
	switch g.state {
	case preparing:
		return (m != nil && m.join.waits()) || g.joining < int(s.settings.MaxSize)
	case completing, stable:
		return m != nil || len(g.members) < int(s.settings.MaxSize)
	default:
		return true
	}
}

func (s *Shard) turnAway(g *group, j joiner) {
	s.refuseJoin(j.waiter, "", kerr.GroupMaxSizeReached)
	if m := g.byID[j.req.MemberID]; m != nil {
		s.remove(g, m)
	}
	s.uninvite(g, j.req.MemberID)
	s.maybeCompleteJoin(g)
}

// heavy refuses a member that would exceed what members may hold in memory.
func (s *Shard) heavy(g *group, j joiner) bool {
	extra := (&member{client: j.client, instance: j.req.InstanceID, assignors: j.assignors}).size()
	m := g.byID[j.req.MemberID]
	if m != nil {
		extra -= m.weight - len(m.assignment)
	}
	if s.room(extra, m != nil) {
		return false
	}
	s.note(g, "", "refused a member: all groups hold %d bytes, %d are allowed", s.settings.Memory.Used(), s.settings.Memory.limit)
	// A retriable error that every client knows: the members may be fewer soon.
	s.refuseJoin(j.waiter, j.req.MemberID, kerr.CoordinatorLoadInProgress)
	return true
}

func (s *Shard) joinNew(g *group, j joiner, unique string) {
	if inst := j.req.InstanceID; inst != nil {
		id := *inst + "-" + unique
		if old := g.static[*inst]; old != nil {
			s.joinStaticAgain(g, old, j, id)
			return
		}
		s.addMember(g, j, id)
		return
	}
	id := j.client.ID + "-" + unique
	if j.version < knownIDVersion {
		s.addMember(g, j, id)
		return
	}
	t := &timer{}
	g.invited[id] = t
	s.charge(inviteBytes(id))
	s.timers.arm(t, s.now.Add(j.session), func() { s.inviteExpired(g, id) })
	s.refuseJoin(j.waiter, id, kerr.MemberIDRequired)
}

func inviteBytes(id string) int { return 200 + 2*len(id) }

// uninvite ends an invitation; false where there is none.
func (s *Shard) uninvite(g *group, id string) bool {
	t := g.invited[id]
	if t == nil {
		return false
	}
	s.timers.cancel(t)
	delete(g.invited, id)
	s.charge(-inviteBytes(id))
	return true
}

func (s *Shard) inviteExpired(g *group, id string) {
	s.uninvite(g, id)
	if g.state == preparing && g.allJoined() {
		s.completeJoin(g)
	}
	s.forgetIfUnused(g)
}

func (s *Shard) joinKnown(g *group, j joiner) {
	id := j.req.MemberID
	if j.req.InstanceID == nil && g.invited[id] != nil {
		s.uninvite(g, id)
		s.addMember(g, j, id)
		return
	}
	m, err := g.find(id, j.req.InstanceID)
	if err != nil {
		s.refuseJoin(j.waiter, id, err)
		return
	}
	same := m.sameAssignors(j.assignors)
	switch {
	case g.state == completing && same, g.state == stable && same && g.leader != id:
		// It may have missed the answer; a leader of a stable group asks for a new
		// assignment by joining again.
		s.reply(j.waiter, g.joined(m))
	default:
		s.update(g, m, j)
		s.waitJoin(g, m, j.waiter)
		s.rebalanceOrComplete(g, "member joins again: "+j.reason())
	}
}

func (s *Shard) addMember(g *group, j joiner, id string) {
	if len(g.members) == 0 {
		g.protocolType = j.req.ProtocolType
	}
	m := &member{
		id: id, instance: j.req.InstanceID, client: j.client, assignors: j.assignors,
		rebalanceTimeout: j.rebalance, sessionTimeout: j.session, fresh: true,
	}
	if g.state == preparing && g.previous == empty {
		g.memberAdded = true
	}
	g.add(m)
	s.weigh(m)
	s.waitJoin(g, m, j.waiter)
	s.timers.arm(&m.session, s.now.Add(freshJoinTimeout), func() { s.sessionExpired(g, m) })
	s.rebalanceOrComplete(g, "new member: "+j.reason())
}

// update takes over what a JoinGroup says of a member.
func (s *Shard) update(g *group, m *member, j joiner) {
	g.count(m.assignors, -1)
	m.assignors = j.assignors
	g.count(m.assignors, 1)
	m.sessionTimeout, m.rebalanceTimeout = j.session, j.rebalance
	s.weigh(m)
}

// joinStaticAgain gives a static member that lost its id a new one (KIP-345). The
// one that holds the old id is fenced.
func (s *Shard) joinStaticAgain(g *group, m *member, j joiner, id string) {
	s.endWaits(g, m, kerr.FencedInstanceID)
	oldLeader := g.leader
	g.rename(m, id)
	m.client = j.client
	s.update(g, m, j)
	m.fresh = false
	s.restartSession(g, m)
	s.note(g, id, "static member %s has a new id", *m.instance)
	if g.state == stable && g.elect() == *g.protocol {
		if r := metadataRecord(g, g.since); s.fits(r) {
			s.record(r)
			s.resubscribe(g)
			resp := g.joined(m)
			if j.version >= skipVersion {
				resp.SkipAssignment = g.leader == id
			} else {
				// A client that does not know of SkipAssignment must not assign: the
				// others would not hear of it.
				resp.LeaderID, resp.Members = oldLeader, nil
			}
			s.reply(j.waiter, resp)
			return
		}
	}
	s.waitJoin(g, m, j.waiter)
	s.rebalanceOrComplete(g, "static member joins again: "+j.reason())
}

// waitJoin parks a JoinGroup at its member.
func (s *Shard) waitJoin(g *group, m *member, w waiter) {
	if m.join.waits() {
		// A second attempt of a client that gave up on the first.
		s.refuseJoin(m.join, m.id, kerr.RebalanceInProgress)
	} else {
		g.joining++
	}
	m.join = w
}

// answerJoin answers a member's waiting JoinGroup, if one waits.
func (s *Shard) answerJoin(g *group, m *member, resp *kmsg.JoinGroupResponse) {
	if m.join.waits() {
		s.reply(m.join, resp)
		m.join = waiter{}
		g.joining--
	}
}

// joined is the answer for the present generation.
func (g *group) joined(m *member) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	protocolType := g.protocolType
	resp.Generation, resp.ProtocolType, resp.Protocol = g.generation, &protocolType, g.protocol
	resp.LeaderID, resp.MemberID = g.leader, m.id
	if g.leader == m.id {
		resp.Members = g.roster()
	}
	return resp
}

func (s *Shard) refuseJoin(w waiter, memberID string, err *kerr.Error) {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Generation = -1
	resp.MemberID, resp.ErrorCode = memberID, err.Code
	s.reply(w, resp)
}

// find gives the member that a request speaks for, or UNKNOWN_MEMBER_ID, or
// FENCED_INSTANCE_ID where another id has taken over its instance.
func (g *group) find(id string, instance *string) (*member, *kerr.Error) {
	if instance != nil {
		m := g.static[*instance]
		if m == nil {
			return nil, kerr.UnknownMemberID
		}
		if m.id != id {
			return nil, kerr.FencedInstanceID
		}
	}
	m := g.byID[id]
	if m == nil {
		return nil, kerr.UnknownMemberID
	}
	return m, nil
}
