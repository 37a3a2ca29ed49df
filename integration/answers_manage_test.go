package integration_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// subscribed is a join of a consumer that subscribes to a topic.
func (o *odd) subscribed(group, topic string) *kmsg.JoinGroupRequest {
	req := o.joinRequest(group)
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = []string{o.prefix + topic}
	req.Protocols[0].Metadata = meta.AppendTo(nil)
	return req
}

// enter joins a group and is told the generation. It does not sync.
func (o *odd) enter(req *kmsg.JoinGroupRequest) *kmsg.JoinGroupResponse {
	o.t.Helper()
	joined := must[*kmsg.JoinGroupResponse](o.wire, req)
	if code(joined.ErrorCode) == "MEMBER_ID_REQUIRED" {
		req.MemberID = joined.MemberID
		joined = must[*kmsg.JoinGroupResponse](o.wire, req)
	}
	if joined.ErrorCode != 0 {
		o.t.Fatal(code(joined.ErrorCode))
	}
	return joined
}

// settle syncs as the leader.
func (o *odd) settle(req *kmsg.JoinGroupRequest, joined *kmsg.JoinGroupResponse) {
	o.t.Helper()
	sync := at(3, kmsg.NewPtrSyncGroupRequest())
	sync.Group, sync.MemberID, sync.Generation, sync.InstanceID = req.Group, joined.MemberID, joined.Generation, req.InstanceID
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: []byte{7}}}
	if synced := must[*kmsg.SyncGroupResponse](o.wire, sync); synced.ErrorCode != 0 {
		o.t.Fatal(code(synced.ErrorCode))
	}
}

// put brings a group into a state: simple, invited, completing, stable, preparing, left. Its
// one member is returned, where there is one; the topic that it subscribes to is "plain".
func (o *odd) put(group, state string) (member string) {
	o.t.Helper()
	if state == "simple" || state == "left" {
		commit := o.commitRequest("plain", 0, 3)
		commit.Group = o.prefix + group
		if got := o.commit(commit); got != "NONE" {
			o.t.Fatal(got)
		}
		if state == "simple" {
			return ""
		}
	}
	req := o.subscribed(group, "plain")
	if state == "invited" {
		return must[*kmsg.JoinGroupResponse](o.wire, req).MemberID
	}
	joined := o.enter(req)
	if state == "completing" {
		return joined.MemberID
	}
	o.settle(req, joined)
	switch state {
	case "preparing":
		second := &odd{wire: dialWire(o.t, o.addr), addr: o.addr, prefix: o.prefix}
		again := second.subscribed(group, "plain")
		again.MemberID = must[*kmsg.JoinGroupResponse](second.wire, again).MemberID
		second.send(again) // it waits for the first member
		beat := at(4, kmsg.NewPtrHeartbeatRequest())
		beat.Group, beat.MemberID, beat.Generation = req.Group, joined.MemberID, joined.Generation
		for code(must[*kmsg.HeartbeatResponse](o.wire, beat).ErrorCode) != "REBALANCE_IN_PROGRESS" {
		}
	case "left":
		leave := at(4, kmsg.NewPtrLeaveGroupRequest())
		leave.Group, leave.Members = req.Group, []kmsg.LeaveGroupRequestMember{{MemberID: joined.MemberID}}
		must[*kmsg.LeaveGroupResponse](o.wire, leave)
	}
	return joined.MemberID
}

func (o *odd) describe(version int16, operations bool, groups ...string) string {
	req := at(version, kmsg.NewPtrDescribeGroupsRequest())
	req.IncludeAuthorizedOperations = operations
	for _, g := range groups {
		req.Groups = append(req.Groups, o.groupName(g))
	}
	return answer(o, req, func(r *kmsg.DescribeGroupsResponse) string {
		slices.SortStableFunc(r.Groups, func(a, b kmsg.DescribeGroupsResponseGroup) int { return strings.Compare(a.Group, b.Group) })
		return each(r.Groups, func(g kmsg.DescribeGroupsResponseGroup) string {
			var members []string
			for _, m := range g.Members {
				members = append(members, fmt.Sprintf("instance %s client %s at %s metadata %t assignment %x",
					optionalText(m.InstanceID), m.ClientID, m.ClientHost, len(m.ProtocolMetadata) > 0, m.MemberAssignment))
			}
			slices.Sort(members)
			return fmt.Sprintf("%s%s %s %q %q operations %d members [%s]", code(g.ErrorCode), message(g.ErrorMessage),
				g.State, g.ProtocolType, g.Protocol, g.AuthorizedOperations, strings.Join(members, ", "))
		})
	})
}

func message(m *string) string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf(" (%s)", *m)
}

