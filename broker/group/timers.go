package group

import "time"

// timer is a deadline of the shard. The zero value is not armed.
type timer struct {
	at    time.Time
	order uint64 // of arming: among equal times the first armed fires first
	pos   int    // place in the heap + 1, 0 while not armed
	fire  func()
}

func (t *timer) armed() bool { return t.pos > 0 }

// timers is a binary heap of armed timers, the nearest first.
type timers struct {
	heap  []*timer
	armed uint64
}

// next is the nearest deadline.
func (h *timers) next() (time.Time, bool) {
	if len(h.heap) == 0 {
		return time.Time{}, false
	}
	return h.heap[0].at, true
}

// arm sets or moves t.
func (h *timers) arm(t *timer, at time.Time, fire func()) {
	h.armed++
	t.at, t.order, t.fire = at, h.armed, fire
	if !t.armed() {
		h.heap = append(h.heap, t)
		t.pos = len(h.heap)
	}
	h.down(h.up(t.pos - 1))
}

func (h *timers) cancel(t *timer) {
	if !t.armed() {
		return
	}
	i, last := t.pos-1, len(h.heap)-1
	h.swap(i, last)
	h.heap[last] = nil
	h.heap = h.heap[:last]
	t.pos = 0
	if i < last {
		h.down(h.up(i))
	}
}

// expired takes off the nearest timer if its time has come.
func (h *timers) expired(now time.Time) *timer {
	if len(h.heap) == 0 || h.heap[0].at.After(now) {
		return nil
	}
	t := h.heap[0]
	h.cancel(t)
	return t
}

func (h *timers) less(i, j int) bool {
	a, b := h.heap[i], h.heap[j]
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	return a.order < b.order
}

func (h *timers) swap(i, j int) {
	h.heap[i], h.heap[j] = h.heap[j], h.heap[i]
	h.heap[i].pos, h.heap[j].pos = i+1, j+1
}

func (h *timers) up(i int) int {
	for i > 0 && h.less(i, (i-1)/2) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	return i
}

func (h *timers) down(i int) {
	for {
		least := i
		for _, child := range [...]int{2*i + 1, 2*i + 2} {
			if child < len(h.heap) && h.less(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}
