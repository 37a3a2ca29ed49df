package tiering

import (
	"context"
	"sync"
)

// slots lets so many at once, first come first served. The number may change: who
// has a slot keeps it.
type slots struct {
	mu      sync.Mutex
	most    int             // guarded by mu
	used    int             // guarded by mu
	waiting []chan struct{} // guarded by mu; closed when its owner has a slot
}

func newSlots(most int) *slots { return &slots{most: most} }

// acquire waits for a slot; the error is ctx's, and none is held then.
func (s *slots) acquire(ctx context.Context) error {
	s.mu.Lock()
	if s.used < s.most && len(s.waiting) == 0 {
		s.used++
		s.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	s.waiting = append(s.waiting, mine)
	s.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.waiting {
		if w == mine {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			return ctx.Err()
		}
	}
	s.used-- // it came in the same moment
	s.admitLocked()
	return ctx.Err()
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	s.admitLocked()
}

// resize changes how many there are.
func (s *slots) resize(most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = most
	s.admitLocked()
}

func (s *slots) admitLocked() {
	for s.used < s.most && len(s.waiting) > 0 {
		close(s.waiting[0])
		s.waiting = s.waiting[1:]
		s.used++
	}
}
