package recovery_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/mem"
	"github.com/stratabroker/strata/tiering/object/objecttest"
	"github.com/stratabroker/strata/tiering/recovery"
)

func verify(t *testing.T, store object.Store, o recovery.Options) (recovery.Report, []recovery.Anomaly) {
	t.Helper()
	var found []recovery.Anomaly
	o.Found = func(a recovery.Anomaly) { found = append(found, a) }
	report, err := recovery.Verify(t.Context(), store, o)
	if err != nil {
		t.Fatal(err)
	}
	if report.Anomalies != int64(len(found)) {
		t.Fatalf("%d anomalies, %d are reported", report.Anomalies, len(found))
	}
	return report, found
}

func wantClean(t *testing.T, store object.Store, o recovery.Options) recovery.Report {
	t.Helper()
	report, found := verify(t, store, o)
	if !report.Clean() {
		t.Fatalf("anomalies in a clean bucket: %v", found)
	}
	return report
}

func TestCleanBucketIsClean(t *testing.T) {
	w := archive(t)
	var last recovery.Progress
	report := wantClean(t, w.store, recovery.Options{Progress: func(p recovery.Progress) { last = p }})
	var bytes int64
	for p := range int32(2) {
		for _, e := range w.entries(p) {
			bytes += e.ObjectSize
		}
	}
	if report.Segments != 23+6 || report.Partitions != 3 || report.Bytes != bytes || report.Roots != 1 || report.Topics != 1 ||
		report.TotalSegments != 29 || report.TotalBytes != bytes || last != report.Progress {
		t.Errorf("%+v, last progress %+v", report, last)
	}
	// The manifest versions that no root reaches and three expired segment objects.
	if report.UnreachableObjects == 0 || report.UnreachableBytes == 0 {
		t.Errorf("nothing is unreachable: %s", report)
	}
}

func TestEveryPlantedDamageIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		want  recovery.Kind
		plant func(*world) string // the key that must be named, or ""
	}{
		"segment deleted": {recovery.MissingSegment, func(w *world) string {
			key := w.entries(0)[5].ObjectKey
			w.remove(key)
			return key
		}},
		"segment shortened by a byte": {recovery.SegmentSize, func(w *world) string {
			key := w.entries(0)[5].ObjectKey
			b := w.get(key)
			w.put(key, b[:len(b)-1])
			return key
		}},
		"segment cut in its batches": {recovery.SegmentSize, func(w *world) string {
			key := w.entries(1)[0].ObjectKey
			w.put(key, w.get(key)[:500])
			return key
		}},
		"segment emptied": {recovery.SegmentSize, func(w *world) string {
			key := w.entries(1)[0].ObjectKey
			w.put(key, nil)
			return key
		}},
		"segment longer by a byte": {recovery.SegmentSize, func(w *world) string {
			key := w.entries(0)[5].ObjectKey
			w.put(key, append(w.get(key), 0))
			return key
		}},
		"byte flipped in a batch": {recovery.CorruptSegment, func(w *world) string {
			e := w.entries(0)[7]
			w.flip(e.ObjectKey, int(e.DataBytes/2))
			return e.ObjectKey
		}},
		"byte flipped in an index": {recovery.CorruptSegment, func(w *world) string {
			e := w.entries(0)[7]
			w.flip(e.ObjectKey, int(e.IndexOffset+110))
			return e.ObjectKey
		}},
		"byte flipped in a footer": {recovery.CorruptSegment, func(w *world) string {
			e := w.entries(0)[7]
			w.flip(e.ObjectKey, int(e.ObjectSize-3))
			return e.ObjectKey
		}},
		"two segments of one size swapped": {recovery.SwappedSegment, func(w *world) string {
			e := w.entries(0)
			a, b := e[10], e[11]
			if a.ObjectSize != b.ObjectSize {
				w.t.Fatalf("sizes %d and %d", a.ObjectSize, b.ObjectSize)
			}
			x, y := w.get(a.ObjectKey), w.get(b.ObjectKey)
			w.put(a.ObjectKey, y)
			w.put(b.ObjectKey, x)
			return a.ObjectKey
		}},
		"segments of two sizes swapped": {recovery.CorruptSegment, func(w *world) string {
			a, b := w.entries(0)[3].ObjectKey, w.entries(1)[3].ObjectKey
			x, y := w.get(a), w.get(b)
			w.put(a, y)
			w.put(b, x)
			return a
		}},
		"root page of a manifest missing": {recovery.MissingManifest, func(w *world) string {
			key := w.pages(0)[0].Key
			w.remove(key)
			return key
		}},
		"page of a manifest missing": {recovery.MissingPage, func(w *world) string {
			p := w.pages(0)
			key := p[1].Key
			if key == p[0].Key {
				w.t.Fatal("the second page is in the newest object")
			}
			w.remove(key)
			return key
		}},
		"byte flipped in a page": {recovery.CorruptPage, func(w *world) string {
			p := w.pages(0)[2]
			w.flip(p.Key, int(p.Offset)+20)
			return p.Key
		}},
		"manifest object shortened": {recovery.CorruptPage, func(w *world) string {
			p := w.pages(0)[2]
			w.put(p.Key, w.get(p.Key)[:p.Offset+5])
			return p.Key
		}},
		"footer of a manifest damaged": {recovery.CorruptManifest, func(w *world) string {
			key := w.pages(0)[0].Key
			w.flip(key, len(w.get(key))-3)
			return key
		}},
		"manifest objects swapped": {recovery.CorruptPage, func(w *world) string {
			a, b := w.pages(0)[0].Key, w.pages(1)[0].Key
			x, y := w.get(a), w.get(b)
			w.put(a, y)
			w.put(b, x)
			return a
		}},
		"newest root damaged": {recovery.CorruptRoot, func(w *world) string {
			key := w.root(time.UnixMilli(2))
			w.flip(key, 50)
			return key
		}},
		"only root damaged": {recovery.MissingRoot, func(w *world) string {
			w.flip(w.img.Bucket().Roots[0].Place.Key, 50)
			return format.RootPrefix
		}},
		"only root gone": {recovery.MissingRoot, func(w *world) string {
			w.remove(w.img.Bucket().Roots[0].Place.Key)
			return format.RootPrefix
		}},
		"cluster.json gone":    {recovery.MissingIdentity, func(w *world) string { w.remove(format.ClusterKey); return format.ClusterKey }},
		"OWNER gone":           {recovery.MissingIdentity, func(w *world) string { w.remove(format.OwnerKey); return format.OwnerKey }},
		"cluster.json damaged": {recovery.CorruptIdentity, func(w *world) string { w.flip(format.ClusterKey, 30); return format.ClusterKey }},
		"OWNER damaged":        {recovery.CorruptIdentity, func(w *world) string { w.flip(format.OwnerKey, 30); return format.OwnerKey }},
		"OWNER of another cluster": {recovery.IdentityMismatch, func(w *world) string {
			w.put(format.OwnerKey, format.Owner{Generation: 1, ClusterID: "c2"}.Encode())
			return format.OwnerKey
		}},
		"everything of another cluster but the root": {recovery.IdentityMismatch, func(w *world) string {
			w.put(format.OwnerKey, format.Owner{Generation: 1, ClusterID: "c2"}.Encode())
			w.put(format.ClusterKey, format.Cluster{ClusterID: "c2"}.Encode())
			return w.img.Bucket().Roots[0].Place.Key
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := archive(t)
			key := c.plant(w)
			_, found := verify(t, w.store, recovery.Options{})
			for _, a := range found {
				if a.Kind == c.want && (key == "" || a.Object == key) {
					if line := a.String(); strings.Contains(line, "\n") || !strings.HasPrefix(line, string(c.want)) {
						t.Errorf("line %q", line)
					}
					return
				}
			}
			t.Errorf("%s of %s is not among %v", c.want, key, found)
		})
	}
}

func TestEveryByteOfEveryObjectCounts(t *testing.T) {
	w := newWorld(t, 1)
	w.upload(0, 2, 2)
	root := w.root(testTime)
	keys := []string{w.pages(0)[0].Key, w.entries(0)[0].ObjectKey, w.entries(0)[1].ObjectKey, root, format.ClusterKey, format.OwnerKey}
	for _, key := range keys {
		whole := w.get(key)
		for at := range whole {
			w.flip(key, at)
			if report, _ := verify(t, w.store, recovery.Options{}); report.Clean() {
				t.Fatalf("byte %d of %s is flipped, verify is clean", at, key)
			}
			w.put(key, whole)
		}
	}
	wantClean(t, w.store, recovery.Options{})
}

