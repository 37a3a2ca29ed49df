package group_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/group"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// dice gives the choices of a random walk: from a seed, or from a fuzzer's bytes (then
// zeros for ever).
type dice interface{ pick(n int) int }

type seeded struct{ *rand.Rand }

func (s seeded) pick(n int) int { return s.IntN(n) }

type tape struct{ b []byte }

func (t *tape) pick(n int) int {
	if len(t.b) == 0 {
		return 0
	}
	v := int(t.b[0])
	t.b = t.b[1:]
	return v % n
}

// walk drives a shard through random events and keeps what must be true of it.
type walk struct {
	dice
	settings    group.Settings
	shard       *group.Shard
	replayed    *group.Shard // of the records so far
	now         time.Time
	topics      topicTable
	last        group.Token
	log         []group.Record
	open        map[group.Token]string // the group asked
	members     map[string][]string    // ids ever given out, by group
	generations map[string]int32
	leaders     map[string]string // group/generation -> leader
	offsets     map[string]int64  // group/topic/partition -> what was committed last
	joined      int
}

func newWalk(d dice) *walk {
	s := testSettings()
	s.InitialRebalanceDelay = time.Duration(d.pick(3)) * time.Second
	s.MaxSize = int32(2 + d.pick(6))
	s.Memory = group.NewMemory(8000 << d.pick(3))
	s.MaxBatchBytes = 400 << d.pick(4)
	w := &walk{
		dice: d, settings: s, shard: group.NewShard(s), replayed: group.NewShard(testSettings()), now: begin,
		topics: topicTable{}, open: map[group.Token]string{}, generations: map[string]int32{},
		leaders: map[string]string{}, offsets: map[string]int64{}, members: map[string][]string{},
	}
	for i, name := range []string{"foo", "bar"} {
		w.topics[name] = metadata.Topic{Name: name, ID: protocol.TopicID{byte(i + 1)}, Partitions: 2}
	}
	return w
}

func (w *walk) oneOf(choices ...string) string { return choices[w.pick(len(choices))] }

func (w *walk) groupID() string { return w.oneOf("g", "h") }

// member is mostly one of the youngest ids of the group, with its instance.
func (w *walk) member(groupID string) (string, *string) {
	if w.pick(8) == 0 {
		return w.oneOf("", "ghost"), w.instance()
	}
	ids := w.members[groupID]
	if len(ids) == 0 {
		return "", w.instance()
	}
	id := ids[max(0, len(ids)-1-w.pick(5))]
	if instance, _, ok := strings.Cut(id, "-"); ok && instance != "c" && w.pick(8) > 0 {
		return id, &instance
	}
	return id, nil
}

func (w *walk) instance() *string {
	if w.pick(3) > 0 {
		return nil
	}
	i := w.oneOf("i1", "i2")
	return &i
}

// generation is mostly the right one.
func (w *walk) generation(id string) int32 {
	if w.pick(6) == 0 {
		return int32(w.pick(4)) - 1
	}
	return w.generations[id]
}

// step does one event and checks all.
func (w *walk) step() error {
	w.now = w.now.Add(time.Duration(w.pick(3)) * time.Duration(w.pick(4)) * 700 * time.Millisecond)
	var out group.Output
	switch n := w.pick(20); {
	case n < 5:
		out = w.join()
	case n < 9:
		out = w.sync()
	case n < 11:
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version, req.Group = 4, w.groupID()
		req.MemberID, req.InstanceID = w.member(req.Group)
		req.Generation = w.generation(req.Group)
		out = w.shard.Heartbeat(w.now, w.token(req.Group), req)
	case n < 12:
		out = w.leave()
	case n < 16:
		return w.commit()
	case n < 17:
		return w.fetch()
	case n < 18:
		if at, ok := w.shard.Deadline(); ok && at.After(w.now) {
			w.now = at
		}
		out = w.shard.Expire(w.now)
	case n < 19:
		if w.pick(3) > 0 {
			return w.remove()
		}
		return w.deleteTopic()
	default:
		return w.reload()
	}
	return w.check(out)
}

func (w *walk) token(id string) group.Token {
	w.last++
	w.open[w.last] = id
	return w.last
}

func (w *walk) join() group.Output {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group = int16(w.pick(10)), w.groupID()
	if req.MemberID, req.InstanceID = w.member(req.Group); w.pick(4) == 0 {
		req.MemberID, req.InstanceID = "", w.instance()
	}
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(6000+1000*w.pick(8)), int32(1000*w.pick(12))-1000
	req.ProtocolType = w.oneOf("consumer", "consumer", "consumer", "consumer", "consumer", "connect")
	for range 1 + w.pick(2) {
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = w.oneOf("range", "range", "range", "rr", ""), subscription(w.oneOf("foo", "bar"))
		req.Protocols = append(req.Protocols, p)
	}
	return w.shard.Join(w.now, w.token(req.Group), group.Client{ID: "c", Host: "/h"}, fmt.Sprint(w.last), req)
}

