package server

import (
	"errors"
	"slices"
	"sync"
	"time"
)

var (
	errBudget  = errors.New("memory budget is used up")
	errStopped = errors.New("connection is closed")
)

// budget is the memory that requests of one broker may hold. Whoever does not
// fit waits in order; a priority charge may also use the reserve.
//
// A frame that is half read holds memory and asks for more. If all such frames
// waited for each other none would ever end, so one of them at a time, the
// overdraft, is let through beyond the limit.
type budget struct {
	limit, reserve int64

	mu        sync.Mutex
	used      int64
	overdraft *charge
	waiters   []*waiter
}

// charge is what one request holds. It belongs to one goroutine at a time.
type charge struct {
	b        *budget
	priority bool
	held     int64 // guarded by b.mu
}

type waiter struct {
	c       *charge
	n       int64
	granted chan struct{}
}

// add takes n more bytes, waiting up to wait (0: for ever) or until stop is closed.
func (c *charge) add(n int64, wait time.Duration, stop <-chan struct{}) error {
	b := c.b
	b.mu.Lock()
	if b.fits(c, n, len(b.waiters) > 0) {
		b.take(c, n)
		b.mu.Unlock()
		return nil
	}
	w := &waiter{c: c, n: n, granted: make(chan struct{})}
	b.waiters = append(b.waiters, w)
	b.mu.Unlock()

	var late <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		late = t.C
	}
	err := errStopped
	select {
	case <-w.granted:
		return nil
	case <-late:
		err = errBudget
	case <-stop:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiters, w)
	if i < 0 {
		return nil // granted meanwhile: the charge holds it and its release gives it back
	}
	b.waiters = slices.Delete(b.waiters, i, i+1)
	b.grant()
	return err
}

// release gives back all that the charge holds.
func (c *charge) release() { c.become(0) }

// become makes the charge hold n bytes, without waiting: replies are never held
// back, but what they hold keeps new frames out.
func (c *charge) become(n int64) {
	b := c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += n - c.held
	c.held = n
	if b.used < 0 {
		panic("server: memory budget below zero")
	}
	if b.overdraft == c || b.used <= b.limit-b.reserve {
		b.overdraft = nil
	}
	b.grant()
}

func (b *budget) take(c *charge, n int64) {
	b.used += n
	c.held += n
}

// fits tells whether n more bytes may go to c now; others says that someone
// waits before it.
func (b *budget) fits(c *charge, n int64, others bool) bool {
	switch {
	case c.priority && b.used+n <= b.limit:
		return true
	case (c.held > 0 || !others) && b.used+n <= b.limit-b.reserve:
		return true
	case c.held > 0 && (b.overdraft == nil || b.overdraft == c):
		b.overdraft = c
		return true
	}
	return false
}

// grant lets waiters in that fit now, in order.
func (b *budget) grant() {
	blocked := false
	b.waiters = slices.DeleteFunc(b.waiters, func(w *waiter) bool {
		if !b.fits(w.c, w.n, blocked) {
			blocked = true
			return false
		}
		b.take(w.c, w.n)
		close(w.granted)
		return true
	})
}

// wanted tells whether someone waits for memory.
func (b *budget) wanted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiters) > 0
}

// inUse is the memory held now.
func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
