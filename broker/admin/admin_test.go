package admin_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/admin"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// quorum applies at once.
type quorum struct {
	mu    sync.Mutex
	img   *metadata.Image
	lose  bool // the next answer is lost: applied, and an unknown outcome
	steal bool // another broker takes a block of producer ids first
}

func (q *quorum) Image() *metadata.Image {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.img
}

func (q *quorum) apply(cmd *metadata.Command) (metadata.Result, error) {
	img, _, r, err := metadata.Apply(q.img, cmd, q.img.Index()+1)
	q.img = img
	return r, err
}

func (q *quorum) Propose(_ context.Context, cmd *metadata.Command) (metadata.Result, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.steal {
		q.steal = false
		mine := cmd.GetAllocateProducerIds()
		other := &metadatapb.AllocateProducerIDs{Broker: mine.Broker, BrokerEpoch: mine.BrokerEpoch, ExpectedNext: mine.ExpectedNext, Count: mine.Count}
		if _, err := q.apply(&metadata.Command{Kind: &metadatapb.Command_AllocateProducerIds{AllocateProducerIds: other}}); err != nil {
			return metadata.Result{}, err
		}
	}
	r, err := q.apply(cmd)
	if q.lose {
		q.lose = false
		return metadata.Result{}, errors.New("outcome not known")
	}
	return r, err
}

type fixture struct {
	*admin.Admin
	q    *quorum
	full bool
}

func newFixture(t *testing.T, settings map[string]string) *fixture {
	t.Helper()
	values := map[string]string{"node.id": "1", "num.partitions": "3"}
	maps.Copy(values, settings)
	static, _, err := metadata.NewStatic(values)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{q: &quorum{img: metadata.EmptyImage()}}
	id := make([]byte, 16)
	id[0] = 1
	must := func(cmd *metadata.Command) metadata.Result {
		r, err := f.q.Propose(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	must(&metadata.Command{Kind: &metadatapb.Command_InitCluster{InitCluster: &metadatapb.InitCluster{ClusterId: "c", StrataVersion: 1}}})
	r := must(&metadata.Command{Kind: &metadatapb.Command_RegisterBroker{RegisterBroker: &metadatapb.RegisterBroker{
		Broker: 1, Incarnation: id, Directories: [][]byte{id}, PreviousEpoch: -1, MinVersion: 1, MaxVersion: 1,
		Listeners: []*metadatapb.Listener{{Name: "PLAINTEXT", Protocol: "PLAINTEXT", Host: "h", Port: 1}},
	}}})
	must(&metadata.Command{Kind: &metadatapb.Command_SetBrokerFencing{SetBrokerFencing: &metadatapb.SetBrokerFencing{Broker: 1, BrokerEpoch: int64(r.BrokerEpoch)}}})
	f.Admin = admin.New(admin.Config{
		Self: 1, Static: static, Metadata: f.q, BelowReserve: func() bool { return f.full },
		Epoch: func() protocol.BrokerEpoch { return r.BrokerEpoch },
	})
	return f
}

func topic(name string) admin.NewTopic {
	return admin.NewTopic{Name: name, Partitions: -1, Replication: -1}
}

func TestTopicsAreCreatedAsAsked(t *testing.T) {
	f := newFixture(t, nil)
	got, factor, err := f.CreateTopic(t.Context(), topic("a"), false)
	if err != nil || got.Partitions != 3 || factor != 1 {
		t.Fatalf("%+v, factor %d, %v", got, factor, err)
	}
	want := topic("b")
	want.Assignment = map[int32][]protocol.BrokerID{0: {1}, 1: {1}}
	if got, _, err = f.CreateTopic(t.Context(), want, true); err != nil || got.Partitions != 2 {
		t.Fatalf("validate only: %+v, %v", got, err)
	}
	if _, ok := f.Image().Topic("b"); ok {
		t.Error("validate only created the topic")
	}
}

func TestWhatKafkaRefusesIsRefused(t *testing.T) {
	f := newFixture(t, nil)
	if _, _, err := f.CreateTopic(t.Context(), topic("a.b"), false); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		topic admin.NewTopic
		code  *kerr.Error
	}{
		"exists":              {topic("a.b"), kerr.TopicAlreadyExists},
		"collides":            {topic("a_b"), kerr.InvalidTopicException},
		"bad name":            {topic("a b"), kerr.InvalidTopicException},
		"no partitions":       {admin.NewTopic{Name: "x", Partitions: 0, Replication: -1}, kerr.InvalidPartitions},
		"too many partitions": {admin.NewTopic{Name: "x", Partitions: 20000, Replication: -1}, kerr.PolicyViolation},
		"too many replicas":   {admin.NewTopic{Name: "x", Partitions: 1, Replication: 2}, kerr.InvalidReplicationFactor},
		"no replicas":         {admin.NewTopic{Name: "x", Partitions: 1, Replication: 0}, kerr.InvalidReplicationFactor},
		"unknown setting":     {admin.NewTopic{Name: "x", Partitions: 1, Replication: 1, Configs: map[string]string{"no.such": "1"}}, kerr.InvalidConfig},
		"bad value":           {admin.NewTopic{Name: "x", Partitions: 1, Replication: 1, Configs: map[string]string{"segment.bytes": "1"}}, kerr.InvalidConfig},
		"tiered without bucket": {
			admin.NewTopic{Name: "x", Partitions: 1, Replication: 1, Configs: map[string]string{"remote.storage.enable": "true"}}, kerr.InvalidConfig,
		},
		"gap in the assignment": {
			admin.NewTopic{Name: "x", Partitions: -1, Replication: -1, Assignment: map[int32][]protocol.BrokerID{0: {1}, 2: {1}}}, kerr.InvalidReplicaAssignment,
		},
		"unknown broker": {
			admin.NewTopic{Name: "x", Partitions: -1, Replication: -1, Assignment: map[int32][]protocol.BrokerID{0: {7}}}, kerr.InvalidReplicaAssignment,
		},
		"assignment and count": {
			admin.NewTopic{Name: "x", Partitions: 1, Replication: -1, Assignment: map[int32][]protocol.BrokerID{0: {1}}}, kerr.InvalidRequest,
		},
	} {
		if _, _, err := f.CreateTopic(t.Context(), tc.topic, false); !errors.Is(err, tc.code) {
			t.Errorf("%s: %v, want %v", name, err, tc.code)
		}
	}
}

func TestAFullDiskRefusesWhatGrowsTheMetadataAndNothingElse(t *testing.T) {
	f := newFixture(t, nil)
	made, _, err := f.CreateTopic(t.Context(), topic("a"), false)
	if err != nil {
		t.Fatal(err)
	}
	f.full = true
	if _, _, err := f.CreateTopic(t.Context(), topic("b"), false); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("create: %v", err)
	}
	if err := f.AddPartitions(t.Context(), "a", 5, nil, false); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("grow: %v", err)
	}
	if err := f.DeleteTopic(t.Context(), made.ID); err != nil {
		t.Errorf("delete: %v", err)
	}
	f.full = false
	if _, _, err := f.CreateTopic(t.Context(), topic("b"), false); err != nil {
		t.Errorf("after space was freed: %v", err)
	}
}

