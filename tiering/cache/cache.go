// Package cache keeps what was read from the bucket: chunks of segment objects,
// decoded indexes, manifest pages. It is bounded in bytes, loads a key once
// however many ask for it, and bounds what is being loaded. It does not know
// what it holds; the cold reader owns it.
package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/semaphore"
)

// ErrClosed is what a closed cache answers.
var ErrClosed = errors.New("cache is closed")

// entryOverhead is charged for each entry beside its own bytes: otter's node, the
// hash table's share and the slice or pointer itself.
const entryOverhead = 160

// Config bounds a cache. All fields are needed.
type Config[K comparable, V any] struct {
	MaxBytes     int64                    // of what is cached; heavier values are handed out but not kept
	MaxLoads     int                      // under way at once; more wait, first come first served
	MaxLoadBytes int64                    // being loaded at once
	LoadTimeout  time.Duration            // of one load, counted from its start
	Weigh        func(key K, value V) int // heap bytes of an entry, asked once, when it is inserted
}

// Cache maps keys to loaded values. The heap it holds is at most MaxBytes, and
// MaxLoadBytes for values on their way in. Values are shared: nobody may change
// them. All methods may run concurrently.
type Cache[K comparable, V any] struct {
	config Config[K, V]
	kept   *otter.Cache[K, V]
	loads  *semaphore.Weighted // MaxLoads
	bytes  *semaphore.Weighted // MaxLoadBytes

	life context.Context // ends with Close; loads live in it
	kill context.CancelFunc
	wg   sync.WaitGroup // one per flight

	mu      sync.Mutex
	flights map[K]*flight[V] // guarded by mu
	closed  bool             // guarded by mu

	hits, misses, joined, failed, evicted atomic.Int64
	loading, loadingBytes                 atomic.Int64
}

// flight is one load, queued or under way, and those who wait for it.
type flight[V any] struct {
	done  chan struct{} // closed when value and err are set
	value V
	err   error

	leave   context.CancelFunc // takes it out of the queue
	waiters int                // guarded by Cache.mu
	started bool               // guarded by Cache.mu; from then on it goes on without waiters
}

// Stats is a reading of a cache's counters; those that count events only grow.
type Stats struct {
	Hits, Misses int64 // Gets answered from the cache, and those that were not
	Joined       int64 // misses that waited for another one's load
	Failed       int64 // loads that ended with an error
	Evicted      int64 // entries that went to make room

	Bytes, Entries        int64 // kept now; Bytes as charged
	Loading, LoadingBytes int64 // under way now
}

// New makes a cache, which runs goroutines until Close.
func New[K comparable, V any](c Config[K, V]) (*Cache[K, V], error) {
	if c.MaxBytes <= 0 || c.MaxLoads <= 0 || c.MaxLoadBytes <= 0 || c.LoadTimeout <= 0 || c.Weigh == nil {
		return nil, fmt.Errorf("cache: limits must be positive, got %d bytes, %d loads of %d bytes in %v", c.MaxBytes, c.MaxLoads, c.MaxLoadBytes, c.LoadTimeout)
	}
	cache := &Cache[K, V]{
		config:  c,
		loads:   semaphore.NewWeighted(int64(c.MaxLoads)),
		bytes:   semaphore.NewWeighted(c.MaxLoadBytes),
		flights: map[K]*flight[V]{},
	}
	cache.life, cache.kill = context.WithCancel(context.Background())
	kept, err := otter.New(&otter.Options[K, V]{
		MaximumWeight: uint64(c.MaxBytes),
		Weigher: func(key K, value V) uint32 {
			return uint32(min(max(int64(c.Weigh(key, value)), 0)+entryOverhead, math.MaxUint32))
		},
		OnAtomicDeletion: func(e otter.DeletionEvent[K, V]) {
			if e.WasEvicted() {
				cache.evicted.Add(1)
			}
		},
		// Evictions happen in the goroutine that inserted, so that the limit holds when it goes on.
		Executor: func(fn func()) { fn() },
	})
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	cache.kept = kept
	return cache, nil
}

