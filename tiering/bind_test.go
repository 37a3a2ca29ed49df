package tiering_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object/mem"
	"github.com/stratabroker/strata/tiering/object/objecttest"
)

func (w *world) bind(newFolder bool) (uint64, error) {
	return tiering.Bind(w.t.Context(), tiering.BindConfig{Store: w.store, Metadata: w.log, URL: "s3://bucket/prefix", Region: "here", NewDataFolder: newFolder})
}

// contents reads a whole bucket.
func contents(t *testing.T, s *mem.Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, key := range s.Keys() {
		body, _, err := s.GetAll(t.Context(), key, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		out[key] = string(body)
	}
	return out
}

func TestFirstStartBindsAndLaterOnesOnlyRead(t *testing.T) {
	w := unboundWorld(t, 1)
	w.store.take()
	if g, err := w.bind(true); g != 1 || err != nil {
		t.Fatal(g, err)
	}
	var lines []string
	for _, l := range w.store.take() {
		if !strings.Contains(l, "probe/") {
			lines = append(lines, l)
		}
	}
	wantLines(t, lines, "put if cluster.json", "put if OWNER", "bind bucket")
	bucket := w.log.Image().Bucket()
	if bucket.Generation != 1 || bucket.URL != "s3://bucket/prefix" {
		t.Errorf("bucket %+v", bucket)
	}
	after := contents(t, w.bucket)
	if len(after) != 2 {
		t.Errorf("objects %q", w.bucket.Keys())
	}
	if g, err := w.bind(false); g != 1 || err != nil {
		t.Fatal(g, err)
	}
	wantLines(t, w.store.take())
	if !maps.Equal(after, contents(t, w.bucket)) {
		t.Error("the second start changed the bucket")
	}
}

func TestBucketsThatAreRefusedStayUntouched(t *testing.T) {
	cluster := func(id string) string { return string(format.Cluster{ClusterID: id, CreatedMs: 1}.Encode()) }
	owner := func(id string, g uint64) string {
		return string(format.Owner{ClusterID: id, Generation: g, SinceMs: 1}.Encode())
	}
	segment := format.SegmentKey(protocol.PartitionKey{}, 0, 1, 0, metadata.Attempt{}, 1)
	newer := strings.Replace(cluster("test-cluster"), `"format_version":1`, `"format_version":99`, 1)
	tests := map[string]struct {
		objects   map[string]string
		newFolder bool
		bound     uint64
		want      error
		says      string
	}{
		"new folder on an old bucket":  {map[string]string{"cluster.json": cluster("old"), "OWNER": owner("old", 1), segment: "x"}, true, 0, tiering.ErrRefused, "the data folder is new"},
		"new folder, same id":          {map[string]string{"cluster.json": cluster("test-cluster"), "OWNER": owner("test-cluster", 1), segment: "x"}, true, 0, tiering.ErrRefused, "never written"},
		"another cluster":              {map[string]string{"cluster.json": cluster("other"), "OWNER": owner("other", 1)}, false, 1, tiering.ErrRefused, "other"},
		"archive without cluster.json": {map[string]string{segment: "x"}, true, 0, tiering.ErrRefused, segment},
		"OWNER without cluster.json":   {map[string]string{"OWNER": owner("test-cluster", 1)}, false, 0, tiering.ErrRefused, "OWNER"},
		"bound to an empty bucket":     {nil, false, 1, tiering.ErrRefused, "cluster.json"},
		"promoted elsewhere":           {map[string]string{"cluster.json": cluster("test-cluster"), "OWNER": owner("test-cluster", 2)}, false, 1, tiering.ErrRefused, "promoted"},
		"OWNER is another's":           {map[string]string{"cluster.json": cluster("test-cluster"), "OWNER": owner("other", 1)}, false, 0, tiering.ErrRefused, "other"},
		"OWNER is lost":                {map[string]string{"cluster.json": cluster("test-cluster")}, false, 1, tiering.ErrRefused, "OWNER"},
		"generation never written":     {map[string]string{"cluster.json": cluster("test-cluster"), "OWNER": owner("test-cluster", 3)}, false, 0, tiering.ErrRefused, "3"},
		"cluster.json is damaged":      {map[string]string{"cluster.json": "{}"}, false, 0, tiering.ErrRefused, "cluster.json"},
		"OWNER is damaged":             {map[string]string{"cluster.json": cluster("test-cluster"), "OWNER": "junk"}, false, 0, tiering.ErrRefused, "OWNER"},
		"newer format":                 {map[string]string{"cluster.json": newer}, false, 0, format.ErrNewerFormat, "99"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := unboundWorld(t, 1)
			for key, body := range test.objects {
				objecttest.Put(t, w.bucket, key, []byte(body))
			}
			if test.bound > 0 {
				w.propose(&metadata.Command{Kind: &metadatapb.Command_BindBucket{BindBucket: &metadatapb.BindBucket{Url: "x", Generation: test.bound}}})
			}
			before, index := contents(t, w.bucket), w.log.Image().Index()
			w.store.take()
			_, err := w.bind(test.newFolder)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
			wantLines(t, w.store.take())
			if !maps.Equal(before, contents(t, w.bucket)) || w.log.Image().Index() != index {
				t.Error("something was touched")
			}
		})
	}
}

