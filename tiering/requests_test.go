package tiering_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/mem"
	"github.com/stratabroker/strata/tiering/object/objecttest"
)

// counted is a store that counts what a bucket would bill.
type counted struct {
	*mem.Store
	puts, gets, owner, lists atomic.Int64
}

func (s *counted) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	s.puts.Add(1)
	return s.Store.Put(ctx, key, body, size)
}

func (s *counted) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	s.gets.Add(1)
	return s.Store.Get(ctx, key, offset, length)
}

func (s *counted) OpenRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	s.gets.Add(1)
	return s.Store.OpenRange(ctx, key, offset, length)
}

func (s *counted) GetAll(ctx context.Context, key string, limit int64) ([]byte, string, error) {
	if strings.HasSuffix(key, "OWNER") {
		s.owner.Add(1) // once in two seconds of uploads, whatever their number
	} else {
		s.gets.Add(1)
	}
	return s.Store.GetAll(ctx, key, limit)
}

func (s *counted) List(ctx context.Context, prefix, after string) iter.Seq2[object.Info, error] {
	s.lists.Add(1)
	return s.Store.List(ctx, prefix, after)
}

// TestRequestsPerGiB archives segments of 64 MiB and reads them once, an eighth of a GiB for all of it.
func TestRequestsPerGiB(t *testing.T) {
	const mostPuts, mostGets = 36, 130 // a GiB
	for _, shape := range []struct{ partitions, segments int }{{1, 2}, {2, 1}} {
		t.Run(fmt.Sprintf("%d partitions", shape.partitions), func(t *testing.T) {
			w := newWorld(t, shape.partitions)
			s := &counted{Store: w.bucket}
			w.store.Store = s
			for range shape.segments {
				w.seal(w.key(0), 64<<20/(64<<10), 64<<10-100, 1000)
			}
			for p := 1; p < shape.partitions; p++ {
				w.sealLike(w.key(0), w.key(p))
			}
			w.archiveAll()
			if puts, gets, lists := 8*s.puts.Load(), s.gets.Load(), s.lists.Load(); puts > mostPuts || gets > 0 || lists > 0 {
				t.Errorf("archiving takes %d PUT a GiB, %d GET and %d LIST", puts, gets, lists)
			}
			r := tiering.NewReader(tiering.ReaderConfig{Store: s, Metadata: w.log, CacheBytes: 128 << 20})
			defer r.Close()
			consume(t, w, r, shape.partitions)
			if gets, lists := 8*s.gets.Load(), s.lists.Load(); gets > mostGets || lists > 0 {
				t.Errorf("reading once takes %d GET a GiB and %d LIST", gets, lists)
			}
			fetched, written := r.Stats().GetBytes, 2*s.size(w)
			if fetched > written+written/50 {
				t.Errorf("%d bytes were fetched of %d", fetched, written)
			}
		})
	}
}

// TestALargeReadHasSeveralGETsAtOnce asks for 40 MiB in one read.
func TestALargeReadHasSeveralGETsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.seal(w.key(0), 64<<20/(64<<10), 64<<10-100, 1000)
		w.tier()
		gate := objecttest.NewHold()
		w.faulty.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGet}, Skip: 2, Hold: gate}) // manifest and index pass
		r := tiering.NewReader(tiering.ReaderConfig{Store: w.store, Metadata: w.log, CacheBytes: 128 << 20, Rand: w.source()})
		defer r.Close()
		var f tiering.Fetched
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			f, err = r.Read(t.Context(), w.key(0), 0, 40<<20, true)
		}()
		if err := gate.Held(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		gate.Release()
		<-done
		if err != nil || len(f.Batches) < 25<<20 || !bytes.Equal(f.Batches, w.written(w.key(0), 0, f.Next)) {
			t.Errorf("%d bytes, %v", len(f.Batches), err)
		}
	})
}

// size is the bytes of one partition's first segment.
func (s *counted) size(w *world) int64 {
	return int64(len(w.written(w.key(0), 0, protocol.Offset(64<<20/(64<<10)))))
}
