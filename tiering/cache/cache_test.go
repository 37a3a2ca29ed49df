package cache_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/tiering/cache"
)

type key struct {
	object string
	chunk  int
}

func open(t *testing.T, change func(*cache.Config[key, []byte])) *cache.Cache[key, []byte] {
	t.Helper()
	config := cache.Config[key, []byte]{
		MaxBytes: 10_000, MaxLoads: 4, MaxLoadBytes: 4000, LoadTimeout: time.Minute,
		Weigh: func(_ key, v []byte) int { return len(v) },
	}
	if change != nil {
		change(&config)
	}
	c, err := cache.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func bytesOf(n int) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return make([]byte, n), nil }
}

func must(t *testing.T, c *cache.Cache[key, []byte], k key, n int) {
	t.Helper()
	got, err := c.Get(t.Context(), k, int64(n), bytesOf(n))
	if err != nil || len(got) != n {
		t.Fatalf("Get %v: %d bytes, %v", k, len(got), err)
	}
}

func closeIt(t *testing.T, c *cache.Cache[key, []byte]) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestHitAndMissAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, nil)
		defer closeIt(t, c)
		for range 3 {
			must(t, c, key{"a", 1}, 100)
		}
		must(t, c, key{"a", 2}, 100)
		got := c.Stats()
		if got.Hits != 2 || got.Misses != 2 || got.Joined != 0 || got.Entries != 2 || got.Bytes < 200 || got.Loading != 0 || got.LoadingBytes != 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestTheLimitHoldsAfterEachLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, nil)
		defer closeIt(t, c)
		r := rand.New(rand.NewPCG(1, 2))
		for i := range 2000 {
			chunk := r.IntN(300)
			must(t, c, key{"a", chunk}, 1+3*chunk)
			if got := c.Stats(); got.Bytes > 10_000 {
				t.Fatalf("after %d: %+v", i, got)
			}
		}
		if got := c.Stats(); got.Evicted == 0 || got.Entries == 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestAValueBeyondTheLimitIsHandedOutAndNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, nil)
		defer closeIt(t, c)
		must(t, c, key{"small", 0}, 10)
		must(t, c, key{"huge", 0}, 20_000)
		if got := c.Stats(); got.Bytes > 10_000 || got.Entries > 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestConcurrentMissesMakeOneLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, nil)
		defer closeIt(t, c)
		var loads atomic.Int64
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				got, err := c.Get(t.Context(), key{"a", 1}, 5, func(context.Context) ([]byte, error) {
					loads.Add(1)
					time.Sleep(time.Second)
					return []byte("bytes"), nil
				})
				if err != nil || string(got) != "bytes" {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
		wg.Wait()
		if got := c.Stats(); loads.Load() != 1 || got.Misses != 100 || got.Joined != 99 {
			t.Errorf("%d loads, %+v", loads.Load(), got)
		}
	})
}

func TestALoadGoesOnWhenItsCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, nil)
		defer closeIt(t, c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		_, err := c.Get(ctx, key{"a", 1}, 5, func(ctx context.Context) ([]byte, error) {
			time.Sleep(10 * time.Second)
			return []byte("bytes"), ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Fatalf("%v after %v", err, time.Since(begun))
		}
		got, err := c.Get(t.Context(), key{"a", 1}, 5, func(context.Context) ([]byte, error) { return nil, errors.New("loaded twice") })
		if err != nil || string(got) != "bytes" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestErrorsAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, nil)
		defer closeIt(t, c)
		outage := errors.New("outage")
		if _, err := c.Get(t.Context(), key{"a", 1}, 5, func(context.Context) ([]byte, error) { return []byte("junk"), outage }); !errors.Is(err, outage) {
			t.Errorf("got %v", err)
		}
		must(t, c, key{"a", 1}, 5)
		if got := c.Stats(); got.Failed != 1 || got.Entries != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestLoadsAndTheirBytesAreBounded(t *testing.T) {
	for name, size := range map[string]int64{"by number": 1, "by bytes": 2000, "by more than there is": 9000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := open(t, nil)
				defer closeIt(t, c)
				most := min(4, max(1, 4000/size))
				var now, peak atomic.Int64
				var wg sync.WaitGroup
				begun := time.Now()
				for i := range 20 {
					wg.Go(func() {
						_, err := c.Get(t.Context(), key{"a", i}, size, func(context.Context) ([]byte, error) {
							n := now.Add(1)
							defer now.Add(-1)
							for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
							}
							time.Sleep(time.Second)
							return []byte("x"), nil
						})
						if err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if peak.Load() != most || time.Since(begun) != time.Duration(20/most)*time.Second {
					t.Errorf("%d loads at once, want %d; all after %v", peak.Load(), most, time.Since(begun))
				}
			})
		})
	}
}

func TestAQueuedLoadIsDroppedWithItsLastWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, func(c *cache.Config[key, []byte]) { c.MaxLoads = 1 })
		defer closeIt(t, c)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = c.Get(t.Context(), key{"slow", 0}, 1, func(context.Context) ([]byte, error) {
				time.Sleep(10 * time.Second)
				return []byte("x"), nil
			})
		})
		synctest.Wait()
		var ran atomic.Bool
		for i := range 2 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i)*time.Second)
				defer cancel()
				if _, err := c.Get(ctx, key{"queued", 0}, 1, func(context.Context) ([]byte, error) { ran.Store(true); return nil, nil }); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		}
		time.Sleep(3 * time.Second)
		// A newcomer is no waiter of the dropped load.
		wg.Go(func() { must(t, c, key{"queued", 0}, 7) })
		wg.Wait()
		if ran.Load() {
			t.Error("the dropped load ran")
		}
	})
}

func TestALoadHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, nil)
		defer closeIt(t, c)
		begun := time.Now()
		_, err := c.Get(t.Context(), key{"a", 1}, 1, func(ctx context.Context) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

func TestCloseEndsLoadsAndWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, func(c *cache.Config[key, []byte]) { c.MaxLoads = 1 })
		var wg sync.WaitGroup
		errs := make([]error, 3)
		for i := range errs {
			wg.Go(func() {
				_, errs[i] = c.Get(t.Context(), key{"a", i}, 1, func(ctx context.Context) ([]byte, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				})
			})
		}
		synctest.Wait()
		closeIt(t, c)
		wg.Wait()
		for i, err := range errs {
			if !errors.Is(err, cache.ErrClosed) && !errors.Is(err, context.Canceled) {
				t.Errorf("waiter %d: %v", i, err)
			}
		}
		if _, err := c.Get(t.Context(), key{"b", 0}, 1, bytesOf(1)); !errors.Is(err, cache.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestManyGoroutines(t *testing.T) {
	c := open(t, nil)
	defer closeIt(t, c)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 2000 {
				k := key{"a", r.IntN(200)}
				got, err := c.Get(t.Context(), k, 100, func(context.Context) ([]byte, error) { return fmt.Appendf(nil, "%0100d", k.chunk), nil })
				if err != nil || string(got) != fmt.Sprintf("%0100d", k.chunk) {
					t.Errorf("%v: %q, %v", k, got, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := c.Stats(); got.Bytes > 10_000 || got.Hits+got.Misses != 16_000 || got.Loading != 0 {
		t.Errorf("%+v", got)
	}
}

func TestLimitsMustBePositive(t *testing.T) {
	if _, err := cache.New(cache.Config[key, []byte]{}); err == nil {
		t.Error("a cache without limits was made")
	}
}
