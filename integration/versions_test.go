package integration_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/protocol"
)

// TestEveryVersionWorks writes, reads and commits in each version of each API that clients live by.
func TestEveryVersionWorks(t *testing.T) {
	t.Parallel()
	broker := harness.Start(t, harness.Options{})
	s := &sweep{odd: &odd{wire: dialWire(t, broker.Addr), addr: broker.Addr}}
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "swept", 1, 1
	if got := s.create(topic); got != "NONE" {
		t.Fatal(got)
	}
	metadata := at(12, kmsg.NewPtrMetadataRequest())
	metadata.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic.Topic}}
	s.id = must[*kmsg.MetadataResponse](s.wire, metadata).Topics[0].TopicID
	for api := range protocol.APIs() {
		for version := api.Min; version <= api.Max; version++ {
			if got, want := s.ask(api.Key, version); got != want {
				t.Errorf("%s version %d: %s, want %s", api.Name, version, got, want)
			}
		}
	}
	for version := int16(0); version <= 10; version++ {
		s.group(version)
	}
}

// sweep asks for one topic in many versions.
type sweep struct {
	*odd
	id   [16]byte
	next int64 // offset of the next record
}

// ask sends an API's request, where it has one here, and returns what came and what should have.
func (s *sweep) ask(key, version int16) (got, want string) {
	switch key {
	case protocol.KeyProduce:
		req := at(version, s.produceRequest("swept", 0, batchAt(s.next)))
		if version >= 13 {
			req.Topics[0].Topic, req.Topics[0].TopicID = "", s.id
		}
		s.next++
		return s.sendProduce(req), fmt.Sprintf("NONE offset %d", s.next-1)
	case protocol.KeyFetch:
		return s.fetch(version), fmt.Sprintf("NONE high watermark %d, %d bytes", s.next, int(s.next)*len(batchAt(0)))
	case protocol.KeyListOffsets:
		return list(version, "swept", s.next-1)(s.odd), fmt.Sprintf("NONE offset %d timestamp %d epoch %d", s.next-1, s.next-1, map[bool]int{false: -1}[version >= 4])
	case protocol.KeyMetadata:
		req := at(version, kmsg.NewPtrMetadataRequest())
		req.Topics = []kmsg.MetadataRequestTopic{{Topic: ptr("swept")}}
		resp := must[*kmsg.MetadataResponse](s.wire, req)
		return fmt.Sprintf("%d brokers, %s of %d", len(resp.Brokers), code(resp.Topics[0].ErrorCode), len(resp.Topics[0].Partitions)), "1 brokers, NONE of 1"
	case protocol.KeyFindCoordinator:
		req := at(version, kmsg.NewPtrFindCoordinatorRequest())
		req.CoordinatorKey, req.CoordinatorKeys = "group", []string{"group"}
		resp := must[*kmsg.FindCoordinatorResponse](s.wire, req)
		if version >= 4 {
			return fmt.Sprintf("%s node %d", code(resp.Coordinators[0].ErrorCode), resp.Coordinators[0].NodeID), "NONE node 1"
		}
		return fmt.Sprintf("%s node %d", code(resp.ErrorCode), resp.NodeID), "NONE node 1"
	case protocol.KeyInitProducerID:
		return code(must[*kmsg.InitProducerIDResponse](s.wire, at(version, kmsg.NewPtrInitProducerIDRequest())).ErrorCode), "NONE"
	case protocol.KeyAPIVersions:
		req := at(version, kmsg.NewPtrApiVersionsRequest())
		req.ClientSoftwareName, req.ClientSoftwareVersion, req.NodeID = "sweep", "1", -1
		return code(must[*kmsg.ApiVersionsResponse](s.wire, req).ErrorCode), "NONE"
	}
	if slices.Contains([]int16{protocol.KeyDescribeGroups, protocol.KeyListGroups, protocol.KeyDeleteGroups, protocol.KeyOffsetDelete}, key) {
		return s.manage(key, version)
	}
	return "", "" // of groups, or of tools
}

// manage asks about a group that was just made, or deletes it.
func (s *sweep) manage(key, version int16) (got, want string) {
	group := fmt.Sprintf("managed-%d-%d", key, version)
	commit := s.commitRequest("swept", 0, 3)
	commit.Group = group
	if got := s.commit(commit); got != "NONE" {
		return got, "NONE"
	}
	switch key {
	case protocol.KeyDescribeGroups:
		return s.describe(version, false, group), `NONE Empty "" "" operations -2147483648 members []`
	case protocol.KeyListGroups:
		want = "NONE: " + group + map[bool]string{true: ` "" "Empty"`, false: ` "" ""`}[version >= 4] + map[bool]string{true: ` "classic"`, false: ` ""`}[version >= 5]
		return s.list(version, group, nil, nil), want
	case protocol.KeyDeleteGroups:
		return s.deleteGroups(version, group), "NONE " + group
	case protocol.KeyOffsetDelete:
		return s.forget(group, []any{"swept", 0}), "NONE: swept 0 NONE"
	}
	panic("not one of those who look after groups")
}

