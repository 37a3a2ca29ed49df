package coordinator_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/coordinator"
	"github.com/stratabroker/strata/broker/group"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

var errFenced = errors.New("fenced by a newer leader epoch")

// fakeLog is __consumer_offsets in memory. What is appended lies in the log at once and is
// committed after delay, or when commit is called if delay is negative.
type fakeLog struct {
	mu      sync.Mutex
	count   int32
	ensures int
	delay   time.Duration
	parts   map[int32]*fakePartition
	readErr error
	full    bool
	// refuse decides whether an append is refused; nil refuses none.
	refuse func(batch record.Batch) error
}

type fakePartition struct {
	epoch   protocol.Epoch
	batches []record.Batch
	hw      int // batches below are committed
	next    protocol.Offset
	pending []func(error)
}

func newFakeLog(count int32) *fakeLog {
	return &fakeLog{count: count, parts: map[int32]*fakePartition{}}
}

func (f *fakeLog) part(p int32) *fakePartition {
	if f.parts[p] == nil {
		f.parts[p] = &fakePartition{}
	}
	return f.parts[p]
}

func (f *fakeLog) Count() int32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

func (f *fakeLog) Ensure(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ensures++; f.ensures == 1 {
		return errors.New("no controller yet")
	}
	f.count = 4
	return nil
}

func (f *fakeLog) Append(p int32, epoch protocol.Epoch, batch []byte, done func(protocol.Offset, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	part, b := f.part(p), record.Batch(batch)
	var err error
	if epoch < part.epoch {
		err = errFenced
	} else if f.refuse != nil {
		err = f.refuse(b)
	}
	if err != nil {
		go done(protocol.NoOffset, err)
		return
	}
	b.SetBaseOffset(part.next)
	base := part.next
	part.next = b.NextOffset()
	part.batches = append(part.batches, b)
	part.pending = append(part.pending, func(err error) { done(base, err) })
	if f.delay >= 0 {
		go func() {
			time.Sleep(f.delay) // in a synctest bubble
			f.commit(p, 1)
		}()
	}
}

// commit lets the high watermark pass n batches.
func (f *fakeLog) commit(p int32, n int) {
	f.mu.Lock()
	part := f.part(p)
	n = min(n, len(part.pending))
	due := part.pending[:n]
	part.pending = part.pending[n:]
	part.hw += n
	f.mu.Unlock()
	for _, done := range due {
		done(nil)
	}
}

// fence raises the epoch: what is not committed is refused and cut off.
func (f *fakeLog) fence(p int32, epoch protocol.Epoch) {
	f.mu.Lock()
	part := f.part(p)
	part.epoch = epoch
	part.batches = part.batches[:part.hw]
	if part.next = 0; part.hw > 0 {
		part.next = part.batches[part.hw-1].NextOffset()
	}
	due := part.pending
	part.pending = nil
	f.mu.Unlock()
	for _, done := range due {
		done(errFenced)
	}
}

func (f *fakeLog) Read(_ context.Context, p int32, from protocol.Offset) ([]byte, protocol.Offset, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readErr != nil {
		return nil, from, f.readErr
	}
	part := f.part(p)
	for _, b := range part.batches[:part.hw] {
		if b.NextOffset() > from {
			return b, b.NextOffset(), nil // one at a time
		}
	}
	return nil, from, nil
}

func (f *fakeLog) Room() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.full
}

func (f *fakeLog) setFull(full bool) {
	f.mu.Lock()
	f.full = full
	f.mu.Unlock()
}

func (f *fakeLog) Start(int32) protocol.Offset { return 0 }

func (f *fakeLog) setReadErr(err error) {
	f.mu.Lock()
	f.readErr = err
	f.mu.Unlock()
}

func (f *fakeLog) setRefuse(refuse func(record.Batch) error) {
	f.mu.Lock()
	f.refuse = refuse
	f.mu.Unlock()
}

// appended is the number of batches in the log.
func (f *fakeLog) appended(p int32) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.part(p).batches)
}

// topics is the topics of a test.
type topics map[string]metadata.Topic

func (t topics) Topic(name string) (metadata.Topic, bool) {
	topic, ok := t[name]
	return topic, ok
}

func (t topics) TopicByID(id protocol.TopicID) (metadata.Topic, bool) {
	for _, topic := range t {
		if topic.ID == id {
			return topic, true
		}
	}
	return metadata.Topic{}, false
}

