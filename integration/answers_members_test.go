package integration_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// renderJoin tells all of a JoinGroup's answer but the ids; me is what the member was called.
func renderJoin(me string) func(*kmsg.JoinGroupResponse) string {
	return func(r *kmsg.JoinGroupResponse) string {
		id := "another id"
		switch r.MemberID {
		case "":
			id = "no id"
		case me:
			id = "same id"
		}
		leader := "another leads"
		switch r.LeaderID {
		case "":
			leader = "nobody leads"
		case r.MemberID:
			leader = "leads"
		}
		return fmt.Sprintf("%s generation %d type %s protocol %s %s %s skip %t members %d", code(r.ErrorCode), r.Generation,
			optionalText(r.ProtocolType), optionalText(r.Protocol), id, leader, r.SkipAssignment, len(r.Members))
	}
}

func (o *odd) joinAs(version int16, group, member string, change ...func(*kmsg.JoinGroupRequest)) string {
	req := at(version, o.subscribed(group, "plain"))
	req.MemberID = member
	for _, c := range change {
		c(req)
	}
	return answer(o, req, renderJoin(member))
}

func (o *odd) beat(group, member string, generation int32, instance *string) string {
	req := at(4, kmsg.NewPtrHeartbeatRequest())
	req.Group, req.MemberID, req.Generation, req.InstanceID = o.prefix+group, member, generation, instance
	return answer(o, req, func(r *kmsg.HeartbeatResponse) string { return code(r.ErrorCode) })
}

func (o *odd) syncAs(group, member string, generation int32, change ...func(*kmsg.SyncGroupRequest)) string {
	req := at(5, kmsg.NewPtrSyncGroupRequest())
	req.Group, req.MemberID, req.Generation = o.prefix+group, member, generation
	req.ProtocolType, req.Protocol = ptr("consumer"), ptr("range")
	for _, c := range change {
		c(req)
	}
	return answer(o, req, func(r *kmsg.SyncGroupResponse) string {
		return fmt.Sprintf("%s type %s protocol %s assignment %x", code(r.ErrorCode), optionalText(r.ProtocolType), optionalText(r.Protocol), r.MemberAssignment)
	})
}

func (o *odd) leaveAs(version int16, group string, members ...kmsg.LeaveGroupRequestMember) string {
	req := at(version, kmsg.NewPtrLeaveGroupRequest())
	req.Group, req.Members = o.prefix+group, members
	if version < 3 {
		req.MemberID = members[0].MemberID
	}
	return answer(o, req, func(r *kmsg.LeaveGroupResponse) string {
		return code(r.ErrorCode) + ": " + each(r.Members, func(m kmsg.LeaveGroupResponseMember) string {
			return fmt.Sprintf("%s instance %s", code(m.ErrorCode), optionalText(m.InstanceID))
		})
	})
}

func (o *odd) commitAs(version int16, group, member string, generation int32, change ...func(*kmsg.OffsetCommitRequest)) string {
	req := at(version, o.commitRequest("plain", 0, 3))
	req.Group, req.MemberID, req.Generation = o.prefix+group, member, generation
	for _, c := range change {
		c(req)
	}
	return o.commit(req)
}

// topicID asks for the id of a topic.
func (o *odd) topicID(topic string) [16]byte {
	req := at(12, kmsg.NewPtrMetadataRequest())
	req.Topics = []kmsg.MetadataRequestTopic{{Topic: ptr(o.prefix + topic)}}
	return must[*kmsg.MetadataResponse](o.wire, req).Topics[0].TopicID
}

// oddMembers are requests of members at the wrong time, or of those that are none any more.
func oddMembers() []oddity {
	out := append(oddJoins(), oddStatics()...)
	out = append(out, oddSyncs()...)
	out = append(out, oddLeaves()...)
	out = append(out, oddCommits()...)
	out = append(out, oddOffsetFetches()...)
	return append(out, oddCoordinators()...)
}

