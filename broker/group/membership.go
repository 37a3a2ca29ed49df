package group

import (
	"bytes"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

// state is the state of a group. There is no Dead: a group that ends is
// removed in the same event.
type state uint8

const (
	empty      state = iota // no members; committed offsets may be there
	preparing               // waits for the members to join
	completing              // joined; waits for the leader's assignment
	stable
)

func (st state) String() string {
	return [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable"}[st]
}

// consumerType is the protocol type whose metadata names the topics subscribed to.
const consumerType = "consumer"

// waiter is a request that waits for its reply; a zero token means none waits.
type waiter struct {
	token   Token
	version int16
}

func (w waiter) waits() bool { return w.token != 0 }

// assignor is a protocol that a member supports, with its metadata.
type assignor struct {
	name     string
	metadata []byte
}

// member is one member of a group.
type member struct {
	id               string
	instance         *string // group.instance.id of a static member (KIP-345)
	client           Client
	rebalanceTimeout time.Duration
	sessionTimeout   time.Duration
	assignors        []assignor // in order of preference, names unique
	assignment       []byte
	join, sync       waiter
	// fresh: has not had its first JoinGroup answered. It may be removed even while it
	// waits, since a client that gave up tries again under another id.
	fresh   bool
	session timer
	weight  int // size when the shard last counted it
}

func (m *member) metadata(protocolName string) ([]byte, bool) {
	for _, a := range m.assignors {
		if a.name == protocolName {
			return a.metadata, true
		}
	}
	return nil, false
}

func (m *member) sameAssignors(as []assignor) bool {
	return slices.EqualFunc(m.assignors, as, func(a, b assignor) bool {
		return a.name == b.name && bytes.Equal(a.metadata, b.metadata)
	})
}

// size is about what the member holds in memory.
func (m *member) size() int {
	n := 300 + 3*len(m.id) + len(m.client.ID) + len(m.client.Host) + len(m.assignment)
	if m.instance != nil {
		n += 2 * len(*m.instance)
	}
	for _, a := range m.assignors {
		n += 40 + len(a.name) + len(a.metadata)
	}
	return n
}

// group is one group: membership and committed offsets.
type group struct {
	id           string
	state        state
	previous     state
	since        protocol.Timestamp // when state was entered; NoTimestamp where an old record did not say
	generation   int32
	protocolType string  // "" for a group that only stores offsets
	protocol     *string // the assignor in force, nil while there are no members
	leader       string  // member id, "" for none

	members  []*member // in the order of joining
	byID     map[string]*member
	static   map[string]*member // by instance id
	supports map[string]int     // assignor name -> members that support it
	joining  int                // members whose JoinGroup waits
	// invited holds ids given out with MEMBER_ID_REQUIRED (KIP-394) and when they end.
	invited map[string]*timer
	// unsynced holds the members of this generation that have not sent SyncGroup.
	unsynced map[string]struct{}
	// subscribed holds the topics of a group of consumers, nil where they are not known.
	subscribed   map[string]struct{}
	topicsWeight int // what subscribed held when the shard last counted it

	joinTimer, syncTimer timer
	memberAdded          bool // since the initial delay was last prolonged

	written bool // a group metadata record is in the partition
	offsets map[string]map[int32]committed
}

func newGroup(id string) *group {
	return &group{
		id: id, since: protocol.NoTimestamp,
		byID: map[string]*member{}, static: map[string]*member{}, supports: map[string]int{},
		invited: map[string]*timer{}, unsynced: map[string]struct{}{},
		offsets: map[string]map[int32]committed{},
	}
}

// unused tells that nothing would be lost if the group were forgotten.
func (g *group) unused() bool {
	return g.state == empty && !g.written && len(g.members) == 0 && len(g.invited) == 0 && len(g.offsets) == 0
}

func (g *group) allJoined() bool { return g.joining == len(g.members) && len(g.invited) == 0 }

func (g *group) rebalanceTimeout() time.Duration {
	var longest time.Duration
	for _, m := range g.members {
		longest = max(longest, m.rebalanceTimeout)
	}
	return longest
}

// accepts tells whether a member of this protocol type and these assignors fits in.
func (g *group) accepts(protocolType string, as []assignor) bool {
	if g.state == empty {
		return protocolType != "" && len(as) > 0
	}
	return protocolType == g.protocolType && slices.ContainsFunc(as, func(a assignor) bool {
		return g.supports[a.name] == len(g.members)
	})
}

func (g *group) count(as []assignor, delta int) {
	for _, a := range as {
		if g.supports[a.name] += delta; g.supports[a.name] == 0 {
			delete(g.supports, a.name)
		}
	}
}

// add makes m a member; ids are not taken yet and the protocols fit.
func (g *group) add(m *member) {
	g.members = append(g.members, m)
	g.byID[m.id] = m
	if m.instance != nil {
		g.static[*m.instance] = m
	}
	if g.leader == "" {
		g.leader = m.id
	}
	g.count(m.assignors, 1)
}

// drop takes m out; the next member in the order of joining becomes leader where m was it.
func (g *group) drop(m *member) {
	i := slices.Index(g.members, m)
	g.members = slices.Delete(g.members, i, i+1)
	delete(g.byID, m.id)
	if m.instance != nil {
		delete(g.static, *m.instance)
	}
	delete(g.unsynced, m.id)
	g.count(m.assignors, -1)
	if g.leader == m.id {
		g.leader = ""
		if len(g.members) > 0 {
			g.leader = g.members[0].id
		}
	}
}

// rename gives m another id, in its place.
func (g *group) rename(m *member, id string) {
	delete(g.byID, m.id)
	g.byID[id] = m
	if _, ok := g.unsynced[m.id]; ok {
		delete(g.unsynced, m.id)
		g.unsynced[id] = struct{}{}
	}
	if g.leader == m.id {
		g.leader = id
	}
	m.id = id
}

// joinedLeader makes sure that the leader is one that waits to join; false where nobody does.
func (g *group) joinedLeader() bool {
	if l := g.byID[g.leader]; l != nil && l.join.waits() {
		return true
	}
	for _, m := range g.members {
		if m.join.waits() {
			g.leader = m.id
			return true
		}
	}
	return false
}

// elect chooses the assignor: each member votes for the first it prefers among
// those that all support; of equals the one voted for first wins.
func (g *group) elect() string {
	votes := map[string]int{}
	var order []string
	for _, m := range g.members {
		for _, a := range m.assignors {
			if g.supports[a.name] != len(g.members) {
				continue
			}
			if votes[a.name] == 0 {
				order = append(order, a.name)
			}
			votes[a.name]++
			break
		}
	}
	if len(order) == 0 {
		panic("group " + g.id + ": no protocol that all members support")
	}
	best := order[0] // any name will do, the empty one too
	for _, name := range order[1:] {
		if votes[name] > votes[best] {
			best = name
		}
	}
	return best
}

// roster is what the leader is told of all members.
func (g *group) roster() []kmsg.JoinGroupResponseMember {
	out := make([]kmsg.JoinGroupResponseMember, 0, len(g.members))
	for _, m := range g.members {
		r := kmsg.NewJoinGroupResponseMember()
		r.MemberID, r.InstanceID = m.id, m.instance
		r.ProtocolMetadata, _ = m.metadata(*g.protocol)
		out = append(out, r)
	}
	return out
}

// resubscribe reads from the members' metadata which topics the group consumes.
func (g *group) resubscribe() {
	g.subscribed = nil
	if g.protocolType != consumerType {
		return
	}
	topics := map[string]struct{}{}
	for _, m := range g.members {
		meta, _ := m.metadata(*g.protocol)
		if !readTopics(meta, topics) {
			return
		}
	}
	g.subscribed = topics
}

// subscribes tells whether the group may be consuming the topic now.
func (g *group) subscribes(topic string) bool {
	if g.subscribed == nil {
		return g.protocolType == consumerType
	}
	_, ok := g.subscribed[topic]
	return ok
}
