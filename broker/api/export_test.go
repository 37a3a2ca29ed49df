package api

import (
	"time"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/broker/server"
	"github.com/stratabroker/strata/protocol"
)

// Produce begins a Produce of partitions of one topic and gives what answers
// each of them, as a Leader would.
func Produce(r *server.Request, acks replica.Acks, partitions int, timeout time.Duration) []func(replica.Appended, error) {
	req := &protocol.ProduceRequest{Topics: []protocol.ProduceTopic{{Name: "t", Partitions: make([]protocol.ProducePartition, partitions)}}}
	p := &produce{r: r, acks: acks, resp: newProduceResponse(req), pending: partitions + 1}
	out := make([]func(replica.Appended, error), partitions)
	for i := range out {
		at := &p.resp.Topics[0].Partitions[i]
		out[i] = func(a replica.Appended, err error) { p.done(at, a, err) }
	}
	p.started(timeout)
	return out
}

// SessionCache is a cache of fetch sessions, which are told apart by their ids.
type SessionCache struct{ c *sessionCache }

// NewSessionCache makes an empty one.
func NewSessionCache(slots int, memory int64, now func() time.Time) SessionCache {
	return SessionCache{newSessionCache(slots, memory, now)}
}

// Add makes a session of a set; 0 when there is no room. It tells how many went for it.
func (c SessionCache) Add(set *replica.FetchSet, privileged bool) (id int32, gone int) {
	s, out := c.c.add(set, false, privileged)
	if s == nil {
		return 0, len(out)
	}
	return s.id, len(out)
}

// Answered notes a use of a session and tells how many went for it.
func (c SessionCache) Answered(id int32) (gone int) {
	return len(c.c.answered(c.c.find(id)))
}

// Has tells whether a session is there.
func (c SessionCache) Has(id int32) bool { return c.c.find(id) != nil }

// Remove takes a session out.
func (c SessionCache) Remove(id int32) { c.c.remove(id) }

// Charged is the memory that the sessions count for, and its parts.
func (c SessionCache) Charged() int64 { return c.c.charged }

// SessionCost is what a session of that many partitions is charged.
func SessionCost(partitions int) int64 { return cost(partitions) }

// SetSessionEpoch makes epoch that of the session's next request.
func (h *Handler) SetSessionEpoch(id, epoch int32) { h.sessions.find(id).epoch = epoch }