func oddJoins() []oddity {
	var out []oddity
	for _, ms := range []int32{5999, 6000, 1_800_000, 1_800_001, -1} {
		out = append(out, oddity{fmt.Sprintf("join with a session timeout of %d ms", ms), func(o *odd) string {
			return o.joinAs(3, fmt.Sprintf("m-session-%d", ms), "", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = ms })
		}})
	}
	for _, version := range []int16{0, 3, 4, 5, 7, 9} {
		out = append(out, oddity{fmt.Sprintf("join in version %d", version), func(o *odd) string {
			return o.joinAs(version, fmt.Sprintf("m-version-%d", version), "")
		}})
	}
	for _, state := range []string{"invited", "completing", "stable", "left"} {
		out = append(out, oddity{"join again, " + state, func(o *odd) string {
			member := o.put("m-again-"+state, state)
			return o.joinAs(9, "m-again-"+state, member) + " | " + o.joinAs(5, "m-again-"+state, member)
		}})
	}
	return append(
		out,
		oddity{"join as a member that was invited, with an instance id", func(o *odd) string {
			member := o.put("m-invited", "invited")
			return o.joinAs(9, "m-invited", member, func(r *kmsg.JoinGroupRequest) { r.InstanceID = ptr("one") })
		}},
		oddity{"join with another protocol type alone", func(o *odd) string {
			member := o.put("m-type", "stable")
			return o.joinAs(9, "m-type", member, func(r *kmsg.JoinGroupRequest) { r.ProtocolType = "connect" })
		}},
		oddity{"join again with another protocol", func(o *odd) string {
			member := o.put("m-protocol", "stable")
			return o.joinAs(9, "m-protocol", member, func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Name = "other" })
		}},
		oddity{"join with an empty protocol name", func(o *odd) string {
			return o.joinAs(3, "m-empty", "", func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Name = "" })
		}},
	)
}

func oddStatics() []oddity {
	one := func(r *kmsg.JoinGroupRequest) { r.InstanceID = ptr("one") }
	static := func(o *odd, group string) string {
		req := o.subscribed(group, "plain")
		req.InstanceID = ptr("one")
		joined := o.enter(req)
		o.settle(req, joined)
		return joined.MemberID
	}
	return []oddity{
		{"a static member comes back in version 9", func(o *odd) string {
			static(o, "s-back-9")
			return o.joinAs(9, "s-back-9", "", one)
		}},
		{"a static member comes back in version 5", func(o *odd) string {
			static(o, "s-back-5")
			return o.joinAs(5, "s-back-5", "", one)
		}},
		{"a static member comes back with another subscription", func(o *odd) string {
			static(o, "s-other")
			return o.joinAs(9, "s-other", "", one, func(r *kmsg.JoinGroupRequest) {
				r.Protocols[0].Metadata = o.subscribed("", "compacted").Protocols[0].Metadata
			})
		}},
		{"a static member comes back while it waits for its assignment", func(o *odd) string {
			req := o.subscribed("s-waits", "plain")
			req.InstanceID = ptr("one")
			o.enter(req)
			return o.joinAs(9, "s-waits", "", one)
		}},
		{"a static member that was replaced", func(o *odd) string {
			old := static(o, "s-fenced")
			o.joinAs(9, "s-fenced", "", one)
			return strings.Join([]string{
				o.joinAs(9, "s-fenced", old, one), o.beat("s-fenced", old, 1, ptr("one")), o.beat("s-fenced", old, 1, nil),
				o.syncAs("s-fenced", old, 1, func(r *kmsg.SyncGroupRequest) { r.InstanceID = ptr("one") }),
				o.commitAs(8, "s-fenced", old, 1, func(r *kmsg.OffsetCommitRequest) { r.InstanceID = ptr("one") }),
				o.leaveAs(4, "s-fenced", kmsg.LeaveGroupRequestMember{MemberID: old, InstanceID: ptr("one")}),
			}, " | ")
		}},
		{"a static member without its instance id", func(o *odd) string {
			member := static(o, "s-without")
			return strings.Join([]string{
				o.beat("s-without", member, 1, nil), o.commitAs(8, "s-without", member, 1), o.joinAs(9, "s-without", member),
			}, " | ")
		}},
		{"a static member with another instance id", func(o *odd) string {
			member := static(o, "s-two")
			return strings.Join([]string{
				o.beat("s-two", member, 1, ptr("two")), o.commitAs(8, "s-two", member, 1, func(r *kmsg.OffsetCommitRequest) { r.InstanceID = ptr("two") }),
				o.joinAs(9, "s-two", member, func(r *kmsg.JoinGroupRequest) { r.InstanceID = ptr("two") }),
			}, " | ")
		}},
		{"a static member commits without a generation", func(o *odd) string {
			member := static(o, "s-none")
			return o.commitAs(8, "s-none", member, -1, func(r *kmsg.OffsetCommitRequest) { r.InstanceID = ptr("one") }) + " | " +
				o.commitAs(8, "s-none", "", -1, func(r *kmsg.OffsetCommitRequest) { r.InstanceID = ptr("one") })
		}},
		{"an operator removes static members", func(o *odd) string {
			static(o, "s-removed")
			return o.leaveAs(4, "s-removed", kmsg.LeaveGroupRequestMember{InstanceID: ptr("two")}, kmsg.LeaveGroupRequestMember{InstanceID: ptr("one")}) +
				" | " + o.describe(6, false, "s-removed")
		}},
	}
}