// rig is a coordinator over a fake log, to be used inside a synctest bubble.
type rig struct {
	*coordinator.Coordinator
	t   *testing.T
	log *fakeLog
	mu  sync.Mutex
	top topics // guarded by mu; replaced as a whole
}

func newRig(t *testing.T, log *fakeLog, mailbox int) *rig {
	t.Helper()
	return newRigWith(t, log, mailbox, func(*group.Settings) {})
}

func newRigWith(t *testing.T, log *fakeLog, mailbox int, change func(*group.Settings)) *rig {
	t.Helper()
	settings := group.Settings{
		MinSessionTimeout: 6 * time.Second, MaxSessionTimeout: time.Hour, OffsetMetadataMaxBytes: 4096,
		OffsetsRetention: 24 * time.Hour, ExpiryInterval: 10 * time.Minute,
	}
	change(&settings)
	r := &rig{t: t, log: log, top: topics{"foo": {Name: "foo", ID: protocol.TopicID{1}, Partitions: 100}}}
	r.Coordinator = coordinator.New(coordinator.Config{
		Partitions: log, Logger: slog.New(slog.DiscardHandler), MailboxRequests: mailbox,
		Topics: func() group.Topics {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.top
		},
		Group: settings,
	})
	t.Cleanup(r.Close)
	return r
}

func (r *rig) setTopics(top topics) {
	r.mu.Lock()
	r.top = top
	r.mu.Unlock()
}

// answer is a reply to come.
type answer[T any] struct {
	mu  sync.Mutex
	all []T
}

func (a *answer[T]) set(v T) {
	a.mu.Lock()
	a.all = append(a.all, v)
	a.mu.Unlock()
}

// get gives the one reply, nil while there is none.
func (a *answer[T]) get(t *testing.T) *T {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch len(a.all) {
	case 0:
		return nil
	case 1:
		return &a.all[0]
	}
	t.Fatalf("%d replies to one request", len(a.all))
	return nil
}

var me = coordinator.Client{ID: "c", Host: "/10.0.0.1"}

func (r *rig) join(groupID, memberID string, version int16) *answer[*kmsg.JoinGroupResponse] {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.ProtocolType = version, groupID, memberID, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 60_000
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("m")}}
	a := &answer[*kmsg.JoinGroupResponse]{}
	r.Join(me, req, a.set)
	return a
}

func (r *rig) sync(groupID, memberID string, generation int32) *answer[*kmsg.SyncGroupResponse] {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 4, groupID, memberID, generation
	req.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: memberID, MemberAssignment: []byte("plan")}}
	a := &answer[*kmsg.SyncGroupResponse]{}
	r.Sync(me, req, a.set)
	return a
}

func (r *rig) heartbeat(groupID, memberID string, generation int32) *answer[*kmsg.HeartbeatResponse] {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 4, groupID, memberID, generation
	a := &answer[*kmsg.HeartbeatResponse]{}
	r.Heartbeat(me, req, a.set)
	return a
}

func (r *rig) commit(groupID string, partition int32, offset int64) *answer[*kmsg.OffsetCommitResponse] {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 8, groupID, -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = partition, offset
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "foo", Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	a := &answer[*kmsg.OffsetCommitResponse]{}
	r.OffsetCommit(me, req, a.set)
	return a
}

func (r *rig) fetch(version int16, groups ...string) *answer[*kmsg.OffsetFetchResponse] {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = version
	if version < 8 {
		req.Group = groups[0]
		req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "foo", Partitions: []int32{0}}}
	} else {
		for _, id := range groups {
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group = id
			req.Groups = append(req.Groups, g)
		}
	}
	a := &answer[*kmsg.OffsetFetchResponse]{}
	r.OffsetFetch(me, req, a.set)
	return a
}

// committed is the code of a commit's one partition, -1 while there is no reply.
func (r *rig) committed(a *answer[*kmsg.OffsetCommitResponse]) int16 {
	r.t.Helper()
	if p := a.get(r.t); p != nil {
		return (*p).Topics[0].Partitions[0].ErrorCode
	}
	return -1
}

// fetched is the offset of foo-0 in an old fetch, -2 while there is no reply.
func (r *rig) fetched(a *answer[*kmsg.OffsetFetchResponse]) int64 {
	r.t.Helper()
	if p := a.get(r.t); p != nil {
		return (*p).Topics[0].Partitions[0].Offset
	}
	return -2
}