func (s *sweep) fetch(version int16) string {
	req := at(version, kmsg.NewPtrFetchRequest())
	req.MaxBytes, req.MinBytes, req.ReplicaID = 1<<20, 1, -1
	part := kmsg.NewFetchRequestTopicPartition()
	part.PartitionMaxBytes, part.CurrentLeaderEpoch = 1<<20, -1
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID, topic.Partitions = "swept", s.id, []kmsg.FetchRequestTopicPartition{part}
	req.Topics = []kmsg.FetchRequestTopic{topic}
	p := must[*kmsg.FetchResponse](s.wire, req).Topics[0].Partitions[0]
	return fmt.Sprintf("%s high watermark %d, %d bytes", code(p.ErrorCode), p.HighWatermark, len(p.RecordBatches))
}

// group leads one member through its life, each request in version or the nearest that is served.
func (s *sweep) group(version int16) {
	s.t.Helper()
	nearest := func(key int16) int16 {
		api, _ := protocol.LookupAPI(key)
		return min(max(version, api.Min), api.Max)
	}
	group := fmt.Sprintf("group-%d", version)
	join := at(nearest(protocol.KeyJoinGroup), s.joinRequest(group))
	joined := must[*kmsg.JoinGroupResponse](s.wire, join)
	if join.Version >= 4 {
		s.is(join, joined.ErrorCode, "MEMBER_ID_REQUIRED")
		join.MemberID = joined.MemberID
		joined = must[*kmsg.JoinGroupResponse](s.wire, join)
	}
	s.is(join, joined.ErrorCode, "NONE")

	sync := at(nearest(protocol.KeySyncGroup), kmsg.NewPtrSyncGroupRequest())
	sync.Group, sync.MemberID, sync.Generation = group, joined.MemberID, joined.Generation
	sync.ProtocolType, sync.Protocol = ptr("consumer"), ptr("range")
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: []byte{7}}}
	synced := must[*kmsg.SyncGroupResponse](s.wire, sync)
	s.is(sync, synced.ErrorCode, "NONE")
	if string(synced.MemberAssignment) != "\x07" {
		s.t.Errorf("SyncGroup version %d assigns %x", sync.Version, synced.MemberAssignment)
	}

	beat := at(nearest(protocol.KeyHeartbeat), kmsg.NewPtrHeartbeatRequest())
	beat.Group, beat.MemberID, beat.Generation = group, joined.MemberID, joined.Generation
	s.is(beat, must[*kmsg.HeartbeatResponse](s.wire, beat).ErrorCode, "NONE")

	commit := at(nearest(protocol.KeyOffsetCommit), s.commitRequest("swept", 0, 3))
	commit.Group, commit.MemberID, commit.Generation, commit.Topics[0].TopicID = group, joined.MemberID, joined.Generation, s.id
	if got := s.commit(commit); got != "NONE" {
		s.t.Errorf("OffsetCommit version %d: %s", commit.Version, got)
	}
	s.committed(nearest(protocol.KeyOffsetFetch), group)

	leave := at(nearest(protocol.KeyLeaveGroup), kmsg.NewPtrLeaveGroupRequest())
	leave.Group, leave.MemberID = group, joined.MemberID
	leave.Members = []kmsg.LeaveGroupRequestMember{{MemberID: joined.MemberID}}
	s.is(leave, must[*kmsg.LeaveGroupResponse](s.wire, leave).ErrorCode, "NONE")
}

// committed looks for the offset 3 that group has committed.
func (s *sweep) committed(version int16, group string) {
	s.t.Helper()
	got, want := "", "NONE: NONE offset 3"
	if version >= 8 {
		req := at(version, kmsg.NewPtrOffsetFetchRequest())
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group, g.Topics = group, []kmsg.OffsetFetchRequestGroupTopic{{Topic: "swept", TopicID: s.id, Partitions: []int32{0}}}
		req.Groups = []kmsg.OffsetFetchRequestGroup{g}
		got = answer(s.odd, req, renderGroups)
	} else {
		got, want = s.fetchOffsets(version, group, "swept", 0), "NONE: NONE offset 3 epoch -1"
	}
	if got != want {
		s.t.Errorf("OffsetFetch version %d: %s, want %s", version, got, want)
	}
}

func (s *sweep) is(req kmsg.Request, got int16, want string) {
	s.t.Helper()
	if code(got) != want {
		s.t.Errorf("%s version %d: %s, want %s", kmsg.NameForKey(req.Key()), req.GetVersion(), code(got), want)
	}
}