// Get returns the value of key, loading it where it is missing. Concurrent
// misses share one load; size is about the bytes it will hold on to. The load's
// context is not ctx: when ctx ends Get returns its error, and a load under way
// goes on to fill the cache (one that still queues is dropped with its last
// waiter). An error is handed to all who wait and is not kept.
func (c *Cache[K, V]) Get(ctx context.Context, key K, size int64, load func(context.Context) (V, error)) (V, error) {
	var none V
	if value, ok := c.kept.GetIfPresent(key); ok {
		c.hits.Add(1)
		return value, nil
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	f, value, err := c.join(key, size, load)
	if err != nil || f == nil {
		return value, err
	}
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		c.part(key, f)
		return none, ctx.Err()
	}
}

// join makes the caller a waiter of the key's flight, a new one where there is
// none. Without a flight the value has just arrived.
func (c *Cache[K, V]) join(key K, size int64, load func(context.Context) (V, error)) (*flight[V], V, error) {
	var none V
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, none, ErrClosed
	}
	if f, ok := c.flights[key]; ok {
		f.waiters++
		c.misses.Add(1)
		c.joined.Add(1)
		return f, none, nil
	}
	// A flight inserts its value before it leaves the map: looking here, after the
	// map, cannot miss it.
	if value, ok := c.kept.GetIfPresent(key); ok {
		c.hits.Add(1)
		return nil, value, nil
	}
	c.misses.Add(1)
	queue, leave := context.WithCancel(c.life)
	f := &flight[V]{done: make(chan struct{}), leave: leave, waiters: 1}
	c.flights[key] = f
	c.wg.Go(func() { c.fly(queue, key, f, min(max(size, 1), c.config.MaxLoadBytes), load) })
	return f, none, nil
}

// part takes a waiter away whose context has ended.
func (c *Cache[K, V]) part(key K, f *flight[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiters--; f.waiters == 0 && !f.started && c.flights[key] == f {
		delete(c.flights, key) // the next one to come starts afresh
		f.leave()
	}
}

func (c *Cache[K, V]) fly(queue context.Context, key K, f *flight[V], size int64, load func(context.Context) (V, error)) {
	defer f.leave()
	defer close(f.done)
	if f.err = c.bytes.Acquire(queue, size); f.err != nil {
		f.err = c.land(key, f)
		return
	}
	defer c.bytes.Release(size)
	if f.err = c.loads.Acquire(queue, 1); f.err != nil {
		f.err = c.land(key, f)
		return
	}
	defer c.loads.Release(1)
	if !c.start(key, f) {
		f.err = c.land(key, f)
		return
	}
	c.loading.Add(1)
	c.loadingBytes.Add(size)
	defer c.loading.Add(-1)
	defer c.loadingBytes.Add(-size)
	ctx, cancel := context.WithTimeout(c.life, c.config.LoadTimeout)
	defer cancel()
	value, err := load(ctx)
	if f.err = err; err != nil {
		c.failed.Add(1)
	} else {
		f.value = value
		c.kept.Set(key, value)
		c.kept.CleanUp() // evict before the bytes of this load are given free
	}
	_ = c.land(key, f)
}

// start marks a flight as one that goes on without waiters; false when they
// have all gone before.
func (c *Cache[K, V]) start(key K, f *flight[V]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.started = c.flights[key] == f && !c.closed
	return f.started
}

// land ends a flight. The error is the one of a flight that never started: its
// waiters are gone, or the cache is closed.
func (c *Cache[K, V]) land(key K, f *flight[V]) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flights[key] == f {
		delete(c.flights, key)
	}
	if c.closed {
		return ErrClosed
	}
	return context.Canceled
}

// Stats reads the counters.
func (c *Cache[K, V]) Stats() Stats {
	return Stats{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Joined: c.joined.Load(), Failed: c.failed.Load(), Evicted: c.evicted.Load(),
		Bytes: int64(c.kept.WeightedSize()), Entries: int64(c.kept.EstimatedSize()),
		Loading: c.loading.Load(), LoadingBytes: c.loadingBytes.Load(),
	}
}

// Close ends all loads, waits for them, and empties the cache. Gets return
// ErrClosed or the error of their load.
func (c *Cache[K, V]) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.kill()
	c.wg.Wait()
	c.kept.StopAllGoroutines()
	c.kept.InvalidateAll()
	return nil
}