func oddSyncs() []oddity {
	type request = kmsg.SyncGroupRequest
	sync := func(group, state string, generation int32, change ...func(*request)) func(*odd) string {
		return func(o *odd) string { return o.syncAs(group, o.put(group, state), generation, change...) }
	}
	return []oddity{
		{"sync of a stable group", sync("y-stable", "stable", 1)},
		{"sync of a stable group with another type", sync("y-type", "stable", 1, func(r *request) { r.ProtocolType = ptr("connect") })},
		{"sync of a stable group with another protocol", sync("y-protocol", "stable", 1, func(r *request) { r.Protocol = ptr("other") })},
		{"sync of a stable group without a protocol", sync("y-none", "stable", 1, func(r *request) { r.Protocol, r.ProtocolType = nil, nil })},
		{"sync with another protocol than the group's", sync("y-wrong", "completing", 1, func(r *request) { r.Protocol = ptr("other") })},
		{"sync with a later generation", sync("y-later", "completing", 2)},
		{"sync while the group rebalances", sync("y-preparing", "preparing", 1)},
		{"sync of a group that was left", sync("y-left", "left", 1)},
		{"sync of an invited member", sync("y-invited", "invited", 1)},
		{"sync without assignments", sync("y-nothing", "completing", 1)},
		{"sync with an assignment of another", sync("y-another", "completing", 1, func(r *request) {
			r.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: "nobody", MemberAssignment: []byte{9}}}
		})},
		{"heartbeat while the group waits for its assignment", func(o *odd) string {
			return o.beat("y-beat", o.put("y-beat", "completing"), 1, nil)
		}},
		{"heartbeat of an invited member", func(o *odd) string { return o.beat("y-beat-i", o.put("y-beat-i", "invited"), 0, nil) }},
		{"heartbeat of a group that was left", func(o *odd) string { return o.beat("y-beat-l", o.put("y-beat-l", "left"), 1, nil) }},
		{"heartbeat of an old generation while the group rebalances", func(o *odd) string {
			return o.beat("y-beat-p", o.put("y-beat-p", "preparing"), 0, nil)
		}},
	}
}

func oddLeaves() []oddity {
	type member = kmsg.LeaveGroupRequestMember
	return []oddity{
		{"leave in version 0", func(o *odd) string {
			id := o.put("v-0", "stable")
			return o.leaveAs(0, "v-0", member{MemberID: id}) + " | " + o.leaveAs(0, "v-0", member{MemberID: id})
		}},
		{"leave in version 2 an unknown group", func(o *odd) string { return o.leaveAs(2, "nobody", member{MemberID: "x"}) }},
		{"leave in version 3 an unknown group", func(o *odd) string {
			return o.leaveAs(3, "nobody", member{MemberID: "x"}, member{InstanceID: ptr("one")})
		}},
		{"leave nobody", func(o *odd) string {
			o.put("v-none", "stable")
			return o.leaveAs(4, "v-none")
		}},
		{"leave a member, an unknown one and the member again", func(o *odd) string {
			id := o.put("v-some", "stable")
			return o.leaveAs(5, "v-some", member{MemberID: id}, member{MemberID: "x"}, member{MemberID: id}) + " | " + o.list(4, "v-some", nil, nil)
		}},
		{"leave a member with an instance id that it does not have", func(o *odd) string {
			return o.leaveAs(5, "v-instance", member{MemberID: o.put("v-instance", "stable"), InstanceID: ptr("one")})
		}},
		{"leave as who was invited", func(o *odd) string {
			id := o.put("v-invited", "invited")
			return o.leaveAs(4, "v-invited", member{MemberID: id}) + " | " + o.joinAs(9, "v-invited", id)
		}},
		{"leave without an id", func(o *odd) string {
			o.put("v-empty", "stable")
			return o.leaveAs(4, "v-empty", member{})
		}},
	}
}

