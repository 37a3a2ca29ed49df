package integration_test

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func (o *odd) joinRequest(group string) *kmsg.JoinGroupRequest {
	req := at(5, kmsg.NewPtrJoinGroupRequest())
	req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = o.prefix+group, 10_000, 10_000, "consumer"
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{0}}}
	return req
}

func (o *odd) join(req *kmsg.JoinGroupRequest) string {
	return answer(o, req, func(r *kmsg.JoinGroupResponse) string { return code(r.ErrorCode) })
}

// member joins a group of its own as its only member and syncs.
func (o *odd) member(group string, instance *string) string {
	o.t.Helper()
	req := o.joinRequest(group)
	req.InstanceID = instance
	joined := must[*kmsg.JoinGroupResponse](o.wire, req)
	if joined.MemberID == "" {
		o.t.Fatal(code(joined.ErrorCode))
	}
	if joined.ErrorCode != 0 { // MEMBER_ID_REQUIRED
		req.MemberID = joined.MemberID
		joined = must[*kmsg.JoinGroupResponse](o.wire, req)
	}
	sync := at(3, kmsg.NewPtrSyncGroupRequest())
	sync.Group, sync.MemberID, sync.Generation, sync.InstanceID = req.Group, joined.MemberID, joined.Generation, instance
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: []byte{7}}}
	if synced := must[*kmsg.SyncGroupResponse](o.wire, sync); synced.ErrorCode != 0 {
		o.t.Fatal(code(synced.ErrorCode))
	}
	return joined.MemberID
}

func oddGroups() []oddity {
	type request = kmsg.JoinGroupRequest
	join := func(group string, change func(*request)) func(*odd) string {
		return func(o *odd) string {
			req := o.joinRequest(group)
			change(req)
			return o.join(req)
		}
	}
	out := []oddity{
		{"join with a session timeout of 1 ms", join("j1", func(r *request) { r.SessionTimeoutMillis = 1 })},
		{"join with a session timeout of a day", join("j2", func(r *request) { r.SessionTimeoutMillis = 86_400_000 })},
		{"join with a rebalance timeout of -1", join("j3", func(r *request) { r.RebalanceTimeoutMillis = -1 })},
		{"join a group without a name", join("", func(r *request) { r.Group = "" })},
		{"join without protocols", join("j4", func(r *request) { r.Protocols = nil })},
		{"join without a protocol type", join("j5", func(r *request) { r.ProtocolType = "" })},
		{"join as an unknown member", join("j6", func(r *request) { r.MemberID = "nobody" })},
		{"join without a member id", join("j7", func(*request) {})},
		{"join without a member id in version 3", join("j8", func(r *request) { r.Version = 3 })},
		{"join as an unknown static member", join("j9", func(r *request) { r.MemberID, r.InstanceID = "nobody", ptr("one") })},
		{"join as a static member without a name", join("j10", func(r *request) { r.InstanceID = ptr("") })},
		{"join as a static member with an odd name", join("j11", func(r *request) { r.InstanceID = ptr("a/b") })},
		{"join with another protocol type", func(o *odd) string {
			o.member("types", nil)
			return join("types", func(r *request) { r.Version, r.ProtocolType = 3, "connect" })(o)
		}},
		{"join with no protocol in common", func(o *odd) string {
			o.member("names", nil)
			return join("names", func(r *request) { r.Version, r.Protocols[0].Name = 3, "other" })(o)
		}},
		{"join as a member with another instance id", func(o *odd) string {
			o.member("instances", ptr("one"))
			return join("instances", func(r *request) { r.MemberID, r.InstanceID = "nobody", ptr("one") })(o)
		}},
	}
	for _, c := range []struct {
		name, group string
		member      bool // is the group's
		generation  int32
		instance    *string
	}{
		{"an unknown group", "g1", false, 1, nil},
		{"a group without a name", "", false, 1, nil},
		{"an unknown member", "g2", false, 1, nil},
		{"an unknown static member", "g3", false, 1, ptr("two")},
		{"a fenced static member", "g4", false, 1, ptr("one")},
		{"an old generation", "g5", true, 0, nil},
		{"a later generation", "g6", true, 5, nil},
		{"no generation", "g7", true, -1, nil},
		{"the member", "g8", true, 1, nil},
	} {
		asked := 0
		ready := func(o *odd) (group, member string) {
			if c.group == "" {
				return "", "nobody"
			}
			asked++ // a group of its own for each question
			group, member = fmt.Sprintf("%s-%d", c.group, asked), "nobody"
			if c.group != "g1" {
				joined := o.member(group, ptr("one"))
				if c.member {
					member = joined
				}
			}
			return o.prefix + group, member
		}
		out = append(out, membership(c.name, c.generation, c.instance, ready)...)
	}
	return append(
		out,
		oddity{"find the coordinator of a group without a name", findCoordinator(0, "")},
		oddity{"find the coordinator of key type 9", findCoordinator(9, "x")},
		oddity{"find no coordinators", findCoordinator(0)},
		oddity{"find two coordinators", findCoordinator(0, "x", "y")},
	)
}