func (w *walk) sync() group.Output {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group = int16(w.pick(5)), w.groupID()
	req.MemberID, req.InstanceID = w.member(req.Group)
	if leader := w.leaders[fmt.Sprint(req.Group, w.generations[req.Group])]; leader != "" && w.pick(2) == 0 {
		req.MemberID, req.InstanceID = leader, nil
	}
	req.Generation = w.generation(req.Group)
	for range w.pick(4) {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, _ = w.member(req.Group)
		a.MemberAssignment = make([]byte, 1<<w.pick(9))
		req.GroupAssignment = append(req.GroupAssignment, a)
	}
	return w.shard.Sync(w.now, w.token(req.Group), req)
}

func (w *walk) leave() group.Output {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group = int16(w.pick(6)), w.groupID()
	req.MemberID, _ = w.member(req.Group)
	for range 1 + w.pick(2) {
		m := kmsg.NewLeaveGroupRequestMember()
		m.MemberID, m.InstanceID = w.member(req.Group)
		req.Members = append(req.Members, m)
	}
	return w.shard.Leave(w.now, w.token(req.Group), req)
}

func (w *walk) commit() error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.RetentionTimeMillis = int16(2+w.pick(8)), w.groupID(), -1
	if w.pick(8) == 0 {
		req.RetentionTimeMillis = int64(w.pick(10)) * 3_600_000
	}
	if req.Generation = -1; w.pick(4) > 0 {
		req.Generation = w.generation(req.Group)
		req.MemberID, req.InstanceID = w.member(req.Group)
	}
	t := kmsg.NewOffsetCommitRequestTopic()
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	t.Topic, p.Partition, p.Offset = w.oneOf("foo", "bar"), int32(w.pick(2)), int64(w.pick(100))
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	out := w.shard.OffsetCommit(w.now, w.token(req.Group), w.topics, req)
	resp := out.Replies[0].Response.(*kmsg.OffsetCommitResponse)
	if ok := resp.Topics[0].Partitions[0].ErrorCode == 0; ok {
		w.offsets[fmt.Sprint(req.Group, "/", t.Topic, "/", p.Partition)] = p.Offset
		if len(out.Records) != 1 {
			return fmt.Errorf("%d records for a commit", len(out.Records))
		}
	} else if len(out.Records) != 0 {
		return errors.New("a refused commit was written")
	}
	return w.check(out)
}

// fetch compares all committed offsets with the model.
func (w *walk) fetch() error {
	req := kmsg.NewOffsetFetchRequestGroup()
	req.Group = w.groupID()
	out := w.shard.OffsetFetch(w.now, w.token(req.Group), w.topics, 9, req)
	got := 0
	for _, t := range out.Replies[0].Response.(*kmsg.OffsetFetchResponse).Groups[0].Topics {
		for _, p := range t.Partitions {
			got++
			if want, ok := w.offsets[fmt.Sprint(req.Group, "/", t.Topic, "/", p.Partition)]; !ok || want != p.Offset {
				return fmt.Errorf("fetched %s-%d %d, committed %d %v", t.Topic, p.Partition, p.Offset, want, ok)
			}
		}
	}
	want := 0
	for key := range w.offsets {
		if strings.HasPrefix(key, req.Group+"/") {
			want++
		}
	}
	if got != want {
		return fmt.Errorf("fetched %d offsets, committed %d", got, want)
	}
	return w.check(out)
}

// remove deletes a group or an offset: a group with members stays, of others nothing does.
func (w *walk) remove() error {
	id, topic := w.groupID(), w.oneOf("foo", "bar")
	if w.pick(2) == 0 {
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = id
		req.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}, {Partition: 1}}}}
		return w.check(w.shard.OffsetDelete(w.now, w.token(id), w.topics, req))
	}
	members := len(w.shard.Members(id))
	out := w.shard.Delete(w.now, w.token(id), 3, []string{id})
	deleted := out.Replies[0].Response.(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode == 0
	if deleted && members > 0 {
		return fmt.Errorf("group %s was deleted with %d members", id, members)
	}
	if err := w.check(out); err != nil {
		return err
	}
	for key := range w.offsets {
		if deleted && strings.HasPrefix(key, id+"/") {
			return fmt.Errorf("offset %s of a deleted group has no tombstone", key)
		}
	}
	if _, there := w.shard.Generations()[id]; there && deleted {
		return fmt.Errorf("group %s was deleted and is there", id)
	}
	return nil
}

