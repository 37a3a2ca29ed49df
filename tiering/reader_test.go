package tiering_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/objecttest"
)

// tier uploads all that is sealed.
func (w *world) tier() {
	w.t.Helper()
	stop := w.start(w.archiver().Run)
	time.Sleep(time.Second)
	stop()
	w.checkBucket()
	w.store.take()
}

func (w *world) advance(k protocol.PartitionKey, to protocol.Offset) {
	w.t.Helper()
	w.propose(&metadata.Command{Kind: &metadatapb.Command_AdvanceLogStarts{AdvanceLogStarts: &metadatapb.AdvanceLogStarts{
		Rows: []*metadatapb.LogStart{{TopicId: k.Topic[:], Partition: k.Partition, Offset: int64(to), LeaderEpoch: int32(w.row(k).LeaderEpoch)}},
	}}})
}

// offsets lists the base offsets of batches.
func offsets(t *testing.T, batches []byte) (out []protocol.Offset) {
	t.Helper()
	for len(batches) > 0 {
		b, rest, err := record.Split(batches)
		if err != nil {
			t.Fatal(err)
		}
		out, batches = append(out, b.BaseOffset()), rest
	}
	return out
}

func TestReadHonoursLimitsAndCrossesSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 3, 1000, 1000)
		w.seal(k, 3, 1000, 2000)
		w.tier()
		r := w.reader()
		one := len(w.written(k, 0, 1))
		for name, test := range map[string]struct {
			from   protocol.Offset
			limit  int
			minOne bool
			want   string
			next   protocol.Offset
		}{
			"nothing fits":             {0, one - 1, false, "[]", 0},
			"one all the same":         {0, one - 1, true, "[0]", 1},
			"exactly two":              {1, 2 * one, false, "[1 2]", 3},
			"almost two":               {1, 2*one - 1, true, "[1]", 2},
			"across the border":        {2, 3 * one, true, "[2 3 4]", 5},
			"all":                      {0, 100 * one, true, "[0 1 2 3 4 5]", 6},
			"no room and none asked":   {4, 0, false, "[]", 4},
			"no room and one asked":    {4, 0, true, "[4]", 5},
			"the last":                 {5, 100 * one, true, "[5]", 6},
			"a negative limit is zero": {5, -1, false, "[]", 5},
		} {
			f, err := r.Read(t.Context(), k, test.from, test.limit, test.minOne)
			if err != nil || fmt.Sprint(offsets(t, f.Batches)) != test.want || f.Next != test.next {
				t.Errorf("%s: got %v next %d, %v, want %s next %d", name, offsets(t, f.Batches), f.Next, err, test.want, test.next)
			}
		}
		for from, want := range map[protocol.Offset]error{6: tiering.ErrNotTiered, 100: tiering.ErrNotTiered, -1: tiering.ErrOutOfRange} {
			if _, err := r.Read(t.Context(), k, from, 1000, true); !errors.Is(err, want) {
				t.Errorf("from %d: %v", from, err)
			}
		}
		w.advance(k, 2)
		if _, err := r.Read(t.Context(), k, 1, 1000, true); !errors.Is(err, tiering.ErrOutOfRange) {
			t.Errorf("below the log start: %v", err)
		}
		if _, err := r.Read(t.Context(), protocol.PartitionKey{}, 1, 1000, true); !errors.Is(err, tiering.ErrUnknownPartition) {
			t.Errorf("unknown partition: %v", err)
		}
	})
}

func TestColdReadCoalescesAndCaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 100, 10000, 1000) // 1 MB, 8 chunks
		w.tier()
		r := w.reader()
		f, err := r.Read(t.Context(), k, 50, 300_000, true)
		if err != nil || len(f.Batches) < 280_000 {
			t.Fatalf("%d bytes, %v", len(f.Batches), err)
		}
		synctest.Wait()
		if s := r.Stats(); s.Gets != 3 { // manifest page, index, one run of chunks
			t.Errorf("%d GETs", s.Gets)
		}
		if _, err := r.Read(t.Context(), k, 50, 300_000, true); err != nil {
			t.Fatal(err)
		}
		if s := r.Stats(); s.Gets != 3 || s.CacheHits == 0 || s.CacheBytes == 0 || s.IndexBytes == 0 || s.FetchRequests != 2 || s.FetchBytes != int64(2*len(f.Batches)) {
			t.Errorf("stats %+v", s)
		}
		w.checkReplay(r, k)
	})
}

func TestSequentialReaderIsReadAheadOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		for range 20 {
			w.seal(k, 30, 10000, 1000)
		}
		w.tier()
		w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGet}, Delay: 50 * time.Millisecond})
		r := w.reader()
		slow := 0
		for from := protocol.Offset(0); from < 600; {
			began := time.Now()
			f, err := r.Read(t.Context(), k, from, 100_000, true)
			if err != nil {
				t.Fatal(err)
			}
			if time.Since(began) > 0 {
				slow++
			}
			from = f.Next
			time.Sleep(100 * time.Millisecond) // the consumer works
		}
		if slow > 3 {
			t.Errorf("%d reads waited for the store", slow)
		}
		s := r.Stats()
		if s.ReadAhead == 0 || s.GetBytes > 2*20*300_000 {
			t.Errorf("stats %+v", s)
		}
		// One that jumps about is not read ahead of.
		before := s.ReadAhead
		for _, from := range []protocol.Offset{500, 3, 320, 77} {
			if _, err := r.Read(t.Context(), k, from, 10_000, true); err != nil {
				t.Fatal(err)
			}
		}
		if s := r.Stats(); s.ReadAhead != before {
			t.Errorf("read ahead %d times more", s.ReadAhead-before)
		}
	})
}

func TestDeadlineIsHonouredAndTheLoadGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 100, 10000, 1000)
		w.tier()
		r := w.reader()
		if _, err := r.Read(t.Context(), k, 0, 1, true); err != nil { // page, index, first chunk
			t.Fatal(err)
		}
		synctest.Wait()
		w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGet}, Delay: 3 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if _, err := r.Read(ctx, k, 60, 300_000, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%v", err)
		}
		time.Sleep(3 * time.Second)
		began, gets := time.Now(), r.Stats().Gets
		f, err := r.Read(t.Context(), k, 60, 300_000, true)
		if err != nil || len(f.Batches) < 280_000 || time.Since(began) > 0 || r.Stats().Gets != gets {
			t.Errorf("%d bytes after %v, %v", len(f.Batches), time.Since(began), err)
		}
		// What is there when the deadline comes is returned.
		ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		f, err = r.Read(ctx, k, 0, 10_000_000, true)
		if err != nil || len(f.Batches) == 0 || f.Next == 100 {
			t.Errorf("%d bytes up to %d, %v", len(f.Batches), f.Next, err)
		}
	})
}

func TestTornAnswersAreAskedForAgain(t *testing.T) {
	for name, rule := range map[string]objecttest.Rule{
		"short":     {Short: true},
		"corrupt":   {Corrupt: true},
		"outage":    {Err: objecttest.ErrInjected},
		"lost":      {LoseAck: true},
		"throttled": {Err: object.ErrThrottled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				k := w.key(0)
				w.seal(k, 50, 10000, 1000)
				w.tier()
				for _, skip := range []int{0, 2, 4} { // page, index, chunks: each the first time
					rule.Ops, rule.Skip, rule.Times = []objecttest.Op{objecttest.OpGet}, skip, 1
					w.faulty.Add(rule)
				}
				r := w.reader()
				w.checkReplay(r, k)
				if s := r.Stats(); s.Torn+s.GetErrors != 3 || s.FetchErrors != 0 {
					t.Errorf("stats %+v", s)
				}
			})
		})
	}
}

func TestDamageIsCorruptionOfItsChunkOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		k := w.key(0)
		w.seal(k, 100, 10000, 1000)
		w.tier()
		object := w.segment(k, 0)
		w.bucket.Change(object, func(b []byte) []byte { b[600_000] ^= 1; return b })
		r := w.reader()
		var bad []protocol.Offset
		for o := range protocol.Offset(100) {
			f, err := r.Read(t.Context(), k, o, 1, true)
			switch {
			case errors.Is(err, tiering.ErrCorrupt) && strings.Contains(err.Error(), object):
				bad = append(bad, o)
			case err != nil || !bytes.Equal(f.Batches, w.written(k, o, o+1)):
				t.Errorf("offset %d: %v", o, err)
			}
		}
		if len(bad) == 0 || len(bad) > 15 || bad[0] > 59 || bad[len(bad)-1] < 59 {
			t.Errorf("corrupt at %v", bad)
		}
		// A long read gives what comes before the damage.
		f, err := r.Read(t.Context(), k, 0, 10_000_000, true)
		if err != nil || f.Next != bad[0] {
			t.Errorf("up to %d, %v", f.Next, err)
		}
	})
}

// segment names the object that holds an offset.
func (w *world) segment(k protocol.PartitionKey, o protocol.Offset) string {
	w.t.Helper()
	e, ok, err := w.manifest(w.log.Image(), k).Find(w.load, o)
	if err != nil || !ok {
		w.t.Fatal(ok, err)
	}
	return e.ObjectKey
}

