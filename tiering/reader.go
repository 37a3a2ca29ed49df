package tiering

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/cache"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
)

// ReaderConfig says what a Reader works with. Zero numbers mean the defaults.
type ReaderConfig struct {
	Store    object.Store
	Metadata Metadata

	CacheBytes      int64         // of chunks, those on their way in included; default 64 MiB
	IndexCacheBytes int64         // of indexes and manifest pages; default 16 MiB
	LoadBytes       int64         // of indexes and manifest pages on their way in at once; default 32 MiB
	AnswerBytes     int64         // of answers being built, and held until Fetched.Release; default 64 MiB
	Parallel        int           // GETs at once whose bytes are being read; default 10
	ReadAheadBytes  int64         // loaded ahead of one sequential reader at most; default 32 MiB, negative for none
	Deadline        time.Duration // of one GET, of a long one without progress; default 30 s
	DecodeBytes     int           // what one batch may take when its timestamps are read; default 64 MiB
	Rand            func() uint64 // jitter, for many goroutines; default math/rand/v2
	Logger          *slog.Logger  // default: discards
}

// Reader reads the cold tier. It has its own caches, byte budget and limit of
// GETs, so that it cannot hurt the hot path (DESIGN D24). All methods may run concurrently.
type Reader struct {
	cfg     ReaderConfig
	fetch   *fetcher
	runs    *runs
	blocks  *cache.Blocks // chunks
	meta    *cache.Cache[metadata.PagePlace, metaValue]
	streams *streams
	answers *budget
	stats   readerCounters

	reported atomic.Int64 // when damage was last logged, in nanoseconds
	causes   *causes      // of failed reads
	failedAt atomic.Int64 // when one last failed, in nanoseconds; 0: nothing to tell the end of
	failedBy atomic.Int64 // bytes that the bucket had given by then

	life context.Context // ends with Close; what goes on without a caller lives in it
	kill context.CancelFunc
	mu   sync.Mutex
	shut bool           // guarded by mu; no goroutine starts after it is set
	wg   sync.WaitGroup // of the goroutines that go on without a caller
}

// metaValue is one thing in the cache of indexes and pages.
type metaValue struct {
	page  *format.Page
	index *format.Index
}

// NewReader makes a reader; Close ends it.
func NewReader(cfg ReaderConfig) *Reader {
	cfg.CacheBytes = or(cfg.CacheBytes, 64<<20)
	cfg.IndexCacheBytes = or(cfg.IndexCacheBytes, 16<<20)
	cfg.LoadBytes = or(cfg.LoadBytes, 32<<20)
	cfg.AnswerBytes = or(cfg.AnswerBytes, 64<<20)
	cfg.Parallel = or(cfg.Parallel, 10)
	cfg.ReadAheadBytes = or(cfg.ReadAheadBytes, 32<<20)
	cfg.Deadline = or(cfg.Deadline, defaultDeadline)
	cfg.DecodeBytes = or(cfg.DecodeBytes, 64<<20)
	cfg.Logger = orLogger(cfg.Logger)
	r := &Reader{cfg: cfg, fetch: newFetcher(cfg.Store, cfg.Deadline, cfg.Rand), answers: newBudget(cfg.AnswerBytes)}
	r.fetch.slots, r.fetch.quota = newSlots(cfg.Parallel), &quota{}
	r.causes = newCauses(cfg.Logger, "cold read failed", "cold reads go on")
	r.life, r.kill = context.WithCancel(context.Background())
	r.streams = newStreams(cfg.CacheBytes, cfg.ReadAheadBytes)
	r.blocks = cache.NewBlocks(cfg.CacheBytes)
	r.runs = &runs{Reader: r, of: map[string][]*run{}}
	loadTime := getTries*(cfg.Deadline+getBackoffMax) + cfg.Deadline
	r.meta = newCache(cache.Config[metadata.PagePlace, metaValue]{
		MaxBytes: cfg.IndexCacheBytes, MaxLoads: maxLoads, MaxLoadBytes: cfg.LoadBytes, LoadTimeout: loadTime,
		Weigh: func(p metadata.PagePlace, v metaValue) int {
			n := len(p.Key)
			if v.page != nil {
				n += pageEntryBytes * (len(v.page.Entries) + len(v.page.Children))
			}
			if v.index != nil {
				n += int(v.index.Bytes())
			}
			return n
		},
	})
	return r
}

const maxLoads = 1024

func newCache[K comparable, V any](cfg cache.Config[K, V]) *cache.Cache[K, V] {
	c, err := cache.New(cfg)
	if err != nil {
		panic(fmt.Sprintf("tiering: cold reader: %v", err)) // negative limits
	}
	return c
}

