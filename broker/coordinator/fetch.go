package coordinator

import (
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/group"
)

// First versions of OffsetFetch that name several groups, and that have an error code
// above the partitions'.
const (
	groupsVersion     = 8
	groupErrorVersion = 2
)

// OffsetFetch implements API. The groups of one request may be in several shards; the
// reply goes when the last has answered.
func (c *Coordinator) OffsetFetch(
	_ Client, req *kmsg.OffsetFetchRequest, reply func(*kmsg.OffsetFetchResponse),
) {
	groups := req.Groups
	if req.Version < groupsVersion {
		groups = []kmsg.OffsetFetchRequestGroup{oneGroup(req)}
	}
	f := &fetching{req: req, groups: make([]kmsg.OffsetFetchResponseGroup, len(groups)), reply: reply}
	if len(groups) == 0 {
		f.finish()
		return
	}
	f.left.Store(int64(len(groups)))
	for i := range groups {
		g := &groups[i]
		c.submit(g.Group, operation{
			decide: func(s *group.Shard, now time.Time, t group.Token) group.Output {
				return s.OffsetFetch(now, t, c.cfg.Topics(), req.Version, g)
			},
			reply:  func(r kmsg.Response) { f.done(i, r.(*kmsg.OffsetFetchResponse).Groups[0]) },
			refuse: func(why refusal) { f.done(i, f.refused(g, why)) },
		})
	}
}

// oneGroup is the one group that an old request is about, in the new form.
func oneGroup(req *kmsg.OffsetFetchRequest) kmsg.OffsetFetchRequestGroup {
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = req.Group
	if req.Topics != nil {
		g.Topics = make([]kmsg.OffsetFetchRequestGroupTopic, len(req.Topics))
	}
	for i, t := range req.Topics {
		g.Topics[i].Topic, g.Topics[i].Partitions = t.Topic, t.Partitions
	}
	return g
}

// fetching gathers the answers to one OffsetFetch.
type fetching struct {
	req    *kmsg.OffsetFetchRequest
	groups []kmsg.OffsetFetchResponseGroup // each entry is written once, by done
	left   atomic.Int64
	reply  func(*kmsg.OffsetFetchResponse)
}

func (f *fetching) done(i int, g kmsg.OffsetFetchResponseGroup) {
	f.groups[i] = g
	if f.left.Add(-1) == 0 {
		f.finish()
	}
}

func (f *fetching) finish() {
	r := kmsg.NewPtrOffsetFetchResponse()
	r.Version = f.req.Version
	if f.req.Version >= groupsVersion {
		r.Groups = f.groups
		f.reply(r)
		return
	}
	r.ErrorCode = f.groups[0].ErrorCode
	for _, t := range f.groups[0].Topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch = p.Partition, p.Offset, p.LeaderEpoch
			rp.Metadata, rp.ErrorCode = p.Metadata, p.ErrorCode
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	f.reply(r)
}

func (f *fetching) refused(g *kmsg.OffsetFetchRequestGroup, why refusal) kmsg.OffsetFetchResponseGroup {
	r := kmsg.NewOffsetFetchResponseGroup()
	r.Group, r.ErrorCode = g.Group, kerr.CoordinatorLoadInProgress.Code
	if why == moved {
		r.ErrorCode = kerr.NotCoordinator.Code
	}
	if f.req.Version >= groupErrorVersion {
		return r
	}
	for _, t := range g.Topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch = p, -1, -1
			rp.Metadata, rp.ErrorCode = new(string), r.ErrorCode
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	return r
}