func TestPartitionsAreAddedNeverTaken(t *testing.T) {
	f := newFixture(t, nil)
	if _, _, err := f.CreateTopic(t.Context(), topic("a"), false); err != nil {
		t.Fatal(err)
	}
	for count, code := range map[int32]*kerr.Error{3: kerr.InvalidPartitions, 1: kerr.InvalidPartitions} {
		if err := f.AddPartitions(t.Context(), "a", count, nil, false); !errors.Is(err, code) {
			t.Errorf("to %d: %v", count, err)
		}
	}
	if err := f.AddPartitions(t.Context(), "a", 5, [][]protocol.BrokerID{{1}}, false); !errors.Is(err, kerr.InvalidReplicaAssignment) {
		t.Errorf("one assignment for two partitions: %v", err)
	}
	if err := f.AddPartitions(t.Context(), "none", 5, nil, false); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("unknown topic: %v", err)
	}
	if err := f.AddPartitions(t.Context(), "a", 5, nil, false); err != nil {
		t.Error(err)
	}
	if got, _ := f.Image().Topic("a"); got.Partitions != 5 {
		t.Errorf("%d partitions", got.Partitions)
	}
}

func TestConfigChangesAreMadeAllOrNone(t *testing.T) {
	f := newFixture(t, map[string]string{"strata.bucket.url": "mem://x"})
	if _, _, err := f.CreateTopic(t.Context(), topic("a"), false); err != nil {
		t.Fatal(err)
	}
	r := metadata.Resource{Type: metadata.TopicResource, Name: "a"}
	value := func(s string) *string { return &s }
	set := func(name, v string) admin.ConfigChange { return admin.ConfigChange{Name: name, Value: value(v)} }
	for name, tc := range map[string]struct {
		r       metadata.Resource
		changes []admin.ConfigChange
		code    *kerr.Error
	}{
		"one of two is bad": {r, []admin.ConfigChange{set("retention.ms", "1000"), set("segment.bytes", "x")}, kerr.InvalidConfig},
		"given twice":       {r, []admin.ConfigChange{set("retention.ms", "1"), set("retention.ms", "2")}, kerr.InvalidRequest},
		"null":              {r, []admin.ConfigChange{{Name: "retention.ms"}}, kerr.InvalidRequest},
		"append to a number": {
			r, []admin.ConfigChange{{Name: "retention.ms", Op: admin.OpAppend, Value: value("1")}}, kerr.InvalidConfig,
		},
		"unknown operation":     {r, []admin.ConfigChange{{Name: "retention.ms", Op: 9, Value: value("1")}}, kerr.InvalidRequest},
		"unknown topic":         {metadata.Resource{Type: metadata.TopicResource, Name: "b"}, []admin.ConfigChange{set("retention.ms", "1")}, kerr.UnknownTopicOrPartition},
		"unknown resource type": {metadata.Resource{Type: 8, Name: "x"}, []admin.ConfigChange{set("retention.ms", "1")}, kerr.InvalidRequest},
		"not dynamic":           {metadata.Resource{Type: metadata.BrokerResource, Name: "1"}, []admin.ConfigChange{set("listeners", "X://a:1")}, kerr.InvalidRequest},
		"unknown broker":        {metadata.Resource{Type: metadata.BrokerResource, Name: "2"}, []admin.ConfigChange{set("log.retention.ms", "1")}, kerr.InvalidRequest},
		"tiering off, data kept": {
			r, []admin.ConfigChange{set("remote.storage.enable", "false")}, kerr.InvalidConfig,
		},
	} {
		if err := f.AlterConfigs(t.Context(), tc.r, tc.changes, false); !errors.Is(err, tc.code) {
			t.Errorf("%s: %v, want %v", name, err, tc.code)
		}
	}
	for n, v := range f.Image().Configs(r) {
		t.Errorf("a refused change left %s=%s", n, v)
	}
	changes := []admin.ConfigChange{{Name: "cleanup.policy", Op: admin.OpAppend, Value: value("compact")}, set("retention.ms", "5000")}
	if err := f.AlterConfigs(t.Context(), r, changes, false); err != nil {
		t.Fatal(err)
	}
	c := f.Static().Topic(f.Image(), "a")
	if !c.Compact || !c.Delete || c.RetentionMs != 5000 {
		t.Errorf("%+v", c)
	}
	undo := []admin.ConfigChange{{Name: "cleanup.policy", Op: admin.OpSubtract, Value: value("compact")}, {Name: "retention.ms", Op: admin.OpDelete}}
	if err := f.AlterConfigs(t.Context(), r, undo, false); err != nil {
		t.Fatal(err)
	}
	if c := f.Static().Topic(f.Image(), "a"); c.Compact || c.RetentionMs != 604800000 {
		t.Errorf("%+v", c)
	}
	all := metadata.Resource{Type: metadata.BrokerResource}
	if err := f.AlterConfigs(t.Context(), all, []admin.ConfigChange{set("log.retention.ms", "7000")}, false); err != nil {
		t.Fatal(err)
	}
	if c := f.Static().Topic(f.Image(), "a"); c.RetentionMs != 7000 {
		t.Errorf("default of all brokers: %d", c.RetentionMs)
	}
}