func oddCommits() []oddity {
	type request = kmsg.OffsetCommitRequest
	out := []oddity{}
	for _, version := range []int16{8, 9} {
		for _, state := range []string{"invited", "completing", "stable", "preparing", "left", "simple"} {
			out = append(out, oddity{fmt.Sprintf("commit in version %d of a member, %s", version, state), func(o *odd) string {
				group := fmt.Sprintf("c-%d-%s", version, state)
				member := o.put(group, state)
				return strings.Join([]string{
					o.commitAs(version, group, member, 1), o.commitAs(version, group, member, 0), o.commitAs(version, group, member, -1),
					o.commitAs(version, group, "", 1), o.commitAs(version, group, "", -1),
				}, " | ")
			}})
		}
		out = append(out, oddity{fmt.Sprintf("commit in version %d with a generation for an unknown group", version), func(o *odd) string {
			return o.commitAs(version, "c-unknown", "x", 5) + " | " + o.commitAs(version, "c-unknown", "", 0)
		}})
	}
	for _, version := range []int16{2, 5, 6, 10} {
		out = append(out, oddity{fmt.Sprintf("a leader epoch committed in version %d", version), func(o *odd) string {
			group := fmt.Sprintf("c-epoch-%d", version)
			return o.commitAs(version, group, "", -1, func(r *request) {
				r.RetentionTimeMillis = -1
				r.Topics[0].TopicID, r.Topics[0].Partitions[0].LeaderEpoch = o.topicID("plain"), 0
			}) + " | " + o.fetchOffsets(5, group, "plain", 0)
		}})
	}
	metadata := func(size int) func(*odd) string {
		return func(o *odd) string {
			group := fmt.Sprintf("c-metadata-%d", size)
			return o.commitAs(8, group, "", -1, func(r *request) {
				if size >= 0 {
					r.Topics[0].Partitions[0].Metadata = ptr(strings.Repeat("m", size))
				}
			}) + " | " + o.fetchMetadata(group)
		}
	}
	return append(
		out,
		oddity{"commit metadata of 4096 bytes", metadata(4096)},
		oddity{"commit metadata of 4097 bytes", metadata(4097)},
		oddity{"commit no metadata", metadata(-1)},
		oddity{"commit with a retention", func(o *odd) string {
			return o.commitAs(4, "c-retention", "", -1, func(r *request) { r.RetentionTimeMillis = 3_600_000 }) + " | " + o.fetchOffsets(5, "c-retention", "plain", 0)
		}},
		oddity{"commit a partition twice", func(o *odd) string {
			return o.commitAs(8, "c-twice", "", -1, func(r *request) {
				again := r.Topics[0].Partitions[0]
				again.Offset = 9
				r.Topics[0].Partitions = append(r.Topics[0].Partitions, again)
			}) + " | " + o.fetchOffsets(5, "c-twice", "plain", 0)
		}},
		oddity{"commit to a topic and an unknown one", func(o *odd) string {
			return o.commitAs(8, "c-some", "", -1, func(r *request) {
				r.Topics = append(r.Topics, o.commitRequest("unknown", 0, 1).Topics...)
			}) + " | " + o.fetchOffsets(5, "c-some", "plain", 0)
		}},
		oddity{"commit by topic id to an unknown partition", func(o *odd) string {
			return o.commitAs(10, "c-id", "", -1, func(r *request) { r.Topics[0].TopicID, r.Topics[0].Partitions[0].Partition = o.topicID("plain"), 99 })
		}},
		oddity{"commit by the zero topic id", func(o *odd) string { return o.commitAs(10, "c-zero", "", -1) }},
		oddity{"commit with an error for every partition to a group of which one is no member", func(o *odd) string {
			return o.commitAs(9, "c-both", "x", 5, func(r *request) { r.Topics[0].Partitions[0].Partition = 99 })
		}},
	)
}

// fetchMetadata shows the metadata committed for partition 0 of "plain".
func (o *odd) fetchMetadata(group string) string {
	req := at(7, kmsg.NewPtrOffsetFetchRequest())
	req.Group, req.Topics = o.prefix+group, []kmsg.OffsetFetchRequestTopic{{Topic: o.prefix + "plain", Partitions: []int32{0}}}
	return answer(o, req, func(r *kmsg.OffsetFetchResponse) string {
		p := r.Topics[0].Partitions[0]
		if p.Metadata == nil {
			return fmt.Sprintf("offset %d, no metadata", p.Offset)
		}
		return fmt.Sprintf("offset %d, %d bytes", p.Offset, len(*p.Metadata))
	})
}

