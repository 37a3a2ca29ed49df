package group

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ReadTopics gives tests the parser of subscriptions.
func ReadTopics(b []byte) (map[string]struct{}, bool) {
	topics := map[string]struct{}{}
	ok := readTopics(b, topics)
	return topics, ok
}

// Dump tells the state of all groups.
func (s *Shard) Dump() string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[id]
		fmt.Fprintf(&b, "%s %s gen=%d", id, g.state, g.generation)
		if len(g.invited) > 0 {
			fmt.Fprintf(&b, " invited=%s", strings.Join(slices.Sorted(maps.Keys(g.invited)), ","))
		}
		b.WriteString("\n" + g.dumpMembers() + g.dumpOffsets())
	}
	return b.String()
}

func (g *group) dumpMembers() string {
	var b strings.Builder
	for _, m := range g.members {
		fmt.Fprintf(&b, "  member %s", m.id)
		if m.instance != nil {
			fmt.Fprintf(&b, " instance=%s", *m.instance)
		}
		if m.id == g.leader {
			b.WriteString(" leader")
		}
		if m.join.waits() {
			b.WriteString(" joins")
		}
		if m.sync.waits() {
			b.WriteString(" syncs")
		}
		fmt.Fprintf(&b, " assignment=%q\n", m.assignment)
	}
	return b.String()
}

func (g *group) dumpOffsets() string {
	var b strings.Builder
	for _, topic := range slices.Sorted(maps.Keys(g.offsets)) {
		for _, p := range slices.Sorted(maps.Keys(g.offsets[topic])) {
			c := g.offsets[topic][p]
			fmt.Fprintf(&b, "  offset %s-%d %d epoch=%d %q at=%d expires=%d id=%s\n",
				topic, p, c.offset, c.leaderEpoch, c.metadata, c.commitMs, c.expireMs, c.topic)
		}
	}
	return b.String()
}

// Durable tells what a replay must bring back: all offsets, and the membership of groups
// that are not in a rebalance. Groups named in skip are left out of the latter.
func (s *Shard) Durable(skip map[string]bool) string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[id]
		if g.written && !skip[id] {
			fmt.Fprintf(&b, "%s %s gen=%d type=%s since=%d leader=%s", id, g.state, g.generation, g.protocolType, g.since, g.leader)
			if g.protocol != nil {
				fmt.Fprintf(&b, " protocol=%s", *g.protocol)
			}
			fmt.Fprintf(&b, " topics=%v\n", slices.Sorted(maps.Keys(g.subscribed)))
			for _, m := range g.members {
				meta, _ := m.metadata(*g.protocol)
				fmt.Fprintf(&b, "  %q %v %v %v %v %q %q\n", m.id, m.instance != nil, m.client, m.sessionTimeout,
					m.rebalanceTimeout, meta, m.assignment)
			}
		}
		if offsets := g.dumpOffsets(); offsets != "" {
			fmt.Fprintf(&b, "%s\n%s", id, offsets)
		}
	}
	return b.String()
}

// Rebalancing lists the groups in the midst of a rebalance, and those never written.
func (s *Shard) Rebalancing() map[string]bool {
	out := map[string]bool{}
	for id, g := range s.groups {
		if g.state == preparing || g.state == completing || !g.written {
			out[id] = true
		}
	}
	return out
}

// Generations tells the generation of every group.
func (s *Shard) Generations() map[string]int32 {
	out := map[string]int32{}
	for id, g := range s.groups {
		out[id] = g.generation
	}
	return out
}

// Members gives the ids of a group's members.
func (s *Shard) Members(id string) []string {
	g := s.groups[id]
	if g == nil {
		return nil
	}
	return slices.Collect(maps.Keys(g.byID))
}