func (w *walk) deleteTopic() error {
	name := w.oneOf("foo", "bar")
	topic := w.topics[name]
	topic.ID[1]++
	w.topics[name] = topic // made anew at once
	return w.check(w.shard.TopicsDeleted(w.now, w.topics, map[string]struct{}{name: {}}))
}

// reload goes on with the state as it comes out of the log; what waited is lost.
func (w *walk) reload() error {
	w.shard.Release()
	w.shard = group.NewShard(w.settings)
	for _, r := range w.log {
		if err := w.shard.Replay(r); err != nil {
			return err
		}
	}
	clear(w.open)
	w.generations = w.shard.Generations()
	clear(w.leaders) // a generation that was not written is given out again
	return w.check(w.shard.Loaded(w.now, w.topics))
}

func (w *walk) check(out group.Output) error {
	if err := w.checkRecords(out.Records); err != nil {
		return err
	}
	for _, r := range out.Replies {
		id, ok := w.open[r.Token]
		if !ok {
			return fmt.Errorf("token %d is answered and does not wait", r.Token)
		}
		delete(w.open, r.Token)
		if j, ok := r.Response.(*kmsg.JoinGroupResponse); ok {
			if err := w.checkJoin(id, j); err != nil {
				return err
			}
		}
	}
	generations := w.shard.Generations()
	for id, g := range generations {
		if g < w.generations[id] {
			return fmt.Errorf("generation of %s went from %d to %d", id, w.generations[id], g)
		}
	}
	for key := range w.leaders {
		if _, there := generations[key[:1]]; !there {
			delete(w.leaders, key) // the group ended; another of its name begins at 1 again
		}
	}
	w.generations = generations
	return w.shard.Invariants()
}

// checkRecords compares what a replay gives with the live state.
func (w *walk) checkRecords(records []group.Record) error {
	for _, r := range records {
		w.log = append(w.log, r)
		if err := w.replayed.Replay(r); err != nil {
			return err
		}
		var k kmsg.OffsetCommitKey
		if r.Value == nil && k.ReadFrom(r.Key) == nil && k.Version < 2 {
			delete(w.offsets, fmt.Sprint(k.Group, "/", k.Topic, "/", k.Partition))
		}
	}
	skip := w.shard.Rebalancing()
	if live, replayed := w.shard.Durable(skip), w.replayed.Durable(skip); live != replayed {
		return fmt.Errorf("live state:\n%s\nreplayed:\n%s", live, replayed)
	}
	return nil
}

// checkJoin: a generation has one leader, who is the only one to be told the members.
func (w *walk) checkJoin(id string, j *kmsg.JoinGroupResponse) error {
	if j.MemberID != "" {
		w.members[id] = append(w.members[id], j.MemberID)
	}
	if j.ErrorCode != 0 {
		return nil
	}
	w.joined++
	if (len(j.Members) > 0) != (j.LeaderID == j.MemberID) {
		return fmt.Errorf("%d members told to %s, leader is %s", len(j.Members), j.MemberID, j.LeaderID)
	}
	key := fmt.Sprint(id, j.Generation)
	if before := w.leaders[key]; before != "" && before != j.LeaderID && !strings.HasPrefix(j.LeaderID, "i") {
		return fmt.Errorf("generation %s was led by %s, now by %s", key, before, j.LeaderID)
	}
	w.leaders[key] = j.LeaderID
	return nil
}

// drain lets time pass until nobody waits any more.
func (w *walk) drain() error {
	for end := w.now.Add(3 * time.Hour); ; {
		at, ok := w.shard.Deadline()
		if !ok || at.After(end) {
			break
		}
		w.now = at
		if err := w.check(w.shard.Expire(at)); err != nil {
			return err
		}
	}
	if len(w.open) > 0 {
		return fmt.Errorf("%d requests are never answered\n%s", len(w.open), w.shard.Dump())
	}
	return nil
}

func (w *walk) run(steps int) error {
	for i := range steps {
		if err := w.step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return w.drain()
}

// TestRandomEventsKeepTheInvariants walks at random: never a panic, every request is
// answered once, a replay gives the live state, a committed offset is the last committed.
func TestRandomEventsKeepTheInvariants(t *testing.T) {
	joined := 0
	for seed := range uint64(300) {
		w := newWalk(seeded{rand.New(rand.NewPCG(seed, 1))})
		if err := w.run(400); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		joined += w.joined
	}
	if joined < 3000 {
		t.Errorf("only %d members joined: the walk does not reach far", joined)
	}
}

// FuzzShard is the walk with a fuzzer's choices.
func FuzzShard(f *testing.F) {
	for seed := range uint64(20) {
		b := make([]byte, 2000)
		r := rand.New(rand.NewPCG(seed, 2))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := newWalk(&tape{b}).run(min(len(b), 600) / 4); err != nil {
			t.Fatal(err)
		}
	})
}
