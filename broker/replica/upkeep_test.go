package replica_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// archive makes a topic whose first two records are in the bucket only.
func archive(t *testing.T, w *world, configs ...string) *replica.Leader {
	t.Helper()
	if w.img.Bucket().Generation == 0 {
		w.do(&metadatapb.Command_BindBucket{BindBucket: &metadatapb.BindBucket{Url: "mem://test", Generation: 1}})
	}
	l := w.topic("archive", 1, configs...)[0]
	fill(t, l, 2, 100)
	if err := l.Log().Roll(); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 2, 100)
	if err := l.Log().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := l.Key()
	w.do(&metadatapb.Command_CommitManifest{CommitManifest: &metadatapb.CommitManifest{
		TopicId: key.Topic[:], Version: 1, TieredEnd: 2, Segments: 1, Bytes: 200, LeaderEpoch: int32(l.Epoch()),
		Root: &metadatapb.PagePlace{Key: "k", Length: 1}, Attempt: &metadatapb.Attempt{Generation: 1, Index: w.img.Index()},
	}})
	if n, _, err := l.Log().Evict(2, 0, 0, time.Now()); err != nil || n != 1 {
		t.Fatalf("%d segments evicted: %v", n, err)
	}
	return l
}

func TestOnlyATopicThatSaysSoGivesUpItsArchive(t *testing.T) {
	for name, tc := range map[string]struct {
		configs []string
		want    protocol.Offset
	}{
		"tiering off by default":              {[]string{"retention.ms", "-1"}, 0},
		"tiering off, deletion not asked for": {[]string{"retention.ms", "-1", "remote.storage.enable", "false"}, 0},
		"tiering off and deletion asked for":  {[]string{"retention.ms", "-1", "remote.storage.enable", "false", "remote.log.delete.on.disable", "true"}, 2},
		"the same of a compacted topic": {
			[]string{"cleanup.policy", "compact", "remote.storage.enable", "false", "remote.log.delete.on.disable", "true"}, 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "strata.remote.storage.enable", "false")
			l := archive(t, w, tc.configs...)
			w.m.Sweep(t.Context())
			if l.LogStart() != tc.want {
				t.Errorf("log start %d, want %d", l.LogStart(), tc.want)
			}
		})
	}
}

func TestATopicWithoutACleanupPolicyKeepsEverything(t *testing.T) {
	for policy, want := range map[string]protocol.Offset{"": 0, "compact": 0, "delete": 2} {
		w := newWorld(t, "strata.remote.storage.enable", "false")
		l := w.topic("t", 1, "cleanup.policy", policy, "retention.bytes", "1")[0]
		fill(t, l, 2, 100)
		if err := l.Log().Roll(); err != nil {
			t.Fatal(err)
		}
		fill(t, l, 2, 100)
		w.m.Sweep(t.Context())
		if l.LogStart() != want {
			t.Errorf("cleanup.policy=%q: log start %d, want %d", policy, l.LogStart(), want)
		}
	}
}

// evicting is a cold tier during whose look-up the hot one loses a segment.
type evicting struct {
	noBucket
	evict func()
}

func (e *evicting) OffsetForTime(context.Context, protocol.PartitionKey, protocol.Timestamp, protocol.Offset) (replica.Found, bool, error) {
	if e.evict != nil {
		e.evict()
		e.evict = nil
		return replica.Found{}, false, nil // as the manifest was before
	}
	return replica.Found{Offset: 2, Timestamp: 1}, true, nil
}

func TestALookUpByTimeMissesNothingThatMovesToTheBucketMeanwhile(t *testing.T) {
	w := newWorld(t)
	l := tiered(t, w, 1)[0] // 0 and 1 are cold, 2 and 3 hot
	if err := l.Log().Roll(); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 1, 100)
	if err := l.Log().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	cold := &evicting{evict: func() {
		if n, _, err := l.Log().Evict(4, 0, 0, time.Now()); err != nil || n != 1 {
			t.Errorf("%d segments evicted: %v", n, err)
		}
	}}
	f, ok, err := l.OffsetForTime(t.Context(), cold, 1, false)
	if err != nil || !ok || f.Offset != 2 {
		t.Errorf("found %+v %v %v, want offset 2", f, ok, err)
	}
}

func TestAPartitionThatCannotBeRestoredIsOfflineUntilTheBucketAnswers(t *testing.T) {
	w := newWorld(t)
	bucket := &restoring{}
	w.cold = bucket
	l := archive(t, w, "retention.ms", "-1")
	key := l.Key()
	w.restart(func() {
		if err := vfs.RemoveAll(w.fs, "/d/archive-0"); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := w.m.Get(key); err == nil || !w.m.IsOffline(key) {
		t.Fatalf("served without its state: %v", err)
	}
	bucket.answers.Store(true)
	w.m.RetryOffline(t.Context())
	l, err := w.m.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	if l.Log().Start() != 2 || l.Log().LEO() != 2 {
		t.Errorf("restored to [%d, %d), want the tiered end 2", l.Log().Start(), l.Log().LEO())
	}
	if a, err := produce(t, l, batch(1, 10)); err != nil || a.First != 2 {
		t.Errorf("the next append: %+v %v", a, err)
	}
}

// restoring is a bucket that comes to answer.
type restoring struct {
	noBucket
	answers atomic.Bool
}

func (r *restoring) StateAt(context.Context, protocol.PartitionKey, protocol.Offset) ([]protocol.EpochStart, []byte, error) {
	if !r.answers.Load() {
		return nil, nil, replica.ErrNoCold
	}
	return []protocol.EpochStart{{Epoch: 0, Start: 0}}, nil, nil
}

func TestALogThatGoesOfflineFailsWhoWaits(t *testing.T) {
	w := newWorld(t)
	l := w.topic("t", 1)[0]
	fill(t, l, 1, 10)
	done := make(chan []replica.FetchResult, 1)
	w.fetchAll([]replica.FetchPartition{part(l, 1, 100)}, replica.FetchOptions{MinBytes: 1, MaxBytes: 100, MaxWait: time.Minute},
		func(r []replica.FetchResult) { done <- r })
	w.fs.Fail(func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite || op.Kind == vfs.OpTruncate || op.Kind == vfs.OpSize {
			return errors.New("I/O error")
		}
		return nil
	})
	if _, err := produce(t, l, batch(1, 10)); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("a write that cannot be taken back: %v", err)
	}
	w.broken = true
	w.fs.Fail(nil)
	if r := <-done; !errors.Is(r[0].Err, kerr.KafkaStorageError) {
		t.Errorf("the waiting fetch: %v", r[0].Err)
	}
	if !w.m.IsOffline(l.Key()) || w.m.Offline() != 1 {
		t.Error("the partition does not count as offline")
	}
}
