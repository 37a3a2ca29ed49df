package cache_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stratabroker/strata/tiering/cache"
)

func blockKey(i int) cache.BlockKey { return cache.BlockKey{Object: "a", Index: i} }

// put loads a block of 10 bytes and leaves it read or unread.
func put(t *testing.T, c *cache.Blocks, i int, used bool) {
	t.Helper()
	buf, err := c.Room(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	buf[0] = byte(i)
	c.Unpin(c.Put(blockKey(i), buf, 10), used)
}

func holds(c *cache.Blocks, n int) (out []int) {
	for i := range n {
		if c.Has(blockKey(i)) {
			out = append(out, i)
		}
	}
	return out
}

func TestBlocksThatWereReadGoFirst(t *testing.T) {
	c := cache.NewBlocks(50)
	for i := range 5 {
		put(t, c, i, i%2 == 1) // 1 and 3 were read
	}
	if b, ok := c.Find(blockKey(1)); !ok || b.Bytes[0] != 1 {
		t.Fatal("block 1 is not held")
	} else {
		c.Unpin(b, true) // more recently than 3
	}
	for i, gone := range []int{3, 1, 0, 2, 4} {
		put(t, c, 5+i, false)
		if c.Has(blockKey(gone)) || c.Stats().Blocks != 5 || c.Stats().Bytes != 50 {
			t.Errorf("%v are held, %d should have gone", holds(c, 10), gone)
		}
	}
	if s := c.Stats(); s.Evicted != 5 || s.Wasted != 3 {
		t.Errorf("%+v", s)
	}
}

func TestPinnedBlocksStayAndRoomIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cache.NewBlocks(20)
		put(t, c, 0, true)
		pinned, _ := c.Find(blockKey(0))
		way, err := c.Room(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		var order []int
		var mu sync.Mutex
		for i := range 2 {
			go func() {
				buf, err := c.Room(t.Context(), 10)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				c.Unpin(c.Put(blockKey(10+i), buf, 10), false)
			}()
			synctest.Wait()
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Room(gone, 10); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if len(order) > 0 || !c.Has(blockKey(0)) {
			t.Fatalf("%v had room, %v are held", order, holds(c, 20))
		}
		c.Unpin(pinned, true)
		synctest.Wait()
		if len(order) != 2 || order[0] != 0 || c.Has(blockKey(0)) {
			t.Errorf("%v had room, %v are held", order, holds(c, 20))
		}
		c.Return(way)
		if s := c.Stats(); s.Bytes > 20 {
			t.Errorf("%+v", s)
		}
	})
}

func TestABlockLargerThanAllIsHeldAlone(t *testing.T) {
	c := cache.NewBlocks(5)
	put(t, c, 0, false)
	put(t, c, 1, false)
	if got := holds(c, 2); len(got) != 1 || got[0] != 1 {
		t.Errorf("%v are held", got)
	}
}

func TestABlockIsHeldOnce(t *testing.T) {
	c := cache.NewBlocks(100)
	put(t, c, 7, false)
	buf, err := c.Room(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	b := c.Put(blockKey(7), buf, 10)
	if s := c.Stats(); b.Bytes[0] != 7 || s.Bytes != 10 || s.Blocks != 1 {
		t.Errorf("%d, %+v", b.Bytes[0], s)
	}
	c.Unpin(b, true)
}

func TestClosedBlocksGiveNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cache.NewBlocks(10)
		if _, err := c.Room(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
		var err error
		go func() { _, err = c.Room(t.Context(), 10) }()
		synctest.Wait()
		c.Close()
		synctest.Wait()
		if !errors.Is(err, cache.ErrClosed) {
			t.Errorf("who waited: %v", err)
		}
		if _, err := c.Room(t.Context(), 10); !errors.Is(err, cache.ErrClosed) {
			t.Errorf("who came later: %v", err)
		}
	})
}

// TestBlocksKeepTheirBytesWhilePinned has buffers go round between many goroutines.
func TestBlocksKeepTheirBytesWhilePinned(t *testing.T) {
	c := cache.NewBlocks(200)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(worker)))
			for range 5000 {
				i := r.IntN(60)
				b, ok := c.Find(blockKey(i))
				if !ok {
					buf, err := c.Room(t.Context(), 10)
					if err != nil {
						t.Error(err)
						return
					}
					for j := range buf {
						buf[j] = byte(i)
					}
					b = c.Put(blockKey(i), buf, 10)
				}
				for _, got := range b.Bytes {
					if got != byte(i) {
						t.Errorf("block %d holds %d", i, got)
					}
				}
				c.Unpin(b, r.IntN(2) == 0)
			}
		})
	}
	wg.Wait()
	if s := c.Stats(); s.Bytes > 200 || s.Bytes != 10*s.Blocks {
		t.Errorf("%+v", s)
	}
}

func TestAFullCacheMakesNoGarbage(t *testing.T) {
	c := cache.NewBlocks(1000)
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		put(t, c, i, true)
	}); n > 2 { // the block, and now and then the map
		t.Errorf("%v allocations a block", n)
	}
}
