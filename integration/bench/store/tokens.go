package store

import (
	"context"
	"sync"
	"time"
)

// burst is how much time's worth of tokens are saved up while nobody takes any.
const burst = 20 * time.Millisecond

// tokenBucket gives out bytes at a rate, in the order of asking.
type tokenBucket struct {
	mu   sync.Mutex
	rate float64   // bytes a second; 0 is no limit; guarded by mu
	next time.Time // when all that was given out is paid for; guarded by mu
}

func newTokenBucket() *tokenBucket { return &tokenBucket{} }

func (t *tokenBucket) setRate(bytesPerSecond float64, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rate, t.next = bytesPerSecond, now
}

// reserve takes n bytes and tells how long to wait before they are sent.
func (t *tokenBucket) reserve(n int, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rate == 0 {
		return 0
	}
	if oldest := now.Add(-burst); t.next.Before(oldest) {
		t.next = oldest
	}
	t.next = t.next.Add(time.Duration(float64(n) / t.rate * float64(time.Second)))
	return t.next.Sub(now)
}

// wait takes n bytes and waits for them; it tells whether ctx still lives.
func (t *tokenBucket) wait(ctx context.Context, n int) bool {
	delay := t.reserve(n, time.Now())
	if delay <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