// Invariants says what is wrong with the state, nil if nothing is.
func (s *Shard) Invariants() error {
	armed, bytes := 0, 0
	var want Counts
	if s.sweep.armed() {
		armed++
	}
	for id, g := range s.groups {
		if err := g.invariants(); err != nil {
			return fmt.Errorf("group %s: %w\n%s", id, err, s.Dump())
		}
		for _, t := range append(g.memberTimers(), &g.joinTimer, &g.syncTimer) {
			if t.armed() {
				armed++
			}
		}
		for id := range g.invited {
			bytes += inviteBytes(id)
		}
		for _, m := range g.members {
			bytes += m.size()
		}
		switch g.state {
		case empty:
			want.Empty++
		case preparing:
			want.PreparingRebalance++
		case completing:
			want.CompletingRebalance++
		case stable:
			want.Stable++
		}
		for _, of := range g.offsets {
			want.Offsets += int64(len(of))
		}
		bytes += groupOverhead + 2*len(g.id)
		for topic := range g.subscribed {
			bytes += subscribedOverhead + len(topic)
		}
		for topic, of := range g.offsets {
			bytes += topicOverhead + len(topic)
			for _, c := range of {
				bytes += offsetOverhead + len(c.metadata)
			}
		}
		if g.unused() {
			return fmt.Errorf("group %s is of no use and still there", id)
		}
	}
	if armed != len(s.timers.heap) {
		return fmt.Errorf("%d timers are armed, %d of them of groups that are there", len(s.timers.heap), armed)
	}
	got := s.settings.Memory.Counts()
	if want.Commits, want.Expired, want.Rebalances = got.Commits, got.Expired, got.Rebalances; got != want {
		return fmt.Errorf("counted %+v, there are %+v", got, want)
	}
	if bytes != s.held || int64(bytes) != s.settings.Memory.Used() {
		return fmt.Errorf("groups hold %d bytes, %d were counted, %d of all shards", bytes, s.held, s.settings.Memory.Used())
	}
	for i := range s.timers.heap {
		if i > 0 && s.timers.less(i, (i-1)/2) || s.timers.heap[i].pos != i+1 {
			return fmt.Errorf("timer %d is out of order", i)
		}
	}
	return nil
}

func (g *group) memberTimers() []*timer {
	out := slices.Collect(maps.Values(g.invited))
	for _, m := range g.members {
		out = append(out, &m.session)
	}
	return out
}

func (g *group) invariants() error {
	joining, statics := 0, 0
	for _, m := range g.members {
		if m.join.waits() {
			joining++
		}
		if m.instance != nil {
			statics++
		}
		switch {
		case g.byID[m.id] != m, m.instance != nil && g.static[*m.instance] != m:
			return fmt.Errorf("member %s is not found by its id", m.id)
		case m.join.waits() && g.state != preparing, m.sync.waits() && g.state != completing:
			return fmt.Errorf("member %s waits for what does not come", m.id)
		case !m.session.armed() && !m.join.waits() && !m.sync.waits():
			return fmt.Errorf("member %s would live for ever", m.id)
		}
		if _, ok := m.metadata(deref(g.protocol)); !ok && (g.state == stable || g.state == completing) {
			return fmt.Errorf("member %s does not support the protocol", m.id)
		}
	}
	for id := range g.unsynced {
		if g.byID[id] == nil {
			return fmt.Errorf("%s has to sync and is no member", id)
		}
	}
	switch {
	case joining != g.joining, len(g.byID) != len(g.members), len(g.static) != statics:
		return fmt.Errorf("counts are off: joining %d, ids %d, static %d", g.joining, len(g.byID), len(g.static))
	case (g.leader != "") != (len(g.members) > 0), g.leader != "" && g.byID[g.leader] == nil:
		return fmt.Errorf("leader %q is not a member", g.leader)
	case g.state == empty && len(g.members) > 0, len(g.members) == 0 && (g.state == stable || g.state == completing):
		return fmt.Errorf("%d members", len(g.members))
	case g.state == preparing && !g.joinTimer.armed():
		return fmt.Errorf("the rebalance would never end")
	case g.state == completing && len(g.unsynced) > 0 != g.syncTimer.armed():
		return fmt.Errorf("%d have to sync, timer %v", len(g.unsynced), g.syncTimer.armed())
	}
	return nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