func oddOffsetFetches() []oddity {
	type group = kmsg.OffsetFetchRequestGroup
	fetch := func(version int16, stable bool, ask func(o *odd) []group) func(*odd) string {
		return func(o *odd) string {
			if got := o.commitAs(8, "f", "", -1, func(r *kmsg.OffsetCommitRequest) { r.Topics[0].Partitions[0].LeaderEpoch = 0 }); got != "NONE" {
				o.t.Fatal(got)
			}
			req := at(version, kmsg.NewPtrOffsetFetchRequest())
			req.RequireStable, req.Groups = stable, ask(o)
			for i := range req.Groups {
				req.Groups[i].Group = o.groupName(req.Groups[i].Group)
			}
			return answer(o, req, func(r *kmsg.OffsetFetchResponse) string {
				slices.SortStableFunc(r.Groups, func(a, b kmsg.OffsetFetchResponseGroup) int { return strings.Compare(a.Group, b.Group) })
				return renderGroups(r)
			})
		}
	}
	topics := func(o *odd, id bool, partitions ...int32) []kmsg.OffsetFetchRequestGroupTopic {
		t := kmsg.OffsetFetchRequestGroupTopic{Topic: o.prefix + "plain", Partitions: partitions}
		if id {
			t.TopicID = o.topicID("plain")
		}
		return []kmsg.OffsetFetchRequestGroupTopic{t}
	}
	return []oddity{
		{"offsets that must be stable", fetch(8, true, func(o *odd) []group { return []group{{Group: "f", Topics: topics(o, false, 0, 1)}} })},
		{"offsets by topic id", fetch(10, true, func(o *odd) []group { return []group{{Group: "f", Topics: topics(o, true, 0, 1, 99)}} })},
		{"all offsets in version 8", fetch(8, false, func(*odd) []group { return []group{{Group: "f"}, {Group: "nobody"}} })},
		{"all offsets in version 10", fetch(10, false, func(*odd) []group { return []group{{Group: "f"}} })},
		{"offsets of no topics", fetch(8, false, func(*odd) []group { return []group{{Group: "f", Topics: []kmsg.OffsetFetchRequestGroupTopic{}}} })},
		{"offsets of no groups", fetch(8, false, func(*odd) []group { return nil })},
		{"offsets of a group twice", fetch(8, false, func(o *odd) []group {
			return []group{{Group: "f", Topics: topics(o, false, 0)}, {Group: "f", Topics: topics(o, false, 1)}}
		})},
		{"offsets of a member of a classic group with an epoch", fetch(9, false, func(o *odd) []group {
			return []group{{Group: "f-member", MemberID: ptr(o.put("f-member", "stable")), MemberEpoch: 7, Topics: topics(o, false, 0)}}
		})},
	}
}

func oddCoordinators() []oddity {
	find := func(version int16, kind int8, key string) func(*odd) string {
		return func(o *odd) string {
			req := at(version, kmsg.NewPtrFindCoordinatorRequest())
			req.CoordinatorType, req.CoordinatorKey, req.CoordinatorKeys = kind, key, []string{key}
			return answer(o, req, func(r *kmsg.FindCoordinatorResponse) string {
				if version < 4 {
					return fmt.Sprintf("%s%s node %d %s", code(r.ErrorCode), message(r.ErrorMessage), r.NodeID, r.Host)
				}
				c := r.Coordinators[0]
				return fmt.Sprintf("%s%s node %d %s", code(c.ErrorCode), message(c.ErrorMessage), c.NodeID, c.Host)
			})
		}
	}
	return []oddity{
		{"find a coordinator in version 0", find(0, 0, "x")},
		{"find a coordinator in version 1", find(1, 0, "x")},
		{"find a coordinator in version 6", find(6, 0, "x")},
		{"find the coordinator of key type 9 in version 1", find(1, 9, "x")},
		{"find the coordinator of key type 9 in version 6", find(6, 9, "x")},
		{"find the coordinator of a share partition in version 5", find(5, 2, "x:AAAAAAAAAAAAAAAAAAAAAQ:0")},
		{"find the coordinator of a group without a name in version 1", find(1, 0, "")},
	}
}
