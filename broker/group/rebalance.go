package group

import (
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rebalanceOrComplete begins a rebalance, or lets the one under way go on.
func (s *Shard) rebalanceOrComplete(g *group, reason string) {
	if g.state == preparing {
		s.maybeCompleteJoin(g)
		return
	}
	s.prepareRebalance(g, reason)
}

// maybeCompleteJoin ends the join phase if nobody is missing. A group that was empty
// waits out its initial delay.
func (s *Shard) maybeCompleteJoin(g *group) {
	if g.state == preparing && g.previous != empty && g.allJoined() {
		s.completeJoin(g)
	}
}

// prepareRebalance asks all members to join again.
func (s *Shard) prepareRebalance(g *group, reason string) {
	if g.state == completing {
		for _, m := range g.members {
			m.assignment = nil
			s.weigh(m)
			if m.sync.waits() {
				s.answerSync(m, syncError(kerr.RebalanceInProgress))
				s.restartSession(g, m)
			}
		}
	}
	clear(g.unsynced)
	s.timers.cancel(&g.syncTimer)
	s.enter(g, preparing)
	s.note(g, "", "rebalances: %s", reason)
	switch {
	case g.previous == empty && s.settings.InitialRebalanceDelay > 0:
		g.memberAdded = false
		s.delayInitial(g, s.settings.InitialRebalanceDelay,
			max(g.rebalanceTimeout()-s.settings.InitialRebalanceDelay, 0))
	case g.previous == empty, g.allJoined(): // who is invited to an empty group is not waited for
		s.completeJoin(g)
	default:
		s.timers.arm(&g.joinTimer, s.now.Add(g.rebalanceTimeout()), func() { s.completeJoin(g) })
	}
}

// delayInitial gives the other members of a new group time to come: delay, and again as
// long as some came meanwhile, up to the rebalance timeout (left is what is left of it).
func (s *Shard) delayInitial(g *group, delay, left time.Duration) {
	s.timers.arm(&g.joinTimer, s.now.Add(delay), func() {
		if !g.memberAdded || left == 0 {
			s.completeJoin(g)
			return
		}
		g.memberAdded = false
		s.delayInitial(g, min(s.settings.InitialRebalanceDelay, left), max(left-delay, 0))
	})
}

// completeJoin ends the join phase: dynamic members that did not come are removed, a new
// generation begins.
func (s *Shard) completeJoin(g *group) {
	s.timers.cancel(&g.joinTimer)
	for i := len(g.members) - 1; i >= 0; i-- {
		if m := g.members[i]; !m.join.waits() && m.instance == nil {
			s.note(g, m.id, "removed: it did not join in time")
			s.remove(g, m)
		}
	}
	if len(g.members) > 0 && !g.joinedLeader() {
		// Only static members, and none is back: wait until one is or its session ends.
		s.timers.arm(&g.joinTimer, s.now.Add(max(g.rebalanceTimeout(), time.Second)), func() { s.completeJoin(g) })
		return
	}
	if g.generation++; g.generation < 0 || g.generation == math.MaxInt32 {
		g.generation = 0
	}
	clear(g.unsynced)
	if len(g.members) == 0 {
		s.becomeEmpty(g)
		return
	}
	s.settings.Memory.rebalances.Add(1)
	protocol := g.elect()
	g.protocol = &protocol
	s.resubscribe(g)
	s.enter(g, completing)
	s.note(g, "", "generation begins with %d members", len(g.members))
	for _, m := range g.members {
		s.answerJoin(g, m, g.joined(m))
		s.restartSession(g, m)
		m.fresh = false
		g.unsynced[m.id] = struct{}{}
	}
	s.timers.arm(&g.syncTimer, s.now.Add(g.rebalanceTimeout()), func() { s.syncExpired(g) })
}

func (s *Shard) becomeEmpty(g *group) {
	g.protocol = nil
	s.resubscribe(g)
	s.enter(g, empty)
	s.note(g, "", "is empty")
	s.record(metadataRecord(g, g.since))
	g.written = true
	if len(g.offsets) == 0 {
		s.sweepBy(s.now)
	} else {
		s.sweepBy(s.now.Add(s.settings.OffsetsRetention))
	}
}

// syncExpired removes the members that did not ask for their assignment.
func (s *Shard) syncExpired(g *group) {
	if len(g.unsynced) == 0 {
		return
	}
	for i := len(g.members) - 1; i >= 0; i-- {
		m := g.members[i]
		if _, late := g.unsynced[m.id]; late {
			s.note(g, m.id, "removed: it did not sync in time")
			s.remove(g, m)
		}
	}
	s.prepareRebalance(g, "members did not sync")
}

// restartSession begins a member's session anew.
func (s *Shard) restartSession(g *group, m *member) {
	s.timers.arm(&m.session, s.now.Add(m.sessionTimeout), func() { s.sessionExpired(g, m) })
}

func (s *Shard) sessionExpired(g *group, m *member) {
	if !m.fresh && (m.join.waits() || m.sync.waits()) {
		return // alive: it waits for us; its session begins anew with the answer
	}
	s.note(g, m.id, "removed: its session ended")
	s.remove(g, m)
	s.afterRemoval(g, "a member's session ended")
}

// afterRemoval goes on after members were removed. Unlike maybeCompleteJoin it does not
// keep a group waiting that has nobody left to wait for.
func (s *Shard) afterRemoval(g *group, reason string) {
	switch {
	case g.state == stable, g.state == completing:
		s.prepareRebalance(g, reason)
	case g.state == preparing && g.allJoined():
		s.completeJoin(g)
	}
	s.forgetIfUnused(g)
}

// remove takes a member out and answers what it waits for.
func (s *Shard) remove(g *group, m *member) {
	s.endWaits(g, m, kerr.UnknownMemberID)
	s.timers.cancel(&m.session)
	g.drop(m)
	s.charge(-m.weight)
}

// endWaits answers a member's waiting requests with an error.
func (s *Shard) endWaits(g *group, m *member, err *kerr.Error) {
	if m.join.waits() {
		resp := kmsg.NewPtrJoinGroupResponse()
		resp.Generation = -1
		resp.ErrorCode = err.Code
		if err == kerr.FencedInstanceID {
			resp.MemberID = m.id
		}
		s.answerJoin(g, m, resp)
	}
	if m.sync.waits() {
		s.answerSync(m, syncError(err))
	}
}

// weigh keeps count of the memory that members hold.
func (s *Shard) weigh(m *member) {
	n := m.size()
	s.charge(n - m.weight)
	m.weight = n
}