// TestCrashWhileBindingIsMended fails each write in turn, with and without effect, and starts again.
func TestCrashWhileBindingIsMended(t *testing.T) {
	failures := 0
	for step := 0; ; step++ {
		reached := false
		for _, lost := range []bool{false, true} {
			w := unboundWorld(t, 1)
			rule := objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPutIf, objecttest.OpDelete}, Skip: step, Times: 1, LoseAck: lost}
			if !lost {
				rule.Err = objecttest.ErrInjected
			}
			w.faulty.Add(rule)
			_, err := w.bind(true)
			w.faulty.Reset()
			reached = reached || w.faulty.Count(objecttest.OpPutIf)+w.faulty.Count(objecttest.OpDelete) > step
			if err == nil {
				continue // what it read afterwards told it that all is well
			}
			failures++
			if g, err := w.bind(lost); g != 1 || err != nil {
				t.Errorf("step %d, lost %t: %d, %v", step, lost, g, err)
			}
			if n := len(w.bucket.Keys()); n != 2 || w.log.Image().Bucket().Generation != 1 {
				t.Errorf("step %d: %q", step, w.bucket.Keys())
			}
		}
		if !reached {
			break
		}
	}
	if failures < 8 {
		t.Errorf("only %d failures", failures)
	}
	for _, v := range []verdict{lostAnswer, lostProposal} {
		w := unboundWorld(t, 1)
		w.log.judge = once(func(*metadata.Command) bool { return true }, v)
		_, err := w.bind(true)
		if (err == nil) != (v == lostAnswer) {
			t.Errorf("verdict %d: %v", v, err)
		}
		if g, err := w.bind(false); g != 1 || err != nil {
			t.Errorf("verdict %d: %d, %v", v, g, err)
		}
	}
}

func TestStoreWithoutConditionalPut(t *testing.T) {
	for _, shared := range []bool{true, false} {
		w := unboundWorld(t, 1)
		store := unconditional{w.store}
		g, err := tiering.Bind(t.Context(), tiering.BindConfig{Store: store, Metadata: w.log, URL: "s3://old", NewDataFolder: true, Shared: shared})
		if shared && (!errors.Is(err, tiering.ErrRefused) || len(w.bucket.Keys()) > 0) {
			t.Errorf("shared: %v, %q", err, w.bucket.Keys())
		}
		if !shared && (g != 1 || err != nil || len(w.bucket.Keys()) != 2) {
			t.Errorf("private: %d, %v, %q", g, err, w.bucket.Keys())
		}
	}
}

func TestBindNeedsAClusterID(t *testing.T) {
	w := unboundWorld(t, 1)
	w.log.img = metadata.EmptyImage()
	if _, err := w.bind(true); err == nil || len(w.bucket.Keys()) > 0 {
		t.Error(err, w.bucket.Keys())
	}
}
