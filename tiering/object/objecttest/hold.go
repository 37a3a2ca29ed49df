package objecttest

import (
	"context"
	"fmt"
	"sync"
)

// Hold is a gate at which operations wait until the test lets them through. A
// held operation whose caller's context ends returns to its caller with the
// context's error, but stays in flight: when the test releases it, it takes
// effect, as a PUT does that sat in a socket buffer or a proxy.
type Hold struct {
	mu       sync.Mutex
	held     int           // operations that ever arrived; guarded by mu
	finished int           // operations that were released and are over; guarded by mu
	changed  chan struct{} // closed and replaced at each change of the counts; guarded by mu
	release  chan struct{} // closed by Release
	once     sync.Once
}

// NewHold makes a closed gate, to be named in a Rule.
func NewHold() *Hold {
	return &Hold{changed: make(chan struct{}), release: make(chan struct{})}
}

// Release opens the gate for good: what is held goes on, and what comes later passes.
func (h *Hold) Release() {
	h.once.Do(func() { close(h.release) })
}

// Held waits until n operations in all have arrived at the gate.
func (h *Hold) Held(ctx context.Context, n int) error {
	return h.await(ctx, func() bool { return h.held >= n })
}

// Finished waits until n released operations in all are over, also those whose
// caller has long gone.
func (h *Hold) Finished(ctx context.Context, n int) error {
	return h.await(ctx, func() bool { return h.finished >= n })
}

func (h *Hold) await(ctx context.Context, reached func() bool) error {
	for {
		h.mu.Lock()
		ok, changed := reached(), h.changed
		h.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (h *Hold) count(counter *int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*counter++
	close(h.changed)
	h.changed = make(chan struct{})
}

// hold parks one operation at the gate. It has its own goroutine, because it
// may outlive its caller.
func (f *Faulty) hold(ctx context.Context, what string, h *Hold, do func(context.Context) error) error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return fmt.Errorf("%s: %w", what, ErrInjected)
	}
	f.wg.Add(1)
	f.mu.Unlock()
	result := make(chan error, 1)
	go func() {
		defer f.wg.Done()
		h.count(&h.held)
		select {
		case <-h.release:
			result <- do(context.WithoutCancel(ctx))
			h.count(&h.finished)
		case <-f.quit:
			result <- fmt.Errorf("%s: store closed while held: %w", what, ErrInjected)
		}
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
}
