package api

import (
	"container/list"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tidwall/btree"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/replica"
)

// Epochs that ask for no session that there is; the others count requests (KIP-227).
const (
	newSession = 0
	noSession  = -1
)

// sessionIdle is how long a session must be unused, or old, before another may
// take its place, as in Kafka.
const sessionIdle = 2 * time.Minute

// What a session is charged: itself, and as many partitions as it had at one time.
const (
	sessionCost   = 1 << 10
	partitionCost = 384
)

// fetchSession is what a client need not say again at every Fetch.
type fetchSession struct {
	id         int32
	set        *replica.FetchSet
	usesIDs    bool // its topics are named by id
	privileged bool // a replica's
	created    time.Time

	epochs sync.Mutex // before the set's own lock, so that fetches are queued in the order of their epochs
	epoch  int32      // guarded by epochs: of the next request

	used       time.Time     // guarded by the cache's mu, as are the next ones
	byUse      *list.Element // nil when not in the cache
	size       int           // partitions
	peak       int           // partitions it had at one time
	toAll      bool          // in the cache's evictable
	toReplicas bool          // in the cache's evictableByReplicas
}

// begin queues a fetch if it is the session's next.
func (s *fetchSession) begin(epoch int32, usesIDs bool, q replica.FetchRequest) *kerr.Error {
	s.epochs.Lock()
	defer s.epochs.Unlock()
	switch {
	case epoch != s.epoch:
		return kerr.InvalidFetchSessionEpoch
	case usesIDs != s.usesIDs:
		return kerr.FetchSessionTopicIDError
	}
	s.epoch++
	if s.epoch < 0 { // after the largest comes 1
		s.epoch = 1
	}
	s.set.Queue(q)
	return nil
}

// cost is what the session is charged with that many partitions.
func cost(partitions int) int64 { return sessionCost + partitionCost*int64(partitions) }

// worthLess is the order in which sessions make room for others.
func worthLess(a, b *fetchSession) bool {
	switch {
	case a.privileged != b.privileged:
		return b.privileged
	case a.size != b.size:
		return a.size < b.size
	}
	return a.id < b.id
}

// sessionCache holds the fetch sessions of this broker, whatever connections
// they are used on. Which of them makes room for a new one is as in Kafka: one
// that was not used for sessionIdle; else the least worth of those that are older
// than that, if it is worth less than the new one. A new one of a replica may
// also take the place of a younger one that is none's.
//
// A client whose session is gone, or that gets none, goes on with full fetches.
// The methods return the sessions that were taken out, for the caller to close.
type sessionCache struct {
	slots  int
	memory int64 // bytes
	now    func() time.Time

	mu                  sync.Mutex // no other lock is taken under it
	sessions            map[int32]*fetchSession
	byUse               *list.List // least recently used first
	evictable           *btree.BTreeG[*fetchSession]
	evictableByReplicas *btree.BTreeG[*fetchSession]
	partitions          int
	charged             int64
	evictions           int64
}

func newSessionCache(slots int, memory int64, now func() time.Time) *sessionCache {
	noLocks := btree.Options{NoLocks: true}
	return &sessionCache{
		slots: slots, memory: memory, now: now, sessions: map[int32]*fetchSession{}, byUse: list.New(),
		evictable: btree.NewBTreeGOptions(worthLess, noLocks), evictableByReplicas: btree.NewBTreeGOptions(worthLess, noLocks),
	}
}

// find gives nil for a session that is not there.
func (c *sessionCache) find(id int32) *fetchSession {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[id]
}

// add makes a session of a set, nil when there is no room for it.
func (c *sessionCache) add(set *replica.FetchSet, usesIDs, privileged bool) (s *fetchSession, out []*fetchSession) {
	size := set.Len()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	s = &fetchSession{set: set, usesIDs: usesIDs, privileged: privileged, created: now, epoch: 1, size: size, peak: size}
	for len(c.sessions) >= c.slots || c.charged+cost(s.peak) > c.memory {
		old := c.leastWorth(s, now)
		if old == nil {
			return nil, out
		}
		c.takeOut(old)
		c.evictions++
		out = append(out, old)
	}
	for s.id == 0 || c.sessions[s.id] != nil {
		s.id = rand.Int32N(math.MaxInt32) + 1
	}
	c.sessions[s.id] = s
	s.byUse, s.used = c.byUse.PushBack(s), now
	c.partitions += s.size
	c.charged += cost(s.peak)
	c.rank(s, now)
	return s, out
}

// leastWorth is the session to make room for another, nil if there is none. It needs mu.
func (c *sessionCache) leastWorth(newer *fetchSession, now time.Time) *fetchSession {
	oldest := c.byUse.Front()
	if oldest == nil {
		return nil
	}
	if s := oldest.Value.(*fetchSession); now.Sub(s.used) > sessionIdle {
		return s
	}
	among := c.evictable
	if newer.privileged {
		among = c.evictableByReplicas
	}
	if s, ok := among.Min(); ok && worthLess(s, newer) {
		return s
	}
	return nil
}

// rank puts a session among those that it belongs to. It needs mu.
func (c *sessionCache) rank(s *fetchSession, now time.Time) {
	old := now.Sub(s.created) > sessionIdle
	if old && !s.toAll {
		s.toAll = true
		c.evictable.Set(s)
	}
	if (old || !s.privileged) && !s.toReplicas {
		s.toReplicas = true
		c.evictableByReplicas.Set(s)
	}
}

// unrank comes before every change of what worthLess compares. It needs mu.
func (c *sessionCache) unrank(s *fetchSession) {
	if s.toAll {
		c.evictable.Delete(s)
	}
	if s.toReplicas {
		c.evictableByReplicas.Delete(s)
	}
	s.toAll, s.toReplicas = false, false
}

// answered notes that a session was used, and how many partitions it has now.
// One that has none is at its end, and so is one that has become too large.
func (c *sessionCache) answered(s *fetchSession) (out []*fetchSession) {
	size := s.set.Len()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.byUse == nil:
		return nil
	case size == 0:
		c.takeOut(s)
		return []*fetchSession{s}
	}
	s.used = c.now()
	c.byUse.MoveToBack(s.byUse)
	if size != s.size {
		c.unrank(s)
		c.partitions += size - s.size
		c.charged += cost(max(s.peak, size)) - cost(s.peak)
		s.size, s.peak = size, max(s.peak, size)
	}
	c.rank(s, s.used)
	for c.charged > c.memory && s.byUse != nil {
		old := c.leastWorth(s, s.used)
		if old == nil {
			old = s
		}
		c.takeOut(old)
		c.evictions++
		out = append(out, old)
	}
	return out
}

// remove takes a session out; nil if it is not there.
func (c *sessionCache) remove(id int32) *fetchSession {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[id]
	if s != nil {
		c.takeOut(s)
	}
	return s
}

// takeOut needs mu.
func (c *sessionCache) takeOut(s *fetchSession) {
	c.unrank(s)
	c.byUse.Remove(s.byUse)
	s.byUse = nil
	delete(c.sessions, s.id)
	c.partitions -= s.size
	c.charged -= cost(s.peak)
}

// FetchSessions is what the fetch sessions of a broker come to.
type FetchSessions struct {
	Sessions, Partitions int
	Evictions            int64 // since the start
}

// FetchSessions is for metrics.
func (h *Handler) FetchSessions() FetchSessions {
	c := h.sessions
	c.mu.Lock()
	defer c.mu.Unlock()
	return FetchSessions{Sessions: len(c.sessions), Partitions: c.partitions, Evictions: c.evictions}
}
