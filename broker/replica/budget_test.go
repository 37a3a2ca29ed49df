package replica_test

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// sealed writes so many segments of two records and leaves the last one open.
func sealed(t *testing.T, l *replica.Leader, segments int) {
	t.Helper()
	for range segments {
		fill(t, l, 2, 1000)
		if err := l.Log().Roll(); err != nil {
			t.Fatal(err)
		}
		if err := l.Log().Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// uploaded says that the bucket has all below end.
func uploaded(w *world, l *replica.Leader, end protocol.Offset) {
	row := l.Row()
	key := l.Key()
	w.do(&metadatapb.Command_CommitManifest{CommitManifest: &metadatapb.CommitManifest{
		TopicId: key.Topic[:], Partition: key.Partition, ParentVersion: row.Manifest.Version, Version: row.Manifest.Version + 1,
		From: int64(row.Manifest.TieredEnd), TieredEnd: int64(end), Segments: row.Manifest.Segments + 1, Bytes: 1, LeaderEpoch: int32(l.Epoch()),
		Root: &metadatapb.PagePlace{Key: l.Topic() + string(rune('a'+row.Manifest.Version)), Length: 1}, Attempt: &metadatapb.Attempt{Generation: 1, Index: w.img.Index()},
	}})
}

func TestTheDiskBudgetEvictsWhatTheBucketHoldsAndThenRefusesProduce(t *testing.T) {
	w := newWorld(t, "strata.disk.budget.bytes", "7000")
	w.do(&metadatapb.Command_BindBucket{BindBucket: &metadatapb.BindBucket{Url: "mem://test", Generation: 1}})
	old := w.topic("old", 1, "local.retention.bytes", "-1", "local.retention.ms", "-1", "retention.ms", "-1")[0]
	young := w.topic("young", 1, "local.retention.bytes", "-1", "local.retention.ms", "-1", "retention.ms", "-1")[0]
	compacted := w.topic("compacted", 1, "cleanup.policy", "compact")[0]
	sealed(t, compacted, 1)
	sealed(t, old, 2)
	<-time.After(2 * time.Millisecond) // segments know when they were sealed to the millisecond
	sealed(t, young, 2)
	uploaded(w, compacted, 2)
	w.m.KeepBudget(t.Context())
	if old.Log().Start() != 0 || !w.dir.OverBudget() {
		t.Fatalf("nothing is in the bucket: the old log starts at %d, over budget %t", old.Log().Start(), w.dir.OverBudget())
	}
	if _, err := produce(t, young, batch(1, 100)); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("produce beyond the budget: %v", err)
	}
	if _, err := produce(t, compacted, batch(1, 100)); err != nil {
		t.Errorf("produce to what is never evicted: %v", err)
	}
	uploaded(w, old, 4)
	uploaded(w, young, 4)
	w.m.KeepBudget(t.Context())
	if old.Log().Start() != 4 && old.Log().Start() != 2 || young.Log().Start() != 0 || compacted.Log().Start() != 0 {
		t.Errorf("logs start at %d (old), %d (young), %d (compacted): the oldest goes first", old.Log().Start(), young.Log().Start(), compacted.Log().Start())
	}
	if old.LogStart() != 0 {
		t.Errorf("the partition starts at %d: eviction loses nothing", old.LogStart())
	}
	if _, err := produce(t, young, batch(1, 100)); err != nil || w.dir.OverBudget() {
		t.Errorf("produce within the budget: %v", err)
	}
}

func TestAnOpenSegmentIsSealedWhereTheBudgetIsUsedUp(t *testing.T) {
	w := newWorld(t, "strata.disk.budget.bytes", "1000")
	w.do(&metadatapb.Command_BindBucket{BindBucket: &metadatapb.BindBucket{Url: "mem://test", Generation: 1}})
	l := w.topic("t", 1, "retention.ms", "-1")[0]
	fill(t, l, 2, 1000)
	w.m.KeepBudget(t.Context())
	if n := l.Log().Segments(); n != 2 {
		t.Fatalf("%d segments: what is open can be neither uploaded nor evicted", n)
	}
	for range 3 {
		w.m.KeepBudget(t.Context())
	}
	if n := l.Log().Segments(); n != 2 {
		t.Errorf("%d segments: an empty one is not sealed again", n)
	}
}

func TestWhatIsNeverEvictedUsesUpNoBudget(t *testing.T) {
	w := newWorld(t, "strata.disk.budget.bytes", "5000")
	w.do(&metadatapb.Command_BindBucket{BindBucket: &metadatapb.BindBucket{Url: "mem://test", Generation: 1}})
	tiered := w.topic("tiered", 1, "retention.ms", "-1")[0]
	sealed(t, w.topic("compacted", 1, "cleanup.policy", "compact")[0], 4)
	sealed(t, w.topic("local", 1, "remote.storage.enable", "false")[0], 4)
	w.m.KeepBudget(t.Context())
	if _, err := produce(t, tiered, batch(1, 100)); err != nil || w.dir.OverBudget() {
		t.Errorf("over budget %t: %v", w.dir.OverBudget(), err)
	}
}