func TestNoProducerIDIsGivenTwice(t *testing.T) {
	f := newFixture(t, nil)
	seen := map[protocol.ProducerID]bool{}
	take := func(n int) {
		for range n {
			id, err := f.AllocateProducerID(t.Context())
			if err != nil {
				continue // the block of a lost answer is lost, not used
			}
			if seen[id] {
				t.Fatalf("producer id %d was given twice", id)
			}
			seen[id] = true
		}
	}
	take(1500)
	f.q.lose = true
	take(1500)
	f.q.steal = true
	take(1500)
	var wg sync.WaitGroup
	ids := make(chan protocol.ProducerID, 4000)
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				if id, err := f.AllocateProducerID(t.Context()); err == nil {
					ids <- id
				}
			}
		})
	}
	wg.Wait()
	close(ids)
	for id := range ids {
		if seen[id] {
			t.Fatalf("producer id %d was given twice", id)
		}
		seen[id] = true
	}
}

func TestTheOffsetsTopicFitsASmallCluster(t *testing.T) {
	f := newFixture(t, nil)
	if err := f.Ensure(t.Context(), admin.OffsetsTopic); err != nil {
		t.Fatal(err)
	}
	if err := f.Ensure(t.Context(), admin.OffsetsTopic); err != nil {
		t.Fatalf("a second time: %v", err)
	}
	got, _ := f.Image().Topic(admin.OffsetsTopic)
	c := f.Static().Topic(f.Image(), admin.OffsetsTopic)
	if got.Partitions != 50 || !c.Compact || c.SegmentBytes != 104857600 {
		t.Errorf("%d partitions, %+v", got.Partitions, c)
	}
}