// SetParallel changes how many GETs are read at once; those beyond end first.
func (r *Reader) SetParallel(n int) { r.fetch.slots.resize(n) }

// SetQuota bounds the bytes that are read from the bucket a second; 0 or math.MaxInt64 for no limit. What the cache
// holds costs none. It acts on those that wait, who go on waiting when their callers are gone, and fill the cache.
func (r *Reader) SetQuota(bytesPerSec int64) { r.fetch.quota.set(bytesPerSec) }

// Close gives up what is in flight and waits for it.
func (r *Reader) Close() {
	r.mu.Lock()
	r.shut = true
	r.mu.Unlock()
	r.kill()
	r.blocks.Close()
	r.wg.Wait()
	_ = r.meta.Close() // never fails
}

// background runs f on its own, false where the reader is closed; f must end with r.life.
func (r *Reader) background(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.shut {
		r.wg.Go(f)
	}
	return !r.shut
}

// Read gives whole batches from `from` on, at most maxBytes of them, but with
// minOne the first one also where it alone is larger. It goes on across segment
// borders while there is room. Where it has batches when ctx ends, or when what follows cannot be read,
// it returns those. Loads that ctx does not wait for go on and fill the cache.
//
// The answer is built within a share of AnswerBytes: maxBytes, or less where
// others hold much of it (never more than half of what is free, never less than a chunk). Its heap is
// cap(Batches), which is at most its share, or the first batch where minOne asks for that and it is larger. So all answers together hold at most
// AnswerBytes and the part by which the first batch of each read under way exceeds its share. Where nothing is free, minOne waits as
// long as ctx lives, and a read without it returns nothing at once. The caller must call Fetched.Release.
//
// Errors: ErrOutOfRange, ErrNotTiered, ErrUnknownPartition, ErrCorrupt, ErrClosed, those of ctx, outages of the store.
func (r *Reader) Read(ctx context.Context, k protocol.PartitionKey, from protocol.Offset, maxBytes int, minOne bool) (Fetched, error) {
	r.stats.requests.Add(1)
	var f Fetched
	err := r.withCurrent(k, from, func(v view) (err error) {
		f, err = v.read(ctx, from, maxBytes, minOne)
		return err
	})
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, ErrOutOfRange) && !errors.Is(err, ErrNotTiered) {
			r.stats.errors.Add(1)
			r.report(k, from, err)
		}
		return Fetched{}, err
	}
	r.worked()
	r.stats.bytes.Add(int64(len(f.Batches)))
	r.readAhead(k, from, f.Next, len(f.Batches))
	return f, nil
}

// reportEvery keeps clients that try again from flooding the log with damage.
const reportEvery = time.Minute

// endAfter is how long no read has failed when the end of an outage is told.
const endAfter = 10 * time.Second

func (r *Reader) report(k protocol.PartitionKey, from protocol.Offset, err error) {
	now := time.Now().UnixNano()
	if errors.Is(err, ErrCorrupt) {
		if last := r.reported.Load(); now-last >= int64(reportEvery) && r.reported.CompareAndSwap(last, now) {
			r.cfg.Logger.Error("cold read failed", "partition", k, "offset", from, "err", err)
		}
		return
	}
	r.causes.failed(err, "partition", k, "offset", from)
	r.failedBy.Store(r.fetch.bytes.Load())
	r.failedAt.Store(now)
}

// worked tells the end of an outage: not by what came from the cache, nor while every third read still fails.
func (r *Reader) worked() {
	at := r.failedAt.Load()
	if at == 0 || r.fetch.bytes.Load() <= r.failedBy.Load() || time.Now().UnixNano()-at < int64(endAfter) {
		return
	}
	if r.failedAt.CompareAndSwap(at, 0) {
		r.causes.succeeded()
	}
}

// view is one partition at one manifest version.
type view struct {
	*Reader
	row      metadata.Partition
	manifest format.Manifest
}

// currentTries bounds how often a read starts over because the manifest was replaced under it.
const currentTries = 16

