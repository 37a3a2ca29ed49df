package store

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// leastPriority is the nice value that leaves all others the CPU.
const leastPriority = 19

// Background is a thread of the lowest priority. Processes that are started on it have that priority too:
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
		ready <- unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), leastPriority)
		for call := range b.calls {
			call()
		}
	}()
	if err := <-ready; err != nil {
		_ = b.Close()
		return nil, fmt.Errorf("lower the priority of a thread: %w", err)
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
