package group

import (
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// First versions of OffsetCommit and OffsetFetch that ...
const (
	commitNoGroupVersion = 9  // ... say GROUP_ID_NOT_FOUND
	topicIDVersion       = 10 // ... name topics by id
)

// maxRetentionMs keeps the retention that a commit asks for from overflowing: 1,000 years.
const maxRetentionMs = 1000 * 365 * 24 * 3600 * 1000

// OffsetCommit handles an OffsetCommit.
func (s *Shard) OffsetCommit(now time.Time, token Token, topics Topics, req *kmsg.OffsetCommitRequest) Output {
	s.now = now
	resp, commits := s.readCommits(topics, req)
	if len(commits) > 0 {
		if err := s.commit(req, commits); err != nil {
			for _, c := range commits {
				resp.Topics[c.topicAt].Partitions[c.partitionAt].ErrorCode = err.Code
			}
		}
	}
	s.reply(waiter{token: token, version: req.Version}, resp)
	return s.take()
}

// commit is one partition of an OffsetCommit that can be carried out, and where in the
// response its result goes.
type commit struct {
	topic                string
	partition            int32
	topicAt, partitionAt int
	committed
}

// readCommits makes the response with the errors of single partitions, and lists the others.
func (s *Shard) readCommits(topics Topics, req *kmsg.OffsetCommitRequest) (*kmsg.OffsetCommitResponse, []commit) {
	resp := kmsg.NewPtrOffsetCommitResponse()
	expire := int64(-1)
	if req.RetentionTimeMillis >= 0 && req.Version <= 4 {
		expire = int64(s.nowMs()) + min(req.RetentionTimeMillis, maxRetentionMs)
	}
	var commits []commit
	for _, t := range req.Topics {
		topic, err := lookup(topics, req.Version, t.Topic, t.TopicID)
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			c := commit{
				topic: topic.Name, partition: p.Partition,
				topicAt: len(resp.Topics), partitionAt: len(rt.Partitions),
				committed: committed{
					offset: p.Offset, leaderEpoch: -1, commitMs: int64(s.nowMs()), expireMs: expire, topic: topic.ID,
				},
			}
			if req.Version >= 6 {
				c.leaderEpoch = p.LeaderEpoch
			}
			if p.Metadata != nil {
				c.metadata = *p.Metadata
			}
			switch {
			case err != nil:
				rp.ErrorCode = err.Code
			case p.Partition < 0 || p.Partition >= topic.Partitions:
				rp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			case len(c.metadata) > int(s.settings.OffsetMetadataMaxBytes):
				rp.ErrorCode = kerr.OffsetMetadataTooLarge.Code
			default:
				commits = append(commits, c)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, commits
}

func lookup(topics Topics, version int16, name string, id protocol.TopicID) (metadata.Topic, *kerr.Error) {
	if version >= topicIDVersion {
		if t, ok := topics.TopicByID(id); ok {
			return t, nil
		}
		return metadata.Topic{}, kerr.UnknownTopicID
	}
	if t, ok := topics.Topic(name); ok {
		return t, nil
	}
	return metadata.Topic{}, kerr.UnknownTopicOrPartition
}

// commit checks the group's side of an OffsetCommit and carries it out.
func (s *Shard) commit(req *kmsg.OffsetCommitRequest, commits []commit) *kerr.Error {
	if len(req.Group) > maxString {
		return kerr.InvalidGroupID
	}
	g := s.groups[req.Group]
	if g == nil {
		if req.Generation >= 0 {
			if req.Version >= commitNoGroupVersion {
				return kerr.GroupIDNotFound
			}
			return kerr.IllegalGeneration
		}
		g = newGroup(req.Group) // it only stores offsets
	}
	m, err := g.committing(req)
	if err != nil {
		return err
	}
	records := make([]Record, 0, len(commits))
	for _, c := range commits {
		records = append(records, offsetRecord(g.id, c.topic, c.partition, c.committed))
	}
	if !s.fits(records...) {
		return kerr.InvalidCommitOffsetSize
	}
	if !s.room(s.growth(g, commits), m != nil) {
		s.note(g, "", "refused a commit: all groups hold %d bytes, %d are allowed", s.settings.Memory.Used(), s.settings.Memory.limit)
		return kerr.CoordinatorNotAvailable // is tried again; offsets that are there already may be committed
	}
	if m != nil {
		s.restartSession(g, m)
	}
	s.enlist(g)
	s.out.Records = append(s.out.Records, records...)
	s.settings.Memory.commits.Add(int64(len(commits)))
	for _, c := range commits {
		if c.expireMs >= 0 {
			c.leaderEpoch, c.committed.topic = -1, protocol.TopicID{} // such a record has no room for them
			s.sweepBy(s.atMs(c.expireMs))
		}
		s.setOffset(g, c.topic, c.partition, c.committed)
	}
	s.sweepBy(s.now.Add(s.settings.OffsetsRetention))
	return nil
}

// committing gives the member that commits, nil for one who only stores offsets. That is
// allowed while the group has no members.
func (g *group) committing(req *kmsg.OffsetCommitRequest) (*member, *kerr.Error) {
	if req.Generation < 0 && g.state == empty {
		return nil, nil
	}
	if req.Generation < 0 && req.MemberID == "" && req.InstanceID == nil {
		return nil, kerr.UnknownMemberID
	}
	m, err := g.find(req.MemberID, req.InstanceID)
	switch {
	case err != nil:
		return nil, err
	case req.Generation != g.generation:
		return nil, kerr.IllegalGeneration
	case g.state == completing:
		// It knows the generation, but its assignment is not decided.
		return nil, kerr.RebalanceInProgress
	}
	return m, nil
}

// OffsetFetch handles the groups of an OffsetFetch that are of this shard; version is the
// request's. The reply's Response is an OffsetFetchResponse with them in Groups, in their
// order and whatever the version. There are no transactions that could make an offset
// unstable.
func (s *Shard) OffsetFetch(
	now time.Time, token Token, topics Topics, version int16, groups ...kmsg.OffsetFetchRequestGroup,
) Output {
	s.now = now
	resp := kmsg.NewPtrOffsetFetchResponse()
	for _, req := range groups {
		rg := kmsg.NewOffsetFetchResponseGroup()
		rg.Group = req.Group
		g := s.groups[req.Group]
		if g == nil {
			g = newGroup(req.Group)
		}
		if req.Topics == nil {
			rg.Topics = g.fetchAll(topics, version)
		}
		for _, t := range req.Topics {
			rg.Topics = append(rg.Topics, g.fetch(topics, version, t))
		}
		resp.Groups = append(resp.Groups, rg)
	}
	s.reply(waiter{token: token, version: version}, resp)
	return s.take()
}

// stale tells that the offset was committed for another topic of the same name.
func (c committed) stale(id protocol.TopicID) bool {
	return !c.topic.IsZero() && !id.IsZero() && c.topic != id
}

func (g *group) fetch(
	topics Topics, version int16, t kmsg.OffsetFetchRequestGroupTopic,
) kmsg.OffsetFetchResponseGroupTopic {
	rt := kmsg.NewOffsetFetchResponseGroupTopic()
	rt.Topic, rt.TopicID = t.Topic, t.TopicID
	topic, err := lookup(topics, version, t.Topic, t.TopicID)
	name := t.Topic
	if version >= topicIDVersion {
		name = topic.Name
	} else {
		err = nil // offsets of a name are given whether the topic exists or not
	}
	for _, partition := range t.Partitions {
		rp := fetched(partition, committed{offset: -1, leaderEpoch: -1})
		if c, ok := g.offsets[name][partition]; ok && err == nil && !c.stale(topic.ID) {
			rp = fetched(partition, c)
		}
		if err != nil {
			rp.ErrorCode = err.Code
		}
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt
}

func (g *group) fetchAll(topics Topics, version int16) []kmsg.OffsetFetchResponseGroupTopic {
	out := []kmsg.OffsetFetchResponseGroupTopic{}
	for _, name := range slices.Sorted(maps.Keys(g.offsets)) {
		topic, exists := topics.Topic(name)
		if version >= topicIDVersion && !exists {
			continue // there is no way to name it
		}
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic, rt.TopicID = name, topic.ID
		of := g.offsets[name]
		for _, partition := range slices.Sorted(maps.Keys(of)) {
			if c := of[partition]; !c.stale(topic.ID) {
				rt.Partitions = append(rt.Partitions, fetched(partition, c))
			}
		}
		if len(rt.Partitions) > 0 {
			out = append(out, rt)
		}
	}
	return out
}

func fetched(partition int32, c committed) kmsg.OffsetFetchResponseGroupTopicPartition {
	rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = partition, c.offset, c.leaderEpoch, &c.metadata
	return rp
}

// SetBack sets committed offsets that lie beyond the end of their partition back to it: after a restore new
// records come to where they point. end is false for a partition that is not here.
func (s *Shard) SetBack(now time.Time, topics Topics, end func(protocol.PartitionKey) (protocol.Offset, bool)) Output {
	s.now = now
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[id]
		for _, name := range slices.Sorted(maps.Keys(g.offsets)) {
			topic, exists := topics.Topic(name)
			for _, partition := range slices.Sorted(maps.Keys(g.offsets[name])) {
				c := g.offsets[name][partition]
				last, here := end(protocol.PartitionKey{Topic: topic.ID, Partition: partition})
				if !exists || !here || c.stale(topic.ID) || c.offset <= int64(last) {
					continue
				}
				s.note(g, "", "offset of %s-%d set back from %d to %d, where the restored partition ends", name, partition, c.offset, last)
				c.offset, c.leaderEpoch = int64(last), -1
				s.record(offsetRecord(g.id, name, partition, c))
				s.setOffset(g, name, partition, c)
			}
		}
	}
	return s.take()
}
