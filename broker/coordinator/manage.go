package coordinator

import (
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/group"
)

// DescribeGroups implements API. A group that is named twice is described once: members
// may be large, and a request could ask for the same ones without end.
func (c *Coordinator) DescribeGroups(
	_ Client, req *kmsg.DescribeGroupsRequest, reply func(*kmsg.DescribeGroupsResponse),
) {
	type result = kmsg.DescribeGroupsResponseGroup
	fanOut(c, unique(req.Groups), itself, parts[string, result]{
		decide: func(s *group.Shard, now time.Time, t group.Token, ids []string) group.Output {
			return s.Describe(now, t, req.Version, ids)
		},
		results: func(r kmsg.Response) []result { return r.(*kmsg.DescribeGroupsResponse).Groups },
		refuse: func(id string, why refusal) result {
			r := kmsg.NewDescribeGroupsResponseGroup()
			r.Group, r.ErrorCode = id, refusalCode(why)
			return r
		},
		reply: func(all []result) {
			resp := kmsg.NewPtrDescribeGroupsResponse()
			resp.Version, resp.Groups = req.Version, all
			reply(resp)
		},
	})
}

// DeleteGroups implements API.
func (c *Coordinator) DeleteGroups(
	_ Client, req *kmsg.DeleteGroupsRequest, reply func(*kmsg.DeleteGroupsResponse),
) {
	type result = kmsg.DeleteGroupsResponseGroup
	fanOut(c, unique(req.Groups), itself, parts[string, result]{
		writes: true,
		decide: func(s *group.Shard, now time.Time, t group.Token, ids []string) group.Output {
			return s.Delete(now, t, req.Version, ids)
		},
		results: func(r kmsg.Response) []result { return r.(*kmsg.DeleteGroupsResponse).Groups },
		refuse: func(id string, why refusal) result {
			r := kmsg.NewDeleteGroupsResponseGroup()
			r.Group, r.ErrorCode = id, refusalCode(why)
			return r
		},
		reply: func(all []result) {
			resp := kmsg.NewPtrDeleteGroupsResponse()
			resp.Version, resp.Groups = req.Version, all
			reply(resp)
		},
	})
}

// OffsetDelete implements API.
func (c *Coordinator) OffsetDelete(
	_ Client, req *kmsg.OffsetDeleteRequest, reply func(*kmsg.OffsetDeleteResponse),
) {
	c.submitMember(req.Group, operation{
		writes: true,
		decide: func(g *group.Shard, now time.Time, t group.Token) group.Output {
			return g.OffsetDelete(now, t, c.cfg.Topics(), req)
		},
		reply: func(r kmsg.Response) { reply(r.(*kmsg.OffsetDeleteResponse)) },
		refuse: func(why refusal) {
			r := kmsg.NewPtrOffsetDeleteResponse()
			r.Version, r.ErrorCode = req.Version, refusalCode(why)
			reply(r)
		},
	})
}

// ListGroups implements API. While a shard cannot tell its groups the answer is an error:
// a list that lacks some would look whole.
func (c *Coordinator) ListGroups(_ Client, req *kmsg.ListGroupsRequest, reply func(*kmsg.ListGroupsResponse)) {
	l := &listing{resp: kmsg.NewPtrListGroupsResponse(), reply: reply, left: 1}
	l.resp.Version = req.Version
	c.mu.Lock()
	shards := make([]*shard, 0, len(c.shards))
	for _, s := range c.shards {
		shards = append(shards, s)
	}
	c.mu.Unlock()
	l.left += len(shards)
	for _, s := range shards {
		s.submit(operation{
			decide: func(g *group.Shard, now time.Time, t group.Token) group.Output { return g.List(now, t, req) },
			reply:  func(r kmsg.Response) { l.add(r.(*kmsg.ListGroupsResponse).Groups, 0) },
			refuse: func(why refusal) {
				code := kerr.CoordinatorLoadInProgress.Code
				if why == moved && s.gone() {
					code = 0 // another broker tells them
				}
				l.add(nil, code)
			},
		})
	}
	l.add(nil, 0)
}

// listing gathers the answers to one ListGroups.
type listing struct {
	mu    sync.Mutex
	resp  *kmsg.ListGroupsResponse // guarded by mu
	left  int                      // answers to come; guarded by mu
	reply func(*kmsg.ListGroupsResponse)
}

func (l *listing) add(groups []kmsg.ListGroupsResponseGroup, code int16) {
	l.mu.Lock()
	l.resp.Groups = append(l.resp.Groups, groups...)
	if code != 0 {
		l.resp.ErrorCode = code
	}
	l.left--
	last := l.left == 0
	l.mu.Unlock()
	if !last {
		return
	}
	if l.resp.ErrorCode != 0 {
		l.resp.Groups = nil
	}
	l.reply(l.resp)
}

func itself(id string) string { return id }

// unique gives each id once, in the order of their first mention.
func unique[T comparable](ids []T) []T {
	out := make([]T, 0, len(ids))
	seen := make(map[T]struct{}, len(ids))
	for _, id := range ids {
		if _, ok := seen[id]; !ok {
			seen[id] = struct{}{}
			out = append(out, id)
		}
	}
	return out
}