func TestManifestThatDoesNotFitItsRowIsFound(t *testing.T) {
	row := func(w *world, edit func(*metadatapb.CommitManifest)) {
		m := w.row(0).Manifest
		c := &metadatapb.CommitManifest{
			TopicId: w.topic[:], ParentVersion: m.Version, Version: m.Version + 1,
			Root:    &metadatapb.PagePlace{Key: m.Root.Key, Offset: m.Root.Offset, Length: m.Root.Length, Crc: m.Root.CRC},
			Attempt: &metadatapb.Attempt{Generation: 1, Index: w.index}, From: int64(m.TieredEnd), TieredEnd: int64(m.TieredEnd), Bytes: m.Bytes, Segments: m.Segments,
		}
		edit(c)
		w.apply(&metadata.Command{Kind: &metadatapb.Command_CommitManifest{CommitManifest: c}})
	}
	for name, c := range map[string]struct {
		want recovery.Kind
		edit func(*world)
	}{
		"tiered end beyond the manifest": {recovery.OffsetGap, func(w *world) {
			row(w, func(c *metadatapb.CommitManifest) { c.TieredEnd += 10 })
		}},
		"other bytes": {recovery.SummaryMismatch, func(w *world) {
			row(w, func(c *metadatapb.CommitManifest) { c.Bytes++ })
		}},
		"other count": {recovery.SummaryMismatch, func(w *world) {
			row(w, func(c *metadatapb.CommitManifest) { c.Segments++ })
		}},
		"dropped above the log start": {recovery.OffsetGap, func(w *world) {
			w.commit(0, format.Edit{DropBelow: w.entries(0)[1].Base})
		}},
		"nothing tiered but the row says so": {recovery.OffsetGap, func(w *world) {
			w.commit(0, format.Edit{DropBelow: w.row(0).Manifest.TieredEnd})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.upload(0, 3, 3)
			c.edit(w)
			w.root(testTime)
			_, found := verify(t, w.store, recovery.Options{})
			if len(found) != 1 || found[0].Kind != c.want || found[0].Topic != topicName {
				t.Errorf("want %s, found %v", c.want, found)
			}
		})
	}
}

func TestLogStartBeyondTheTieredEndIsClean(t *testing.T) {
	w := newWorld(t, 1)
	w.upload(0, 3, 3)
	w.moveLogStart(0, w.row(0).Manifest.TieredEnd+100)
	w.root(testTime)
	wantClean(t, w.store, recovery.Options{})
}

func TestOlderRootsAreVerifiedToo(t *testing.T) {
	// An expired segment is reached by the older root alone.
	plant := func(t *testing.T, at time.Time) (*world, string) {
		t.Helper()
		w := newWorld(t, 1)
		w.upload(0, 8, 3)
		w.root(at)
		key := w.entries(0)[0].ObjectKey
		w.moveLogStart(0, w.entries(0)[2].Base)
		w.commit(0, format.Edit{DropBelow: w.row(0).LogStart})
		w.root(at.Add(time.Second))
		report := wantClean(t, w.store, recovery.Options{Grace: time.Hour})
		if report.Roots != 2 || report.Segments != 8 {
			t.Fatalf("%+v", report)
		}
		return w, key
	}
	t.Run("damage", func(t *testing.T) {
		w, key := plant(t, testTime)
		w.flip(key, 100)
		if _, found := verify(t, w.store, recovery.Options{}); len(found) != 1 || found[0].Kind != recovery.CorruptSegment {
			t.Errorf("%v", found)
		}
	})
	t.Run("missing while surely retained", func(t *testing.T) {
		w, key := plant(t, time.Now())
		w.remove(key)
		if _, found := verify(t, w.store, recovery.Options{Grace: time.Hour}); len(found) != 1 || found[0].Kind != recovery.MissingSegment {
			t.Errorf("%v", found)
		}
	})
	t.Run("missing root while surely retained", func(t *testing.T) {
		w, _ := plant(t, time.Now())
		w.remove(w.img.Bucket().Roots[0].Place.Key)
		if _, found := verify(t, w.store, recovery.Options{Grace: time.Hour}); len(found) != 1 || found[0].Kind != recovery.MissingRoot {
			t.Errorf("%v", found)
		}
	})
	t.Run("swept after its release", func(t *testing.T) {
		w, key := plant(t, testTime)
		w.remove(key)
		wantClean(t, w.store, recovery.Options{})
		w.remove(w.img.Bucket().Roots[0].Place.Key)
		wantClean(t, w.store, recovery.Options{})
	})
}

