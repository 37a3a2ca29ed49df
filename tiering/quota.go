package tiering

import (
	"context"
	"math"
	"sync"
	"time"
)

// quota bounds bytes over time, for many goroutines. Something larger than what there is goes whole and is paid for after: so
// one segment goes at any rate, and on average no more than the rate does.
type quota struct {
	mu     sync.Mutex
	perSec int64     // 0 or math.MaxInt64 for no limit; guarded by mu
	debt   float64   // bytes that are not paid for yet; guarded by mu
	at     time.Time // of the debt; guarded by mu
}

// set changes the rate, for those that wait too, within a second.
func (q *quota) set(perSec int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pay(time.Now())
	q.perSec = perSec
}

// limited tells whether there is a rate.
func (q *quota) limited() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.has()
}

// has is limited; the caller holds mu.
func (q *quota) has() bool { return q.perSec > 0 && q.perSec < math.MaxInt64 }

// pay takes off the debt what time has paid. The caller holds mu.
func (q *quota) pay(now time.Time) {
	if q.debt = max(0, q.debt-now.Sub(q.at).Seconds()*float64(q.perSec)); !q.has() {
		q.debt = 0
	}
	q.at = now
}

// take waits until what went before is paid for, and takes n bytes. An error is ctx's.
func (q *quota) take(ctx context.Context, n int64) error {
	for {
		q.mu.Lock()
		q.pay(time.Now())
		wait := time.Duration(0)
		if q.debt >= 1 {
			wait = time.Duration(min(q.debt/float64(q.perSec), 1) * float64(time.Second))
		} else if q.has() {
			q.debt += float64(n)
		}
		q.mu.Unlock()
		if wait == 0 {
			return ctx.Err()
		}
		if err := sleep(ctx, max(wait, time.Millisecond)); err != nil {
			return err
		}
	}
}
