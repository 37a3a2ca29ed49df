package group

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// groupNotFoundVersion is the first version of DescribeGroups in which a group that is
	// not there is an error (KIP-1043); before, it was told as dead.
	groupNotFoundVersion = 6
	// dead is the state that Kafka tells of a group that is not there.
	dead = "Dead"
	// classicType is the type of all groups here (KIP-848).
	classicType = "classic"
)

// Describe handles the part of a DescribeGroups that is about groups of this shard. The
// reply's Response is a DescribeGroupsResponse with them in the order of ids.
func (s *Shard) Describe(now time.Time, token Token, version int16, ids []string) Output {
	s.now = now
	resp := kmsg.NewPtrDescribeGroupsResponse()
	for _, id := range ids {
		resp.Groups = append(resp.Groups, s.describe(id, version))
	}
	s.reply(waiter{token: token, version: version}, resp)
	return s.take()
}

func (s *Shard) describe(id string, version int16) kmsg.DescribeGroupsResponseGroup {
	r := kmsg.NewDescribeGroupsResponseGroup()
	r.Group = id
	g := s.groups[id]
	if g == nil {
		r.State = dead
		if version >= groupNotFoundVersion {
			r.ErrorCode, r.ErrorMessage = kerr.GroupIDNotFound.Code, notFound(id)
		}
		return r
	}
	r.State, r.ProtocolType = g.state.String(), g.protocolType
	if g.state == stable {
		r.Protocol = *g.protocol
	}
	for _, m := range g.members {
		rm := kmsg.NewDescribeGroupsResponseGroupMember()
		rm.MemberID, rm.InstanceID, rm.ClientID, rm.ClientHost = m.id, m.instance, m.client.ID, m.client.Host
		rm.MemberAssignment = m.assignment // in a rebalance that of the last generation
		if g.state == stable {
			rm.ProtocolMetadata, _ = m.metadata(*g.protocol)
		}
		r.Members = append(r.Members, rm)
	}
	return r
}

func notFound(id string) *string { return kmsg.StringPtr("Group " + id + " not found.") }

// List handles a ListGroups (state filter by KIP-518, type filter by KIP-848; case does
// not count in either, an empty one lets all pass). The reply's Response has the groups of
// this shard.
func (s *Shard) List(now time.Time, token Token, req *kmsg.ListGroupsRequest) Output {
	s.now = now
	resp := kmsg.NewPtrListGroupsResponse()
	if passes(req.TypesFilter, classicType) {
		for _, id := range slices.Sorted(maps.Keys(s.groups)) {
			g := s.groups[id]
			if !passes(req.StatesFilter, g.state.String()) {
				continue
			}
			r := kmsg.NewListGroupsResponseGroup()
			r.Group, r.ProtocolType, r.GroupState, r.GroupType = id, g.protocolType, g.state.String(), classicType
			resp.Groups = append(resp.Groups, r)
		}
	}
	s.reply(waiter{token: token, version: req.Version}, resp)
	return s.take()
}

func passes(filter []string, word string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, word) })
}
