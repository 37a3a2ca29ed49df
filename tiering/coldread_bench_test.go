package tiering_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
)

// shaped is a store behind a link of so many bytes a second, shared by all GETs, whose first byte takes a while.
type shaped struct {
	object.Store
	bytesPerSec int64
	firstByte   time.Duration
	late        time.Duration // of each eighth GET: the slowest ones of a store are much slower than most

	mu   sync.Mutex
	free time.Time // when the link has sent all it has promised; guarded by mu
	gets int       // guarded by mu
}

func (s *shaped) begin() {
	s.mu.Lock()
	s.gets++
	wait := s.firstByte
	if s.late > 0 && s.gets%8 == 0 {
		wait = s.late
	}
	s.mu.Unlock()
	time.Sleep(wait)
}

// send waits until n more bytes have come through the link.
func (s *shaped) send(n int) {
	s.mu.Lock()
	now := time.Now()
	if s.free.Before(now.Add(-burst)) {
		s.free = now.Add(-burst)
	}
	s.free = s.free.Add(time.Duration(n) * time.Second / time.Duration(s.bytesPerSec))
	wait := s.free.Sub(now)
	s.mu.Unlock()
	if wait > burst { // short sleeps would cost more than what is measured
		time.Sleep(wait)
	}
}

const (
	packet = 128 << 10
	burst  = 2 * time.Millisecond // what the link lets through at once
)

// Get implements object.Store.
func (s *shaped) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	s.begin()
	b, err := s.Store.Get(ctx, key, offset, length)
	for left := len(b); left > 0; left -= packet {
		s.send(min(left, packet))
	}
	return b, err
}

// OpenRange implements object.Streamer.
func (s *shaped) OpenRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	s.begin()
	body, err := object.OpenRange(ctx, s.Store, key, offset, length)
	return shapedBody{body, s}, err
}

// shapedBody is an answer on its way through the link.
type shapedBody struct {
	io.ReadCloser
	link *shaped
}

func (b shapedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), packet)])
	b.link.send(n)
	return n, err
}

// sealLike gives one partition the segments of another; the hot tier holds their bytes once.
func (w *world) sealLike(from, k protocol.PartitionKey) {
	w.hot.mu.Lock()
	defer w.hot.mu.Unlock()
	a, b := w.hot.logs[from], w.hot.logs[k]
	b.segments, b.led.HW, b.led.LEO = a.segments, a.led.HW, a.led.LEO
}

// archive makes partitions of so many segments of segmentBytes each, in batches of 64 KiB, and uploads them.
func archive(tb testing.TB, partitions, segments, segmentBytes int) *world {
	tb.Helper()
	w := newWorld(tb, partitions)
	for range segments {
		w.seal(w.key(0), segmentBytes/(64<<10), 64<<10-100, 1000)
	}
	for p := 1; p < partitions; p++ {
		w.sealLike(w.key(0), w.key(p))
	}
	w.archiveAll()
	return w
}

// archiveAll uploads all that is sealed, in real time.
func (w *world) archiveAll() {
	w.t.Helper()
	applied := make(chan struct{}, 1)
	w.log.subscribe(func(metadata.Delta, *metadata.Image) {
		select {
		case applied <- struct{}{}:
		default: // a token is there already
		}
	})
	stop := w.start(w.archiver().Run)
	defer stop()
	for _, l := range w.hot.Led() {
		for w.row(l.Key).Manifest.TieredEnd < l.HW {
			<-applied
		}
	}
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// consume reads partitions to their ends as a client with one connection does: fetches, one after the
// other, of 1 MiB of each partition within 50 MiB and the deadline of a fetch. As in the broker, a fetch
// is answered a grace after the first partition has something.
func consume(tb testing.TB, w *world, r *tiering.Reader, partitions int) (bytes, stalls int) {
	tb.Helper()
	const grace = 25 * time.Millisecond
	at := make([]protocol.Offset, partitions)
	got := make([]int, partitions)
	for live := partitions; live > 0; {
		ctx, cancel := context.WithTimeout(tb.Context(), 500*time.Millisecond)
		answer := sync.OnceFunc(func() { time.AfterFunc(grace, cancel) })
		var wg sync.WaitGroup
		first := true // only the first partition with data has a batch whatever its size
		for p := range partitions {
			end := w.row(w.key(p)).Manifest.TieredEnd
			if at[p] == end {
				continue
			}
			minOne := first
			first = false
			wg.Go(func() {
				f, err := r.Read(ctx, w.key(p), at[p], 1<<20, minOne)
				if err != nil && ctx.Err() == nil {
					tb.Error(err)
				}
				if err == nil {
					at[p], got[p] = f.Next, got[p]+len(f.Batches)
					answer()
				}
				f.Release()
			})
		}
		wg.Wait()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			stalls++
		}
		cancel()
		live = 0
		for p := range partitions {
			if at[p] != w.row(w.key(p)).Manifest.TieredEnd {
				live++
			}
		}
	}
	for _, n := range got {
		bytes += n
	}
	return bytes, stalls
}