func TestOfTwoRootsWithOneSeqTheLaterCutIsNewest(t *testing.T) {
	w := newWorld(t, 1)
	w.upload(0, 1, 3)
	// Written, but the broker was killed before it was retained; its random part sorts above the next one's.
	object, _ := format.EncodeRoot(format.Root{Generation: 1, Seq: 1, Cut: w.attempt(), ClusterID: "c1", Image: metadata.MarshalImage(w.img)}, format.RootKey(1, 1, 1<<64-1))
	w.put(format.RootKey(1, 1, 1<<64-1), object)
	w.upload(0, 1, 3)
	want := w.root(testTime)
	b, err := recovery.Open(t.Context(), w.store)
	if err != nil || b.RootKey != want {
		t.Errorf("opened %s, %v; want %s", b.RootKey, err, want)
	}
}

// movingStore lets the cluster move on just before a segment object is read.
type movingStore struct {
	object.Store
	key  string
	once sync.Once
	move func()
}

func (s *movingStore) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if key == s.key {
		s.once.Do(s.move)
	}
	return s.Store.Get(ctx, key, off, n)
}

func TestWhatARunningBrokerDropsMeanwhileIsNoAnomaly(t *testing.T) {
	for name, deleteTopic := range map[string]bool{"retention": false, "topic deletion": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			w.upload(0, 8, 3)
			w.upload(1, 3, 3)
			old := w.root(testTime)
			gone := w.entries(0)[0].ObjectKey
			s := &movingStore{Store: w.store, key: gone, move: func() {
				if deleteTopic {
					w.apply(&metadata.Command{Kind: &metadatapb.Command_DeleteTopic{DeleteTopic: &metadatapb.DeleteTopic{Id: w.topic[:]}}})
				} else {
					w.moveLogStart(0, w.entries(0)[2].Base)
					w.commit(0, format.Edit{DropBelow: w.row(0).LogStart})
				}
				w.root(time.UnixMilli(2))
				w.remove(gone, old)
			}}
			wantClean(t, s, recovery.Options{Parallel: 1})
		})
	}
}

func TestDamageBesideAMovingBrokerIsStillFound(t *testing.T) {
	w := newWorld(t, 1)
	w.upload(0, 8, 3)
	w.root(testTime)
	e := w.entries(0)
	w.flip(e[5].ObjectKey, 100)
	s := &movingStore{Store: w.store, key: e[0].ObjectKey, move: func() {
		w.moveLogStart(0, e[2].Base)
		w.commit(0, format.Edit{DropBelow: w.row(0).LogStart})
		w.root(time.UnixMilli(2))
		w.remove(e[0].ObjectKey)
	}}
	if _, found := verify(t, s, recovery.Options{}); len(found) != 1 || found[0].Object != e[5].ObjectKey {
		t.Errorf("%v", found)
	}
}

func TestVerifyOutlivesOutagesAndSpoiltAnswers(t *testing.T) {
	w := archive(t)
	synctest.Test(t, func(t *testing.T) {
		s := objecttest.NewFaulty(w.store)
		s.Add(objecttest.Rule{Err: object.ErrThrottled, Times: 3})
		s.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGet}, Key: `\.seg$`, Skip: 4, Times: 1, Corrupt: true})
		s.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGet}, Key: `\.seg$`, Skip: 10, Times: 1, Short: true})
		s.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGet}, Key: `\.page$`, Skip: 2, Times: 1, Corrupt: true})
		wantClean(t, s, recovery.Options{})
	})
	synctest.Test(t, func(t *testing.T) {
		s := objecttest.NewFaulty(w.store)
		s.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGet}, Err: object.ErrThrottled})
		if _, err := recovery.Verify(t.Context(), s, recovery.Options{}); !errors.Is(err, object.ErrThrottled) {
			t.Errorf("an outage that stays: %v", err)
		}
	})
}

func TestBucketsThatAreNotThereOrYoung(t *testing.T) {
	if _, err := recovery.Verify(t.Context(), mem.New(), recovery.Options{}); !errors.Is(err, recovery.ErrNoBucket) {
		t.Errorf("verify of nothing: %v", err)
	}
	if _, err := recovery.Open(t.Context(), mem.New()); !errors.Is(err, recovery.ErrNoBucket) {
		t.Errorf("open of nothing: %v", err)
	}
	w := newWorld(t, 1)
	wantClean(t, w.store, recovery.Options{})
	if _, err := recovery.Open(t.Context(), w.store); !errors.Is(err, recovery.ErrNoRoot) {
		t.Errorf("open without a root: %v", err)
	}
	w.put(format.ClusterKey, []byte(`{"format_version":99}`))
	if _, err := recovery.Open(t.Context(), w.store); !errors.Is(err, format.ErrNewerFormat) {
		t.Errorf("open of a newer bucket: %v", err)
	}
}
