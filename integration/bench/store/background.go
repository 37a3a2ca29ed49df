package store

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Background is a thread that is scheduled when the CPU is idle. Processes that are started on it are too:
// they stand for other machines, and must not take the CPU from what is measured. They end
// with the thread, where they asked for a signal at their parent's death.
type Background struct{ calls chan func() }

// NewBackground starts the thread. Close ends it.
func NewBackground() (*Background, error) {
	b := &Background{calls: make(chan func())}
	ready := make(chan error)
	go func() {
		// Never unlocked, so the thread ends with the goroutine, as does what was started on it.
		runtime.LockOSThread()
		// Unlike one of nice 19, such a thread gives way at once to any that wakes up, and its core counts as free.
		ready <- unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_IDLE}, 0)
		for call := range b.calls {
			call()
		}
	}()
	if err := <-ready; err != nil {
		_ = b.Close()
		return nil, fmt.Errorf("make a thread idle: %w", err)
	}
	return b, nil
}

// Do calls f on the thread and waits for it; without a background it just calls it.
func (b *Background) Do(f func() error) error {
	if b == nil {
		return f()
	}
	done := make(chan error)
	b.calls <- func() { done <- f() }
	return <-done
}

// Close ends the thread; whatever was started on it must have ended.
func (b *Background) Close() error {
	close(b.calls)
	return nil
}
