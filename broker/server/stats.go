package server

import (
	"sync/atomic"
	"time"

	"github.com/stratabroker/strata/protocol"
)

// Stats is what a server has counted since it was made.
type Stats struct {
	Connections         int   // open now
	Accepted, Refused   int64 // refused: beyond a limit
	Malformed           int64 // connections closed for what they sent
	MemoryInUse         int64 // bytes charged to the budget now
	MemoryBudget        int64
	BytesIn, BytesOut   int64
	APIs                []APIStats // in key order, all served APIs
	SuppressedLogEvents int64      // reasons not logged for want of rate
}

// APIStats is one API's share.
type APIStats struct {
	Key      int16
	Name     string
	Requests int64 // started
	Replies  int64 // written, or done where none is expected
	// TotalTime sums, over Replies, the time from the frame's arrival to its reply being written.
	TotalTime  time.Duration
	ThrottleMs int64
}

type counters struct {
	accepted, refused, malformed, bytesIn, bytesOut, suppressed atomic.Int64
	apis                                                        map[int16]*apiCounters // never changed
}

type apiCounters struct{ requests, replies, nanos, throttleMs atomic.Int64 }

func newCounters() *counters {
	c := &counters{apis: map[int16]*apiCounters{}}
	for a := range protocol.APIs() {
		c.apis[a.Key] = &apiCounters{}
	}
	return c
}

// Stats may be called at any time.
func (s *Server) Stats() Stats {
	c := s.counters
	out := Stats{
		Accepted: c.accepted.Load(), Refused: c.refused.Load(), Malformed: c.malformed.Load(),
		MemoryInUse: s.budget.inUse(), MemoryBudget: s.budget.limit,
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(), SuppressedLogEvents: c.suppressed.Load(),
	}
	for a := range protocol.APIs() {
		n := c.apis[a.Key]
		out.APIs = append(out.APIs, APIStats{
			Key: a.Key, Name: a.Name, Requests: n.requests.Load(), Replies: n.replies.Load(),
			TotalTime: time.Duration(n.nanos.Load()), ThrottleMs: n.throttleMs.Load(),
		})
	}
	s.mu.Lock()
	out.Connections = len(s.conns)
	s.mu.Unlock()
	return out
}