func TestMissingAndShortObjectsAreCorruption(t *testing.T) {
	for name, damage := range map[string]func(w *world, k protocol.PartitionKey){
		"segment missing": func(w *world, k protocol.PartitionKey) { w.remove(w.segment(k, 0)) },
		"segment shortened": func(w *world, k protocol.PartitionKey) {
			w.bucket.Change(w.segment(k, 0), func(b []byte) []byte { return b[:100] })
		},
		"segments swapped": func(w *world, k protocol.PartitionKey) {
			a, b := w.segment(k, 0), w.segment(k, 15)
			var one, two []byte
			w.bucket.Change(a, func(body []byte) []byte { one = body; return body })
			w.bucket.Change(b, func(body []byte) []byte { two = body; return one })
			w.bucket.Change(a, func([]byte) []byte { return two })
		},
		"manifest missing": func(w *world, k protocol.PartitionKey) { w.remove(w.row(k).Manifest.Root.Key) },
		"manifest damaged": func(w *world, k protocol.PartitionKey) {
			root := w.row(k).Manifest.Root
			w.bucket.Change(root.Key, func(b []byte) []byte { b[root.Offset+20] ^= 4; return b })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				k := w.key(0)
				w.seal(k, 10, 100, 1000)
				w.seal(k, 10, 100, 1000)
				w.tier()
				damage(w, k)
				r := w.reader()
				if _, err := r.Read(t.Context(), k, 0, 1000, true); !errors.Is(err, tiering.ErrCorrupt) {
					t.Errorf("Read: %v", err)
				}
				if s := r.Stats(); s.FetchErrors != 1 {
					t.Errorf("stats %+v", s)
				}
			})
		})
	}
}

func (w *world) remove(key string) {
	w.t.Helper()
	if err := w.bucket.Delete(context.Background(), []string{key}); err != nil {
		w.t.Fatal(err)
	}
}

// TestReplacedManifestIsReadAnew takes the old manifest away while a reader waits for its page.
func TestReplacedManifestIsReadAnew(t *testing.T) {
	for name, start := range map[string]protocol.Offset{"replaced": 0, "below the log start": 10} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				k := w.key(0)
				w.seal(k, 10, 100, 1000)
				w.tier()
				old := w.row(k).Manifest.Root.Key
				gate := objecttest.NewHold()
				w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGet}, Key: "manifest/", Times: 1, Hold: gate})
				r := w.reader()
				var f tiering.Fetched
				var err error
				var wg sync.WaitGroup
				wg.Go(func() { f, err = r.Read(t.Context(), k, 5, 1000, true) })
				synctest.Wait()
				w.seal(k, 10, 100, 1000)
				w.tier()
				w.advance(k, start)
				w.remove(old)
				gate.Release()
				wg.Wait()
				if start == 0 && (err != nil || !bytes.HasPrefix(w.written(k, 5, 20), f.Batches) || len(f.Batches) == 0) {
					t.Errorf("%d bytes, %v", len(f.Batches), err)
				}
				if start == 10 && !errors.Is(err, tiering.ErrOutOfRange) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.seal(w.key(0), 10, 100, 1000)
		w.tier()
		w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGet}, Delay: time.Hour})
		r := w.reader()
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { _, err = r.Read(t.Context(), w.key(0), 0, 1000, true) })
		synctest.Wait()
		r.Close()
		wg.Wait()
		if err == nil {
			t.Error("the read succeeded")
		}
		if _, err := r.Read(t.Context(), w.key(0), 0, 1000, true); !errors.Is(err, tiering.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestManyReadersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		for p := range 3 {
			for range 5 {
				w.seal(w.key(p), 40, 5000, 1000)
			}
		}
		w.tier()
		w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGet}, Delay: time.Millisecond})
		r := tiering.NewReader(tiering.ReaderConfig{
			Store: w.store, Metadata: w.log, CacheBytes: 1 << 20, IndexCacheBytes: 64 << 10, LoadBytes: 1 << 20, Parallel: 2, ReadAheadBytes: 256 << 10,
		})
		defer r.Close()
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), 1))
				for range 30 {
					k, from := w.key(rnd.IntN(3)), protocol.Offset(rnd.IntN(200))
					f, err := r.Read(t.Context(), k, from, rnd.IntN(400_000), true)
					if err != nil {
						t.Errorf("%s from %d: %v", k, from, err)
						return
					}
					if want := w.written(k, from, f.Next); !bytes.Equal(f.Batches, want) {
						t.Errorf("%s [%d, %d): %d bytes, want %d", k, from, f.Next, len(f.Batches), len(want))
					}
				}
			})
		}
		wg.Wait()
		if s := r.Stats(); s.CacheBytes > 1<<20 || s.IndexBytes > 64<<10 {
			t.Errorf("stats %+v", s)
		}
	})
}