// BenchmarkColdRead replays an archive through a link of 200 MB/s.
func BenchmarkColdRead(b *testing.B) {
	for _, test := range []struct {
		partitions int
		late       time.Duration
	}{{1, 0}, {32, 0}, {32, 400 * time.Millisecond}} {
		partitions := test.partitions
		b.Run(fmt.Sprintf("partitions=%d/late=%v", partitions, test.late), func(b *testing.B) {
			segments := max(16/partitions, 1)
			w := archive(b, partitions, segments, 64<<20)
			runtime.GC()
			b.ReportAllocs()
			b.ResetTimer()
			var bytes, gets, stalls int
			var fetched int64
			cpu := cpuSeconds()
			for b.Loop() {
				link := &shaped{Store: w.bucket, bytesPerSec: 200e6, firstByte: 15 * time.Millisecond, late: test.late}
				r := tiering.NewReader(tiering.ReaderConfig{Store: link, Metadata: w.log, CacheBytes: 128 << 20, IndexCacheBytes: 32 << 20})
				n, s := consume(b, w, r, partitions)
				fetched += r.Stats().GetBytes
				r.Close()
				bytes, gets, stalls = bytes+n, gets+link.gets, stalls+s
			}
			cpu = cpuSeconds() - cpu
			b.ReportMetric(float64(bytes)/1e6/b.Elapsed().Seconds(), "MB/s")
			b.ReportMetric(float64(gets)/float64(bytes)*(1<<30), "GETs/GiB")
			b.ReportMetric(float64(fetched)/float64(bytes), "fetched/byte")
			b.ReportMetric(cpu/float64(bytes)*1e9, "cpu-s/GB")
			b.ReportMetric(float64(stalls)/float64(b.N), "stalls")
		})
	}
}

// BenchmarkManifestLookup finds entry after entry, as a reader does, in manifests of so many segments.
func BenchmarkManifestLookup(b *testing.B) {
	for _, segments := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("segments=%d", segments), func(b *testing.B) {
			w := newWorld(b, 1)
			w.longManifest(segments)
			r := tiering.NewReader(tiering.ReaderConfig{Store: w.bucket, Metadata: w.log, IndexCacheBytes: 32 << 20})
			defer r.Close()
			b.ReportAllocs()
			at := protocol.Offset(0)
			for b.Loop() {
				e, err := r.Lookup(b.Context(), w.key(0), at)
				if err != nil || e.Base != at {
					b.Fatal(e, err)
				}
				if at = e.End; at == protocol.Offset(segments*100) {
					at = 0
				}
			}
		})
	}
}

// longManifest makes a manifest current that names so many segments, of 100 offsets each, which do not exist.
func (w *world) longManifest(segments int) {
	w.t.Helper()
	row := w.row(w.key(0))
	entries := make([]format.Entry, segments)
	for i := range entries {
		meta := format.SegmentMeta{
			Key: row.Key, Base: protocol.Offset(i * 100), End: protocol.Offset(i*100 + 100), Epoch: row.LeaderEpoch,
			Attempt: metadata.Attempt{Generation: 1, Index: 1}, Rand: uint64(i),
		}
		entries[i] = format.Entry{
			ObjectKey: meta.ObjectKey(), Base: meta.Base, End: meta.End, Epoch: meta.Epoch, MaxTimestamp: protocol.Timestamp(i),
			DataBytes: 64 << 20, IndexOffset: 64 << 20, IndexLength: 4096, ObjectSize: 64<<20 + 4096,
			ChunkSize: format.DefaultChunkSize, Records: 100, Attempt: meta.Attempt,
		}
	}
	attempt := metadata.Attempt{Generation: 1, Index: w.log.Image().Index()}
	key := format.ManifestKey(row.Key, 1, attempt, 1)
	v, err := format.Manifest{}.Apply(w.load, format.Edit{Append: entries}, key, 1)
	if err == nil {
		err = w.bucket.Put(w.t.Context(), key, bytes.NewReader(v.Object), int64(len(v.Object)))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.propose(tiering.CommitManifest(row, v, protocol.Offset(segments*100)))
}
