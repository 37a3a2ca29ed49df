package group

import "sync/atomic" //nolint:depguard // sums over the shards, each of which runs on a goroutine of its own

// What things hold in memory, about: an entry of a map with its value, and the maps that a group or a topic begins.
const (
	groupOverhead      = 600
	topicOverhead      = 700
	offsetOverhead     = 150
	subscribedOverhead = 60
)

// Memory is what the groups of all shards of a broker hold, and may hold. It is safe for concurrent use. Shards that
// grow at the same time may pass the bound by one request each.
type Memory struct {
	limit   int64
	used    atomic.Int64
	states  [stable + 1]atomic.Int64 // groups in each state
	offsets atomic.Int64
	// What follows only grows.
	commits, expired, rebalances atomic.Int64
}

// Counts is what the groups of all shards are and did. The groups are told by their state.
type Counts struct {
	Empty, PreparingRebalance, CompletingRebalance, Stable int64
	Offsets                                                int64 // committed offsets that are kept
	Commits, Expired, Rebalances                           int64 // since the start: offsets committed and expired, generations begun
}

// Counts may be called at any time; the numbers are not of one instant.
func (m *Memory) Counts() Counts {
	return Counts{
		Empty: m.states[empty].Load(), PreparingRebalance: m.states[preparing].Load(),
		CompletingRebalance: m.states[completing].Load(), Stable: m.states[stable].Load(),
		Offsets: m.offsets.Load(), Commits: m.commits.Load(), Expired: m.expired.Load(), Rebalances: m.rebalances.Load(),
	}
}

// NewMemory gives groups the bytes of limit. An eighth more is kept for members that are there already, so that a
// group which works goes on.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// Used is what all groups hold, in bytes.
func (m *Memory) Used() int64 { return m.used.Load() }

// Limit is what NewMemory was given.
func (m *Memory) Limit() int64 { return m.limit }

// charge keeps count of what the shard holds.
func (s *Shard) charge(delta int) {
	s.held += delta
	s.settings.Memory.used.Add(int64(delta))
}

// room tells whether the groups may grow by so many bytes; member, whether it is for one that is there already. What
// does not grow always has room.
func (s *Shard) room(extra int, member bool) bool {
	limit := s.settings.Memory.limit
	if member {
		limit += limit / 8
	}
	return extra <= 0 || s.settings.Memory.used.Load()+int64(extra) <= limit
}

// Release gives back what the shard holds; it is of no use afterwards.
func (s *Shard) Release() {
	for _, g := range s.groups {
		s.settings.Memory.states[g.state].Add(-1)
		for _, of := range g.offsets {
			s.settings.Memory.offsets.Add(-int64(len(of)))
		}
	}
	s.charge(-s.held)
	s.groups, s.timers = map[string]*group{}, timers{}
}

// enlist makes g one of the shard's groups; it may be one already.
func (s *Shard) enlist(g *group) {
	if old := s.groups[g.id]; old == nil {
		s.charge(groupOverhead + 2*len(g.id))
	} else {
		s.settings.Memory.states[old.state].Add(-1)
	}
	s.settings.Memory.states[g.state].Add(1)
	s.groups[g.id] = g
}

// strike takes a group out that has neither members, invitations nor offsets.
func (s *Shard) strike(g *group) {
	if s.groups[g.id] != g {
		return
	}
	s.charge(-groupOverhead - 2*len(g.id) - g.topicsWeight)
	g.topicsWeight = 0
	s.settings.Memory.states[g.state].Add(-1)
	delete(s.groups, g.id)
}

// enter puts one of the shard's groups into a state.
func (s *Shard) enter(g *group, st state) {
	s.settings.Memory.states[g.state].Add(-1)
	s.settings.Memory.states[st].Add(1)
	g.previous, g.state, g.since = g.state, st, s.nowMs()
}

// weighTopics counts the topics that the group subscribes to.
func (s *Shard) weighTopics(g *group) {
	n := 0
	for topic := range g.subscribed {
		n += subscribedOverhead + len(topic)
	}
	s.charge(n - g.topicsWeight)
	g.topicsWeight = n
}

func (s *Shard) resubscribe(g *group) {
	g.resubscribe()
	s.weighTopics(g)
}

func (s *Shard) setOffset(g *group, topic string, partition int32, c committed) {
	of := g.offsets[topic]
	if of == nil {
		of = map[int32]committed{}
		g.offsets[topic] = of
		s.charge(topicOverhead + len(topic))
	}
	if old, ok := of[partition]; ok {
		s.charge(-offsetOverhead - len(old.metadata))
	} else {
		s.settings.Memory.offsets.Add(1)
	}
	of[partition] = c
	s.charge(offsetOverhead + len(c.metadata))
}

func (s *Shard) forgetOffset(g *group, topic string, partition int32) {
	of := g.offsets[topic]
	old, ok := of[partition]
	if !ok {
		return
	}
	s.charge(-offsetOverhead - len(old.metadata))
	s.settings.Memory.offsets.Add(-1)
	if delete(of, partition); len(of) == 0 {
		s.charge(-topicOverhead - len(topic))
		delete(g.offsets, topic)
	}
}

// growth is by how much commits let the group grow, at most.
func (s *Shard) growth(g *group, commits []commit) int {
	n := 0
	if s.groups[g.id] == nil {
		n += groupOverhead + 2*len(g.id)
	}
	fresh := map[string]struct{}{}
	for _, c := range commits {
		of, known := g.offsets[c.topic]
		if _, counted := fresh[c.topic]; !known && !counted {
			fresh[c.topic] = struct{}{}
			n += topicOverhead + len(c.topic)
		}
		if old, ok := of[c.partition]; ok {
			n += len(c.metadata) - len(old.metadata)
		} else {
			n += offsetOverhead + len(c.metadata)
		}
	}
	return n
}
