package group

import (
	"maps"
	"slices"
	"time"
)

// sweepBy makes sure that expired offsets and groups are looked for at the given time, but
// not before ExpiryInterval has passed.
func (s *Shard) sweepBy(at time.Time) {
	if soonest := s.now.Add(max(s.settings.ExpiryInterval, time.Second)); at.Before(soonest) {
		at = soonest
	}
	if !s.sweep.armed() || at.Before(s.sweep.at) {
		s.timers.arm(&s.sweep, at, s.expire)
	}
}

// atMs turns a wall time into one that compares with s.now, a century ahead at most.
func (s *Shard) atMs(ms int64) time.Time {
	const century = 100 * 365 * 24 * time.Hour
	ahead := max(ms, 0) - s.now.UnixMilli()
	return s.now.Add(time.Duration(min(ahead, century.Milliseconds())) * time.Millisecond)
}

// expire removes offsets that outlived their retention (KIP-211) and groups that have
// neither members nor offsets, and sets the time of the next look: when the next of
// them may expire, never if none will.
func (s *Shard) expire() {
	var next int64
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[id]
		if at := s.expireOffsets(g); at > 0 && (next == 0 || at < next) {
			next = at
		}
		if g.state == empty && len(g.offsets) == 0 && len(g.invited) == 0 {
			if g.written {
				s.record(Record{Key: groupKey(id)})
			}
			s.strike(g)
		}
	}
	if next > 0 {
		s.sweepBy(s.atMs(next))
	}
}

// expireOffsets removes what expired and says when the next offset will, 0 for never.
func (s *Shard) expireOffsets(g *group) (next int64) {
	now := s.now.UnixMilli()
	for _, topic := range slices.Sorted(maps.Keys(g.offsets)) {
		if g.subscribes(topic) {
			continue
		}
		of := g.offsets[topic]
		for _, partition := range slices.Sorted(maps.Keys(of)) {
			at, ok := s.expiry(g, of[partition])
			switch {
			case !ok:
			case at <= now:
				s.tombstone(g, topic, partition)
				s.settings.Memory.expired.Add(1)
			case next == 0 || at < next:
				next = at
			}
		}
	}
	return next
}

// expiry is when an offset expires; false while it cannot. The retention counts from the
// commit, and in a group whose members left from then. (Kafka takes only the latter, and
// so drops an offset that an administrator has just set in a long empty group.)
func (s *Shard) expiry(g *group, c committed) (int64, bool) {
	simple := g.protocolType == ""
	if !simple && g.state != empty && (g.state != stable || g.subscribed == nil) {
		return 0, false
	}
	if c.expireMs >= 0 {
		return c.expireMs, true
	}
	from := c.commitMs
	if !simple && g.state == empty {
		from = max(from, int64(g.since))
	}
	return from + s.settings.OffsetsRetention.Milliseconds(), true
}

func (s *Shard) tombstone(g *group, topic string, partition int32) {
	s.record(Record{Key: offsetKey(g.id, topic, partition)})
	s.forgetOffset(g, topic, partition)
}

// forgetTopics removes offsets of topics that do not exist, of the given names only
// (nil for all).
func (s *Shard) forgetTopics(g *group, topics Topics, names map[string]struct{}) {
	for _, name := range slices.Sorted(maps.Keys(g.offsets)) {
		if _, asked := names[name]; names != nil && !asked {
			continue
		}
		topic, exists := topics.Topic(name)
		of := g.offsets[name]
		for _, partition := range slices.Sorted(maps.Keys(of)) {
			// An offset without a topic id may be of the topic that was deleted or of one made
			// since; if the name is taken it stays.
			if c := of[partition]; !exists || c.stale(topic.ID) {
				s.tombstone(g, name, partition)
			}
		}
	}
	s.settleForgotten(g)
}

// settleForgotten looks after a group that lost offsets: an empty one without any ends.
func (s *Shard) settleForgotten(g *group) {
	if g.state == empty && len(g.offsets) == 0 {
		s.sweepBy(s.now)
	}
	s.forgetIfUnused(g)
}
