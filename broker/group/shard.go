package group

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

const (
	// freshJoinTimeout is how long the JoinGroup of a new member may wait (Kafka's
	// group.new.member.join.timeout.ms): beyond that its client has long tried again.
	freshJoinTimeout     = 5 * time.Minute
	defaultMaxBatchBytes = 1 << 20
	defaultMemory        = 64 << 20
	// recordOverhead bounds the bytes of a record beside key and value.
	recordOverhead = 32
)

// Shard is all groups of one partition. It is not safe for concurrent use.
//
// To load it: Replay every record of the partition, then Loaded. Then events
// come in, each with the time, which never goes back. A reply may come with
// the output of a later event. What an event changed stays changed: a caller
// that could not write the records must make a new Shard from the partition.
type Shard struct {
	settings Settings
	groups   map[string]*group
	timers   timers
	sweep    timer // looks for what expired
	held     int   // what groups, members, invitations and offsets hold; the shard's part of settings.Memory

	now time.Time // of the event being handled
	out Output
}

// NewShard is an empty shard.
func NewShard(s Settings) *Shard {
	if s.MaxBatchBytes <= 0 {
		s.MaxBatchBytes = defaultMaxBatchBytes
	}
	if s.Memory == nil {
		s.Memory = NewMemory(defaultMemory)
	}
	if s.MaxSize <= 0 {
		s.MaxSize = 1<<31 - 1
	}
	return &Shard{settings: s, groups: map[string]*group{}}
}

// Deadline is the time at which Expire is next due; false while nothing waits for time.
func (s *Shard) Deadline() (time.Time, bool) { return s.timers.next() }

// Expire handles all deadlines that have come.
func (s *Shard) Expire(now time.Time) Output {
	s.now = now
	for t := s.timers.expired(now); t != nil; t = s.timers.expired(now) {
		t.fire()
	}
	return s.take()
}

// Loaded ends the load: sessions of the members begin anew, and offsets of topics that
// are gone are removed (a topic may have been deleted while nobody led the partition). With nil topics that is left
// to TopicsDeleted, and nothing is written.
func (s *Shard) Loaded(now time.Time, topics Topics) Output {
	s.now = now
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[id]
		for _, m := range g.members {
			s.restartSession(g, m)
		}
		if len(g.members) > int(s.settings.MaxSize) {
			s.prepareRebalance(g, "loaded with more members than group.max.size")
		}
		if topics != nil {
			s.forgetTopics(g, topics, nil)
		}
	}
	if len(s.groups) > 0 {
		s.sweepBy(now)
	}
	return s.take()
}

// TopicsDeleted removes what was committed for topics that topics no longer
// has, or has under the same name with another id; nil names stands for all.
func (s *Shard) TopicsDeleted(now time.Time, topics Topics, names map[string]struct{}) Output {
	s.now = now
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		s.forgetTopics(s.groups[id], topics, names)
	}
	return s.take()
}

// take hands out what the event led to.
func (s *Shard) take() Output {
	out := s.out
	s.out = Output{}
	return out
}

func (s *Shard) nowMs() protocol.Timestamp { return protocol.Timestamp(s.now.UnixMilli()) }

func (s *Shard) record(r Record) { s.out.Records = append(s.out.Records, r) }

func (s *Shard) reply(w waiter, r kmsg.Response) {
	r.SetVersion(w.version)
	s.out.Replies = append(s.out.Replies, Reply{Token: w.token, Response: r})
}

func (s *Shard) note(g *group, memberID, format string, args ...any) {
	s.out.Notes = append(s.out.Notes, Note{
		Group: g.id, Member: memberID, Generation: g.generation, State: g.state.String(),
		What: fmt.Sprintf(format, args...),
	})
}

// fits tells whether the records go into one batch.
func (s *Shard) fits(records ...Record) bool {
	total := 0
	for _, r := range records {
		total += recordOverhead + len(r.Key) + len(r.Value)
	}
	return total+recordOverhead*2 <= s.settings.MaxBatchBytes
}

// forgetIfUnused keeps groups that were only asked about out of memory.
func (s *Shard) forgetIfUnused(g *group) {
	if g.unused() {
		s.strike(g)
	}
}
