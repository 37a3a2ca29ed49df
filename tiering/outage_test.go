package tiering_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/object/objecttest"
	"github.com/stratabroker/strata/tiering/plan"
)

// outage makes all requests fail until the returned end.
func (w *world) outage() (end func()) {
	return w.faulty.Add(objecttest.Rule{Err: objecttest.ErrInjected})
}

func TestRetentionGoesOnInAnOutageWhileADropWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		now := protocol.Timestamp(time.Now().UnixMilli())
		w.seal(k, 10, 100, now)
		w.setPolicy(k, plan.Policy{RetentionMs: 600_000, RetentionBytes: -1})
		a := w.archiver()
		w.start(a.Run)
		time.Sleep(time.Second)
		end := w.outage()
		for i := range 4 {
			w.seal(k, 10, 100, now+protocol.Timestamp(i)*600_000)
		}
		for i, want := range []protocol.Offset{20, 30, 40, 50} { // the first alone is in the bucket, and waits to be dropped
			time.Sleep(12 * time.Minute)
			if row := w.row(k); row.LogStart != want || row.Manifest.Version != 1 {
				t.Errorf("look %d: log start %d, want %d, manifest %d", i, row.LogStart, want, row.Manifest.Version)
			}
		}
		end()
		time.Sleep(time.Minute)
		if row := w.row(k); row.Manifest.Segments != 0 {
			t.Errorf("after the outage: %+v", row)
		}
		w.checkBucket()
	})
}

func TestRetentionOfTheHotTierNeedsNoManifest(t *testing.T) {
	for name, test := range map[string]struct {
		policy plan.Policy
		want   protocol.Offset
	}{
		"by time": {plan.Policy{RetentionMs: 600_000, RetentionBytes: -1}, 30},
		"by size": {plan.Policy{RetentionMs: -1, RetentionBytes: 1}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				k := w.key(0)
				now := protocol.Timestamp(time.Now().UnixMilli())
				w.seal(k, 10, 100, now)
				stop := w.start(w.archiver().Run)
				time.Sleep(time.Second)
				stop()
				end := w.outage()
				w.seal(k, 10, 100, now)
				w.seal(k, 10, 100, now)
				w.setPolicy(k, test.policy)
				w.start(w.archiver().Run) // knows nothing of the manifest
				time.Sleep(15 * time.Minute)
				if row := w.row(k); row.LogStart != test.want {
					t.Errorf("log start %d, want %d", row.LogStart, test.want)
				}
				end()
				time.Sleep(time.Hour)
				w.checkBucket()
			})
		})
	}
}

func TestNothingIsUploadedBesideAManifestThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 10, 100, 1000)
		stop := w.start(w.archiver().Run)
		time.Sleep(time.Second)
		stop()
		heal := w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGet, objecttest.OpGetAll}, Key: "manifest/", Corrupt: true})
		w.seal(k, 10, 100, 2000)
		w.store.take()
		a := w.archiver()
		w.start(a.Run)
		time.Sleep(10 * time.Minute)
		wantLines(t, w.store.take())
		if n := w.faulty.Count(objecttest.OpGet); n > 300 {
			t.Errorf("%d reads in ten minutes", n)
		}
		heal()
		time.Sleep(time.Minute)
		wantLines(t, w.store.take(), "put segment [10, 20)", "put manifest 2", "commit manifest 2 over 1, [10, 20)")
	})
}

func TestUploadGoesOnAfterALogStartInsideABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		b := record.NewBuilder(0)
		for i := range 10 {
			b.Add(record.Record{Timestamp: protocol.Timestamp(1000 + i), Key: []byte("key"), Value: []byte{byte(i)}})
		}
		w.seal(k, 10, 100, 1000)
		s := &w.hot.logs[k].segments[0]
		s.batches = b.Bytes()
		s.r.Bytes = int64(len(s.batches))
		w.propose(&metadata.Command{Kind: &metadatapb.Command_AdvanceLogStarts{AdvanceLogStarts: &metadatapb.AdvanceLogStarts{
			Rows: []*metadatapb.LogStart{{TopicId: k.Topic[:], Offset: 4}},
		}}})
		w.seal(k, 10, 100, 2000)
		w.start(w.archiver().Run)
		time.Sleep(time.Second)
		wantLines(t, w.store.take()[1:], "put segment [4, 10)", "put segment [10, 20)", "put manifest 1", "commit manifest 1 over 0, [4, 20)")
		w.checkBucket()
		w.checkReplay(w.reader(), k)
	})
}

func TestRetentionBySizeCountsABatchOnceWhileAManifestIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		for range 4 {
			w.seal(k, 10, 1000, 1000)
		}
		w.hot.mu.Lock()
		one := w.hot.logs[k].segments[0].r.Bytes
		w.hot.mu.Unlock()
		w.setPolicy(k, plan.Policy{RetentionMs: -1, RetentionBytes: 4 * one})
		w.start(tiering.NewArchiver(tiering.ArchiverConfig{Store: w.store, Metadata: w.log, Hot: w.hot, TurnBytes: 1}).Run)
		time.Sleep(10 * time.Minute)
		if row := w.row(k); row.LogStart != 0 || row.Manifest.Segments != 4 {
			t.Errorf("row %+v", row)
		}
	})
}

func TestAnOutageOfColdReadsIsToldOnceAMinuteAndItsEndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 10, 100, 1000)
		w.seal(k, 10, 100, 1000)
		w.start(w.archiver().Run)
		time.Sleep(time.Second)
		var text bytes.Buffer
		r := tiering.NewReader(tiering.ReaderConfig{Store: w.store, Metadata: w.log, Logger: slog.New(slog.NewTextHandler(&text, nil))})
		defer r.Close()
		read := func(from protocol.Offset) error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			f, err := r.Read(ctx, k, from, 100, true)
			f.Release()
			return err
		}
		if err := read(0); err != nil {
			t.Fatal(err)
		}
		end := w.outage()
		for range 150 {
			if err := read(10); err == nil {
				t.Fatal("read in an outage")
			}
			if err := read(0); err != nil {
				t.Fatal("what is in the cache is not served:", err)
			}
			time.Sleep(time.Second)
		}
		if n := strings.Count(text.String(), "cold read failed"); n < 2 || n > 8 || strings.Contains(text.String(), "go on") {
			t.Errorf("%d lines: %s", n, text.String())
		}
		end()
		time.Sleep(time.Minute)
		for range 5 {
			if err := read(10); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(text.String(), "cold reads go on"); n != 1 {
			t.Errorf("its end was told %d times: %s", n, text.String())
		}
	})
}
