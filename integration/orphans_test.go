package integration_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/recovery"
)

const (
	// promiseSlack is what a busy machine may take beyond a promised time.
	promiseSlack = time.Second
	// orphanLimit bounds the wait until the sweeper has come to rest.
	orphanLimit = 30 * time.Second
)

// awaitRest waits until all that is sealed is in the bucket and a root holds all of the metadata.
func awaitRest(t *testing.T, metrics func() harness.Metrics) {
	t.Helper()
	harness.Eventually(t, orphanLimit, "the archiver and the root writer are at rest", func() error {
		m := metrics()
		segments, lag := m.Sum(t, "kafka_server_brokertopicmetrics_remotecopylagsegments"), m.Sum(t, "strata_root_lag_seconds")
		if segments > 0 || lag > 0 {
			return fmt.Errorf("%.0f segments are not in the bucket, the root lags %.3f s", segments, lag)
		}
		return nil
	})
}

// awaitNoOrphans watches a bucket at rest for the promised time and on until
// nothing lies there that the newest root does not reach. No orphan may be seen for
// longer than promised; the longest is returned, and how many there were.
func awaitNoOrphans(t *testing.T, store object.Store, promised time.Duration) (longest time.Duration, many int) {
	t.Helper()
	begun, first := time.Now(), map[string]time.Time{}
	harness.Eventually(t, orphanLimit, "no orphan is in the bucket", func() error {
		found, err := orphans(t.Context(), store)
		if err != nil {
			return err
		}
		now := time.Now()
		for _, key := range found {
			if _, again := first[key]; !again {
				first[key] = now
			}
			seen := now.Sub(first[key])
			if seen > promised+promiseSlack {
				t.Fatalf("an orphan is here for %s, promised are %s: %s", seen, promised, key)
			}
			longest = max(longest, seen)
		}
		if len(found) > 0 {
			return fmt.Errorf("%d orphans, the first is %s", len(found), found[0])
		}
		if watched := now.Sub(begun); watched < promised {
			return fmt.Errorf("watched for %s only", watched)
		}
		return nil
	})
	return longest, len(first)
}

// orphans lists the objects that neither a manifest of the newest root nor a row of its image reaches.
func orphans(ctx context.Context, store object.Store) ([]string, error) {
	var keys []string // before the root is read: what is named later is younger
	for info, err := range store.List(ctx, "", "") {
		if err != nil {
			return nil, err
		}
		keys = append(keys, info.Key)
	}
	opened, err := recovery.Open(ctx, store)
	if err != nil {
		return nil, err
	}
	reached := map[string]bool{format.ClusterKey: true, format.OwnerKey: true, opened.RootKey: true}
	for _, root := range opened.Image.Bucket().Roots {
		reached[root.Place.Key] = true
	}
	if err := reach(ctx, store, opened.Image, reached); err != nil {
		return nil, err
	}
	var out []string
	for _, key := range keys {
		if !reached[key] {
			out = append(out, key)
		}
	}
	return out, nil
}

// reach adds all that the manifests of an image name.
func reach(ctx context.Context, store object.Store, img *metadata.Image, reached map[string]bool) error {
	load := func(p metadata.PagePlace) ([]byte, error) {
		reached[p.Key] = true
		return store.Get(ctx, p.Key, int64(p.Offset), int64(p.Length))
	}
	for row := range img.AllPartitions() {
		m := format.Manifest{Version: row.Manifest.Version, Root: row.Manifest.Root}
		for entry, err := range m.Scan(load, 0) {
			if err != nil {
				return fmt.Errorf("manifest of %v: %w", row.Key, err)
			}
			reached[entry.ObjectKey] = true
		}
	}
	return nil
}
