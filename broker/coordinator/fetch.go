package coordinator

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/group"
)

// First versions of OffsetFetch that name several groups, and that have an error code
// above the partitions'.
const (
	groupsVersion     = 8
	groupErrorVersion = 2
)

// OffsetFetch implements API.
func (c *Coordinator) OffsetFetch(
	_ Client, req *kmsg.OffsetFetchRequest, reply func(*kmsg.OffsetFetchResponse),
) {
	groups := req.Groups
	if req.Version < groupsVersion {
		groups = []kmsg.OffsetFetchRequestGroup{oneGroup(req)}
	}
	type (
		ask    = kmsg.OffsetFetchRequestGroup
		result = kmsg.OffsetFetchResponseGroup
	)
	fanOut(c, uniqueAsks(groups), func(g ask) string { return g.Group }, parts[ask, result]{
		decide: func(s *group.Shard, now time.Time, t group.Token, some []ask) group.Output {
			return s.OffsetFetch(now, t, c.cfg.Topics(), req.Version, some...)
		},
		results: func(r kmsg.Response) []result { return r.(*kmsg.OffsetFetchResponse).Groups },
		refuse:  func(g ask, why refusal) result { return refusedFetch(req.Version, g, why) },
		reply:   func(all []result) { reply(fetched(req.Version, all)) },
	})
}

// uniqueAsks names each group once, in it each topic once and in that each partition: the answer to a partition may be
// some thousand times as large as the question. Of a group named twice the first counts; topics of one name are one.
func uniqueAsks(groups []kmsg.OffsetFetchRequestGroup) []kmsg.OffsetFetchRequestGroup {
	type key struct {
		name string
		id   [16]byte
	}
	out := make([]kmsg.OffsetFetchRequestGroup, 0, len(groups))
	seen := make(map[string]struct{}, len(groups))
	for _, g := range groups {
		if _, twice := seen[g.Group]; twice {
			continue
		}
		seen[g.Group] = struct{}{}
		if g.Topics != nil {
			at, topics := map[key]int{}, make([]kmsg.OffsetFetchRequestGroupTopic, 0, len(g.Topics))
			for _, t := range g.Topics {
				k := key{t.Topic, t.TopicID}
				if i, ok := at[k]; ok {
					topics[i].Partitions = append(slices.Clip(topics[i].Partitions), t.Partitions...)
					continue
				}
				at[k] = len(topics)
				topics = append(topics, t)
			}
			for i := range topics {
				topics[i].Partitions = unique(topics[i].Partitions)
			}
			g.Topics = topics
		}
		out = append(out, g)
	}
	return out
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

// fetched is the answer to an OffsetFetch, in the form of its version.
func fetched(version int16, groups []kmsg.OffsetFetchResponseGroup) *kmsg.OffsetFetchResponse {
	r := kmsg.NewPtrOffsetFetchResponse()
	r.Version = version
	if version >= groupsVersion {
		r.Groups = groups
		return r
	}
	r.ErrorCode = groups[0].ErrorCode
	for _, t := range groups[0].Topics {
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
	return r
}

func refusedFetch(version int16, g kmsg.OffsetFetchRequestGroup, why refusal) kmsg.OffsetFetchResponseGroup {
	r := kmsg.NewOffsetFetchResponseGroup()
	r.Group, r.ErrorCode = g.Group, refusalCode(why)
	if version >= groupErrorVersion {
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