// withCurrent runs f on the current manifest. A missing object is judged by the
// manifest that is current then (DESIGN D16): below the log start it is out of
// range, replaced is read anew, still listed is corruption.
func (r *Reader) withCurrent(k protocol.PartitionKey, from protocol.Offset, f func(view) error) error {
	var last metadata.PagePlace
	var err error
	for range currentTries {
		row, ok := r.cfg.Metadata.Image().Partition(k)
		switch {
		case !ok:
			return fmt.Errorf("%w: %s", ErrUnknownPartition, k)
		case from < row.LogStart:
			return fmt.Errorf("%w: %d of %s, which starts at %d", ErrOutOfRange, from, k, row.LogStart)
		case from >= row.Manifest.TieredEnd:
			return fmt.Errorf("%w: %d of %s, which is tiered up to %d", ErrNotTiered, from, k, row.Manifest.TieredEnd)
		case err != nil && row.Manifest.Root == last:
			return fmt.Errorf("%w: partition %s: manifest version %d: %w", ErrCorrupt, k, row.Manifest.Version, err)
		}
		last = row.Manifest.Root
		err = f(view{r, row, format.Manifest{Version: row.Manifest.Version, Root: row.Manifest.Root}})
		switch {
		case err == nil:
			return nil
		case errors.Is(err, object.ErrNotFound):
		case errors.Is(err, errDamaged), errors.Is(err, format.ErrCorrupt):
			return fmt.Errorf("%w: partition %s: %w", ErrCorrupt, k, err)
		case errors.Is(err, cache.ErrClosed), errors.Is(err, ErrClosed):
			return ErrClosed
		default:
			return err
		}
	}
	return fmt.Errorf("manifest of %s was replaced %d times during a read: %w", k, currentTries, err)
}

// open reads an entry's index through the cache.
func (v view) open(ctx context.Context, e format.Entry) (*source, error) {
	place := metadata.PagePlace{Key: e.ObjectKey, Offset: uint64(e.IndexOffset), Length: e.IndexLength, CRC: e.IndexCRC}
	value, err := v.meta.Get(ctx, place, int64(e.IndexLength), func(ctx context.Context) (metaValue, error) {
		var x *format.Index
		_, err := v.fetch.get(ctx, e.ObjectKey, e.IndexOffset, int64(e.IndexLength), func(b []byte) (err error) {
			x, err = format.DecodeIndex(b, e)
			return err
		})
		return metaValue{index: x}, err
	})
	if err != nil {
		return nil, fmt.Errorf("index of [%d, %d): %w", e.Base, e.End, err)
	}
	return &source{segment: &segment{entry: e, index: value.index}, runs: v.runs, window: 1}, nil
}

// read fills one answer.
func (v view) read(ctx context.Context, from protocol.Offset, maxBytes int, minOne bool) (Fetched, error) {
	share, err := v.reserve(ctx, maxBytes, minOne)
	if err != nil {
		return Fetched{}, err
	}
	f := fill{from: from, limit: min(maxBytes, int(share.bytes.Load())), minOne: minOne, next: from, share: share}
	if f.limit <= 0 && !minOne {
		return Fetched{Next: from}, nil
	}
	var done func()
	f.window, f.stream, done = v.streams.begin(v.row.Key, from)
	defer done()
	f.coming = v.coming(ctx, from, int64(f.limit))
	for err == nil && f.next < v.row.Manifest.TieredEnd && !f.full {
		err = v.readEntry(ctx, &f)
	}
	if len(f.out) == 0 {
		share.release()
		if err != nil {
			return Fetched{}, err
		}
		return Fetched{Aborted: f.overlapping(), Next: f.next}, nil
	}
	// An error is for the next read, which meets it first.
	f.settle()
	return Fetched{Batches: f.out, Aborted: f.overlapping(), Next: f.next, share: share}, nil
}

// coming sums up what the entry that holds from and those after it hold, up to enough bytes after the first. Where
// that cannot be read it is as much as can be: the read itself will meet the error.
func (v view) coming(ctx context.Context, from protocol.Offset, enough int64) int64 {
	var first, after int64
	err := v.visit(ctx, func(s format.Summary) bool { return s.End > from }, func(e format.Entry) bool {
		if first == 0 {
			first = e.DataBytes
		} else {
			after += e.DataBytes
		}
		return after < enough
	})
	if err != nil {
		return math.MaxInt64
	}
	return first + after
}

func (v view) readEntry(ctx context.Context, f *fill) error {
	e, err := v.find(ctx, f.next)
	if err != nil {
		return err
	}
	if e.DataBytes == 0 { // compaction left nothing
		f.next = e.End
		return nil
	}
	src, err := v.open(ctx, e)
	if err != nil {
		return err
	}
	defer src.close()
	src.window, src.stream = src.chunksOf(f.window), f.stream
	src.begin(src.index.Floor(f.next), int64(f.limit-len(f.out)))
	f.aborted = append(f.aborted, src.index.Aborted()...)
	return f.fromEntry(ctx, src)
}
