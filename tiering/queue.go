package tiering

import (
	"container/heap"
	"time"

	"github.com/stratabroker/strata/protocol"
)

// lateQueue orders partitions by when their backoff ends.
type lateQueue struct{ h lateHeap }

type lateRow struct {
	key protocol.PartitionKey
	at  time.Time
}

func (q *lateQueue) push(k protocol.PartitionKey, at time.Time) { heap.Push(&q.h, lateRow{k, at}) }

// due takes out all that are due at now.
func (q *lateQueue) due(now time.Time) []protocol.PartitionKey {
	var keys []protocol.PartitionKey
	for len(q.h) > 0 && !q.h[0].at.After(now) {
		keys = append(keys, heap.Pop(&q.h).(lateRow).key)
	}
	return keys
}

// next is when the first is due.
func (q *lateQueue) next() (time.Time, bool) {
	if len(q.h) == 0 {
		return time.Time{}, false
	}
	return q.h[0].at, true
}

type lateHeap []lateRow

func (h lateHeap) Len() int           { return len(h) }
func (h lateHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h lateHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *lateHeap) Push(x any) { *h = append(*h, x.(lateRow)) }

// Pop implements heap.Interface.
func (h *lateHeap) Pop() any {
	last := len(*h) - 1
	row := (*h)[last]
	*h = (*h)[:last]
	return row
}

// limiter adapts how many uploads run at once to what the store bears: halved
// when it asks to slow down, one more after as many successes as are allowed at once.
type limiter struct {
	most, now int
	credit    int
	cutAt     time.Time
}

// cutPause keeps one storm, answered to many uploads at once, from counting many times.
const cutPause = time.Second

// resize changes the bound. A higher one is tried at once: a store that cannot keep up says so.
func (l *limiter) resize(most int) { l.most, l.now, l.credit = most, most, 0 }

func (l *limiter) throttled(now time.Time) {
	if now.Sub(l.cutAt) < cutPause {
		return
	}
	l.now, l.credit, l.cutAt = max(1, l.now/2), 0, now
}

func (l *limiter) succeeded() {
	if l.now >= l.most {
		return
	}
	if l.credit++; l.credit >= l.now {
		l.now, l.credit = l.now+1, 0
	}
}
