package tiering

import (
	"container/list"
	"context"
	"sync"
)

// budget shares out a number of bytes. Who comes while there is plenty gets what it
// wants, but no more than half of what is free: so one large taker leaves something to the next, and
// shares shrink before anybody has to wait. Who must wait is served first come, first served.
type budget struct {
	most    int64
	buffers buffers

	mu    sync.Mutex
	used  int64      // above most where somebody had to have more; guarded by mu
	queue *list.List // of *claim; guarded by mu
}

// claim is one that waits.
type claim struct {
	least, want int64
	got         chan int64 // of capacity 1
}

func newBudget(most int64) *budget { return &budget{most: most, queue: list.New()} }

// grant takes a share of at least least (or all there is in the budget, where that is less), at most
// want; 0 where that is not free. The caller holds mu.
func (b *budget) grant(least, want int64) int64 {
	least = min(least, want, b.most)
	free := b.most - b.used
	if free < least {
		return 0
	}
	share := min(want, max(least, free/2))
	if share < want && share-share%bufferUnit >= least {
		share -= share % bufferUnit // such a buffer is used again
	}
	b.used += share
	return share
}

// try takes a share if it need not wait, else 0.
func (b *budget) try(least, want int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.queue.Len() > 0 {
		return 0
	}
	return b.grant(least, want)
}

// take takes a share, and waits for it as long as ctx lives.
func (b *budget) take(ctx context.Context, least, want int64) (int64, error) {
	b.mu.Lock()
	if b.queue.Len() == 0 {
		if share := b.grant(least, want); share > 0 {
			b.mu.Unlock()
			return share, nil
		}
	}
	c := &claim{least: least, want: want, got: make(chan int64, 1)}
	element := b.queue.PushBack(c)
	b.mu.Unlock()
	select {
	case share := <-c.got:
		return share, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case share := <-c.got: // it came at the last moment
		b.used -= share
	default:
		b.queue.Remove(element)
	}
	b.serve() // it may have stood in the way of smaller ones
	return 0, ctx.Err()
}

// adjust gives back n bytes, or where n is negative takes as many without
// waiting: used may exceed most then, and nobody is served until it does not.
func (b *budget) adjust(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.serve()
}

// serve gives their shares to those that waited longest. The caller holds mu.
func (b *budget) serve() {
	for front := b.queue.Front(); front != nil; front = b.queue.Front() {
		c := front.Value.(*claim)
		share := b.grant(c.least, c.want)
		if share == 0 {
			return
		}
		b.queue.Remove(front)
		c.got <- share
	}
}

// held is how much is taken now.
func (b *budget) held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
