package group

import (
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Delete handles the part of a DeleteGroups that is about groups of this shard; ids are
// unique. The reply's Response is a DeleteGroupsResponse with them in the order of ids.
// A group's tombstone comes after those of its offsets: a write that ends between leaves
// a group that can be deleted again.
func (s *Shard) Delete(now time.Time, token Token, version int16, ids []string) Output {
	s.now = now
	resp := kmsg.NewPtrDeleteGroupsResponse()
	for _, id := range ids {
		r := kmsg.NewDeleteGroupsResponseGroup()
		r.Group = id
		g := s.groups[id]
		switch {
		case g == nil:
			r.ErrorCode, r.ErrorMessage = kerr.GroupIDNotFound.Code, notFound(id)
		case g.state != empty:
			r.ErrorCode, r.ErrorMessage = kerr.NonEmptyGroup.Code, kmsg.StringPtr("The group is not empty.")
		default:
			s.delete(g)
		}
		resp.Groups = append(resp.Groups, r)
	}
	s.reply(waiter{token: token, version: version}, resp)
	return s.take()
}

// delete removes an empty group with all that it committed. Those invited to it are told
// UNKNOWN_MEMBER_ID when they come.
func (s *Shard) delete(g *group) {
	for _, topic := range slices.Sorted(maps.Keys(g.offsets)) {
		for _, partition := range slices.Sorted(maps.Keys(g.offsets[topic])) {
			s.tombstone(g, topic, partition)
		}
	}
	if g.written {
		s.record(Record{Key: groupKey(g.id)})
	}
	for id := range g.invited {
		s.uninvite(g, id)
	}
	s.strike(g)
	s.note(g, "", "was deleted")
}

// OffsetDelete handles an OffsetDelete (KIP-496): of topics that no member subscribes to.
func (s *Shard) OffsetDelete(now time.Time, token Token, topics Topics, req *kmsg.OffsetDeleteRequest) Output {
	s.now = now
	resp := kmsg.NewPtrOffsetDeleteResponse()
	if g, err := s.forgetting(req.Group); err != nil {
		resp.ErrorCode = err.Code
	} else {
		for _, t := range req.Topics {
			if len(t.Partitions) > 0 { // Kafka leaves out the others
				resp.Topics = append(resp.Topics, s.offsetDelete(g, topics, t))
			}
		}
		s.settleForgotten(g)
	}
	s.reply(waiter{token: token, version: req.Version}, resp)
	return s.take()
}

// forgetting gives the group whose offsets may be deleted: one of consumers, whose
// subscriptions are known, or one without members.
func (s *Shard) forgetting(id string) (*group, *kerr.Error) {
	g := s.groups[id]
	switch {
	case id == "":
		return nil, kerr.InvalidGroupID
	case g == nil:
		return nil, kerr.GroupIDNotFound
	case g.state != empty && g.protocolType != consumerType:
		return nil, kerr.NonEmptyGroup
	}
	return g, nil
}

func (s *Shard) offsetDelete(g *group, topics Topics, t kmsg.OffsetDeleteRequestTopic) kmsg.OffsetDeleteResponseTopic {
	rt := kmsg.NewOffsetDeleteResponseTopic()
	rt.Topic = t.Topic
	topic, _ := topics.Topic(t.Topic) // one that does not exist has no partitions
	for _, p := range t.Partitions {
		rp := kmsg.NewOffsetDeleteResponseTopicPartition()
		rp.Partition = p.Partition
		switch {
		case p.Partition < 0 || p.Partition >= topic.Partitions:
			rp.ErrorCode = kerr.UnknownTopicOrPartition.Code
		case g.subscribes(t.Topic):
			rp.ErrorCode = kerr.GroupSubscribedToTopic.Code
		default:
			if _, ok := g.offsets[t.Topic][p.Partition]; ok {
				s.tombstone(g, t.Topic, p.Partition)
			}
		}
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt
}