// membership asks in the name of a member, as told by ready.
func membership(name string, generation int32, instance *string, ready func(*odd) (group, member string)) []oddity {
	return []oddity{
		{"heartbeat of " + name, func(o *odd) string {
			req := at(4, kmsg.NewPtrHeartbeatRequest())
			req.Generation, req.InstanceID = generation, instance
			req.Group, req.MemberID = ready(o)
			return answer(o, req, func(r *kmsg.HeartbeatResponse) string { return code(r.ErrorCode) })
		}},
		{"sync of " + name, func(o *odd) string {
			req := at(4, kmsg.NewPtrSyncGroupRequest())
			req.Generation, req.InstanceID = generation, instance
			req.Group, req.MemberID = ready(o)
			return answer(o, req, func(r *kmsg.SyncGroupResponse) string {
				return fmt.Sprintf("%s[%x]", code(r.ErrorCode), r.MemberAssignment)
			})
		}},
		{"commit of " + name, func(o *odd) string {
			group, member := ready(o)
			req := o.commitRequest("plain", 0, 3)
			req.Group, req.MemberID, req.Generation, req.InstanceID = group, member, generation, instance
			return o.commit(req)
		}},
		{"leave of " + name, func(o *odd) string {
			group, member := ready(o)
			req := at(4, kmsg.NewPtrLeaveGroupRequest())
			req.Group, req.Members = group, []kmsg.LeaveGroupRequestMember{{MemberID: member, InstanceID: instance}}
			return answer(o, req, func(r *kmsg.LeaveGroupResponse) string {
				return code(r.ErrorCode) + ": " + each(r.Members, func(m kmsg.LeaveGroupResponseMember) string { return code(m.ErrorCode) })
			})
		}},
	}
}

func findCoordinator(kind int8, keys ...string) func(*odd) string {
	return func(o *odd) string {
		req := at(4, kmsg.NewPtrFindCoordinatorRequest())
		req.CoordinatorType, req.CoordinatorKeys = kind, keys
		return answer(o, req, func(r *kmsg.FindCoordinatorResponse) string {
			return code(r.ErrorCode) + ": " + each(r.Coordinators, func(c kmsg.FindCoordinatorResponseCoordinator) string {
				return fmt.Sprintf("%s node %d", code(c.ErrorCode), c.NodeID)
			})
		})
	}
}

// commitRequest is one of a consumer without a group's membership.
func (o *odd) commitRequest(topic string, partition int32, offset int64) *kmsg.OffsetCommitRequest {
	req := at(8, kmsg.NewPtrOffsetCommitRequest())
	req.Group, req.Generation = o.prefix+"simple", -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = partition, offset
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: o.prefix + topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	return req
}

func (o *odd) commit(req *kmsg.OffsetCommitRequest) string {
	return answer(o, req, func(r *kmsg.OffsetCommitResponse) string {
		return each(r.Topics, func(t kmsg.OffsetCommitResponseTopic) string {
			return each(t.Partitions, func(p kmsg.OffsetCommitResponseTopicPartition) string { return code(p.ErrorCode) })
		})
	})
}