func optionalText(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

// groupName is a group's name on the wire: all but the empty one have the prefix.
func (o *odd) groupName(group string) string {
	if group == "" {
		return ""
	}
	return o.prefix + group
}

// list shows the groups whose names begin with a word.
func (o *odd) list(version int16, begins string, states, types []string) string {
	req := at(version, kmsg.NewPtrListGroupsRequest())
	req.StatesFilter, req.TypesFilter = states, types
	return answer(o, req, func(r *kmsg.ListGroupsResponse) string {
		var groups []string
		for _, g := range r.Groups {
			if strings.HasPrefix(g.Group, o.prefix+begins) {
				groups = append(groups, fmt.Sprintf("%s %q %q %q", g.Group, g.ProtocolType, g.GroupState, g.GroupType))
			}
		}
		slices.Sort(groups)
		return code(r.ErrorCode) + ": " + strings.Join(groups, ", ")
	})
}

func (o *odd) deleteGroups(version int16, groups ...string) string {
	req := at(version, kmsg.NewPtrDeleteGroupsRequest())
	for _, g := range groups {
		req.Groups = append(req.Groups, o.groupName(g))
	}
	return answer(o, req, func(r *kmsg.DeleteGroupsResponse) string {
		slices.SortStableFunc(r.Groups, func(a, b kmsg.DeleteGroupsResponseGroup) int { return strings.Compare(a.Group, b.Group) })
		return each(r.Groups, func(g kmsg.DeleteGroupsResponseGroup) string {
			return strings.TrimSpace(code(g.ErrorCode) + " " + g.Group)
		})
	})
}

func oddManagement() []oddity {
	described := func(name string, version int16, operations bool, state string) oddity {
		return oddity{name, func(o *odd) string {
			o.put("d-"+name, state)
			return o.describe(version, operations, "d-"+name)
		}}
	}
	out := []oddity{
		described("describe a group that only stores offsets", 6, true, "simple"),
		described("describe a group with an invited member", 6, true, "invited"),
		described("describe a group that waits for its assignment", 6, false, "completing"),
		described("describe a stable group", 6, false, "stable"),
		described("describe a stable group in version 0", 0, false, "stable"),
		described("describe a stable group in version 3", 3, true, "stable"),
		described("describe a group that rebalances", 6, true, "preparing"),
		described("describe a group that was left", 6, true, "left"),
		{"describe a group with a static member", func(o *odd) string {
			o.member("d-static", ptr("one"))
			return o.describe(5, true, "d-static")
		}},
		{"describe a group of connectors", func(o *odd) string {
			req := o.joinRequest("d-connect")
			req.ProtocolType = "connect"
			o.settle(req, o.enter(req))
			return o.describe(6, true, "d-connect")
		}},
		{"describe an unknown group in version 0", func(o *odd) string { return o.describe(0, false, "nobody") }},
		{"describe an unknown group in version 5", func(o *odd) string { return o.describe(5, true, "nobody") }},
		{"describe an unknown group in version 6", func(o *odd) string { return o.describe(6, true, "nobody") }},
		{"describe a group without a name", func(o *odd) string { return o.describe(5, false, "") }},
		{"describe a group without a name in version 6", func(o *odd) string { return o.describe(6, false, "") }},
		{"describe no groups", func(o *odd) string { return o.describe(6, false) }},
		{"describe two groups and one of them again", func(o *odd) string {
			o.put("d-two", "simple")
			return o.describe(5, false, "nobody", "d-two", "nobody")
		}},
	}
	out = append(out, oddLists()...)
	out = append(out, oddGroupDeletions()...)
	return append(out, oddOffsetDeletions()...)
}

func oddLists() []oddity {
	out := []oddity{{"list groups in version 0", func(o *odd) string {
		for _, state := range []string{"simple", "invited", "completing", "stable", "preparing", "left"} {
			o.put("l-"+state, state)
		}
		return o.list(0, "l-", nil, nil)
	}}}
	for _, c := range []struct {
		name          string
		version       int16
		states, types []string
	}{
		{"in version 3", 3, nil, nil},
		{"in version 4", 4, nil, nil},
		{"in version 5", 5, nil, nil},
		{"of one state", 4, []string{"Stable"}, nil},
		{"of a state in other letters", 5, []string{"sTABLE"}, nil},
		{"of two states", 5, []string{"CompletingRebalance", "PreparingRebalance"}, nil},
		{"of a state that is none", 5, []string{"Unheard"}, nil},
		{"of an empty state", 5, []string{""}, nil},
		{"that are dead", 5, []string{"Dead"}, nil},
		{"of the classic type", 5, nil, []string{"classic"}},
		{"of a type in other letters", 5, nil, []string{"CLASSIC"}},
		{"of the consumer type", 5, nil, []string{"consumer"}},
		{"of a type that is none", 5, nil, []string{"unheard"}},
		{"of a state and a type", 5, []string{"Empty"}, []string{"consumer", "classic"}},
	} {
		out = append(out, oddity{"list groups " + c.name, func(o *odd) string { return o.list(c.version, "l-", c.states, c.types) }})
	}
	return out
}

func oddGroupDeletions() []oddity {
	var out []oddity
	for _, state := range []string{"simple", "invited", "completing", "stable", "preparing", "left"} {
		out = append(out, oddity{"delete a group, " + state, func(o *odd) string {
			group := "x-" + state
			o.put(group, state)
			return strings.Join([]string{
				o.deleteGroups(2, group), o.describe(5, false, group), o.list(4, group, nil, nil), o.fetchOffsets(7, group, ""), o.deleteGroups(1, group),
			}, " | ")
		}})
	}
	return append(
		out,
		oddity{"delete an unknown group in version 0", func(o *odd) string { return o.deleteGroups(0, "nobody") }},
		oddity{"delete a group without a name", func(o *odd) string { return o.deleteGroups(2, "") }},
		oddity{"delete no groups", func(o *odd) string { return o.deleteGroups(2) }},
		oddity{"delete groups of which one is unknown, twice named and in use", func(o *odd) string {
			o.put("x-a", "simple")
			o.put("x-b", "stable")
			return o.deleteGroups(2, "x-a", "nobody", "x-b", "x-a", "nobody")
		}},
		oddity{"join a deleted group as who was invited", func(o *odd) string {
			req := o.joinRequest("x-invited-2")
			req.MemberID = o.put("x-invited-2", "invited")
			return o.deleteGroups(2, "x-invited-2") + " | " + o.join(req)
		}},
		oddity{"join a deleted group anew", func(o *odd) string {
			o.put("x-anew", "left")
			deleted := o.deleteGroups(2, "x-anew")
			return fmt.Sprintf("%s | generation %d", deleted, o.enter(o.joinRequest("x-anew")).Generation)
		}},
		oddity{"commit to a deleted group as its last member", func(o *odd) string {
			member := o.put("x-late", "left")
			req := o.commitRequest("plain", 0, 3)
			req.Group, req.MemberID, req.Generation = o.prefix+"x-late", member, 1
			return o.deleteGroups(2, "x-late") + " | " + o.commit(req)
		}},
	)
}

// forget sends an OffsetDelete: "topic partition..." each.
func (o *odd) forget(group string, topics ...[]any) string {
	req := at(0, kmsg.NewPtrOffsetDeleteRequest())
	req.Group = o.groupName(group)
	for _, t := range topics {
		rt := kmsg.NewOffsetDeleteRequestTopic()
		rt.Topic = o.prefix + t[0].(string)
		for _, p := range t[1:] {
			rt.Partitions = append(rt.Partitions, kmsg.OffsetDeleteRequestTopicPartition{Partition: int32(p.(int))})
		}
		req.Topics = append(req.Topics, rt)
	}
	return answer(o, req, func(r *kmsg.OffsetDeleteResponse) string {
		slices.SortStableFunc(r.Topics, func(a, b kmsg.OffsetDeleteResponseTopic) int { return strings.Compare(a.Topic, b.Topic) })
		return code(r.ErrorCode) + ": " + each(r.Topics, func(t kmsg.OffsetDeleteResponseTopic) string {
			return t.Topic + " " + each(t.Partitions, func(p kmsg.OffsetDeleteResponseTopicPartition) string {
				return fmt.Sprintf("%d %s", p.Partition, code(p.ErrorCode))
			})
		})
	})
}

func oddOffsetDeletions() []oddity {
	var out []oddity
	for _, state := range []string{"simple", "invited", "completing", "stable", "preparing", "left"} {
		out = append(out, oddity{"delete offsets of a group, " + state, func(o *odd) string {
			group := "o-" + state
			o.put(group, state)
			return o.forget(group, []any{"plain", 0, 1}, []any{"compacted", 0}) + " | " + o.fetchOffsets(7, group, "plain", 0)
		}})
	}
	of := func(group string, topics ...[]any) func(*odd) string {
		return func(o *odd) string {
			o.put("o-odd", "simple")
			return o.forget(group, topics...)
		}
	}
	return append(
		out,
		oddity{"delete offsets of an unknown group", of("nobody", []any{"plain", 0})},
		oddity{"delete offsets of an unknown topic of an unknown group", of("nobody", []any{"unknown", 0})},
		oddity{"delete offsets of a group without a name", of("", []any{"plain", 0})},
		oddity{"delete offsets of an unknown topic of a group without a name", of("", []any{"unknown", 0})},
		oddity{"delete offsets of an unknown topic", of("o-odd", []any{"unknown", 0, 1})},
		oddity{"delete offsets of a topic and an unknown one", of("o-odd", []any{"plain", 0}, []any{"unknown", 0})},
		oddity{"delete offsets of a topic and an unknown one of an unknown group", of("nobody", []any{"plain", 0}, []any{"unknown", 0})},
		oddity{"delete offsets of an unknown partition", of("o-odd", []any{"plain", 99, -1})},
		oddity{"delete offsets of no partitions", of("o-odd", []any{"plain"})},
		oddity{"delete offsets of no topics", of("o-odd")},
		oddity{"delete offsets of no topics of an unknown group", of("nobody")},
		oddity{"delete offsets of a group of connectors", func(o *odd) string {
			req := o.joinRequest("o-connect")
			req.ProtocolType = "connect"
			o.settle(req, o.enter(req))
			return o.forget("o-connect", []any{"plain", 0})
		}},
		oddity{"delete offsets of consumers whose subscription cannot be read", func(o *odd) string {
			o.member("o-unread", nil)
			return o.forget("o-unread", []any{"plain", 0})
		}},
	)
}