func oddOffsets() []oddity {
	type request = kmsg.OffsetCommitRequest
	commit := func(topic string, partition int32, offset int64, change ...func(*request)) func(*odd) string {
		return func(o *odd) string {
			req := o.commitRequest(topic, partition, offset)
			for _, c := range change {
				c(req)
			}
			return o.commit(req)
		}
	}
	fetched := func(version int16, group, topic string, partitions ...int32) func(*odd) string {
		return func(o *odd) string { return o.fetchOffsets(version, group, topic, partitions...) }
	}
	return []oddity{
		{"commit without a member", commit("plain", 0, 3)},
		{"commit again, lower", commit("plain", 0, 2)},
		{"commit beyond the end", commit("plain", 1, 500)},
		{"commit offset -1", commit("plain", 1, -1)},
		{"commit offset -7", commit("plain", 1, -7)},
		{"commit to an unknown topic", commit("unknown", 0, 3)},
		{"commit to an unknown partition", commit("plain", 99, 3)},
		{"commit to partition -1", commit("plain", -1, 3)},
		{"commit metadata of 5000 bytes", commit("plain", 0, 3, func(r *request) { r.Topics[0].Partitions[0].Metadata = ptr(string(make([]byte, 5000))) })},
		{"commit for a group without a name", commit("plain", 0, 3, func(r *request) { r.Group = "" })},
		{"commit with generation 5 for an unknown group", commit("plain", 0, 3, func(r *request) { r.Group, r.Generation, r.MemberID = r.Group+"-new", 5, "nobody" })},
		{"commit with a member and generation -1 for an unknown group", commit("plain", 0, 3, func(r *request) { r.Group, r.MemberID = r.Group+"-newer", "nobody" })},
		{"commit to an unknown topic id", commit("", 0, 3, func(r *request) { r.Version, r.Topics[0].TopicID = 10, [16]byte{1, 2, 3} })},
		{"commit nothing", commit("plain", 0, 3, func(r *request) { r.Topics = nil })},
		{"commit from outside while members are there", func(o *odd) string {
			o.member("inside", nil)
			return commit("plain", 0, 3, func(r *request) { r.Group = o.prefix + "inside" })(o)
		}},
		{"offsets of a group", fetched(7, "simple", "plain", 0, 1)},
		{"offsets of an unknown group", fetched(7, "nobody", "plain", 0)},
		{"offsets of an unknown topic", fetched(7, "simple", "unknown", 0)},
		{"offsets of an unknown partition", fetched(7, "simple", "plain", 99)},
		{"all offsets of a group", fetched(7, "simple", "")},
		{"all offsets of an unknown group", fetched(7, "nobody", "")},
		{"offsets in version 1", fetched(1, "simple", "plain", 0, 99)},
		{"offsets of groups of which one is unknown", func(o *odd) string {
			req := at(8, kmsg.NewPtrOffsetFetchRequest())
			for _, group := range []string{o.prefix + "simple", o.prefix + "nobody", ""} {
				g := kmsg.NewOffsetFetchRequestGroup()
				g.Group, g.Topics = group, []kmsg.OffsetFetchRequestGroupTopic{{Topic: o.prefix + "plain", Partitions: []int32{0}}}
				req.Groups = append(req.Groups, g)
			}
			return answer(o, req, renderGroups)
		}},
		{"offsets of a member that is none", func(o *odd) string {
			req := at(9, kmsg.NewPtrOffsetFetchRequest())
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group, g.MemberID, g.MemberEpoch = o.prefix+"simple", ptr("nobody"), 3
			g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: o.prefix + "plain", Partitions: []int32{0}}}
			req.Groups = append(req.Groups, g)
			return answer(o, req, renderGroups)
		}},
		{"offsets of an unknown topic id", func(o *odd) string {
			req := at(10, kmsg.NewPtrOffsetFetchRequest())
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group, g.Topics = o.prefix+"simple", []kmsg.OffsetFetchRequestGroupTopic{{TopicID: [16]byte{1, 2, 3}, Partitions: []int32{0}}}
			req.Groups = append(req.Groups, g)
			return answer(o, req, renderGroups)
		}},
	}
}

func renderGroups(r *kmsg.OffsetFetchResponse) string {
	return each(r.Groups, func(g kmsg.OffsetFetchResponseGroup) string {
		return code(g.ErrorCode) + ": " + each(g.Topics, func(t kmsg.OffsetFetchResponseGroupTopic) string {
			return each(t.Partitions, func(p kmsg.OffsetFetchResponseGroupTopicPartition) string {
				return fmt.Sprintf("%s offset %d", code(p.ErrorCode), p.Offset)
			})
		})
	})
}

// fetchOffsets asks for a group's offsets; no topic means all.
func (o *odd) fetchOffsets(version int16, group, topic string, partitions ...int32) string {
	req := at(version, kmsg.NewPtrOffsetFetchRequest())
	req.Group = o.prefix + group
	if topic != "" {
		req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: o.prefix + topic, Partitions: partitions}}
	}
	return answer(o, req, func(r *kmsg.OffsetFetchResponse) string {
		return code(r.ErrorCode) + ": " + each(r.Topics, func(t kmsg.OffsetFetchResponseTopic) string {
			return each(t.Partitions, func(p kmsg.OffsetFetchResponseTopicPartition) string {
				return fmt.Sprintf("%s offset %d epoch %d", code(p.ErrorCode), p.Offset, p.LeaderEpoch)
			})
		})
	})
}
