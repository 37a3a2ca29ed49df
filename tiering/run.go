package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stratabroker/strata/tiering/cache"
	"github.com/stratabroker/strata/tiering/object"
)

const (
	// pieceBytes is what one GET brings at most. Segments are cut into pieces at multiples of it, so that
	// readers who come to a segment at different places ask for the same pieces: 64 MiB cost four GETs.
	pieceBytes = 16 << 20
	// turnBytes is what a run reads while it has one of the slots: then the next has its turn.
	turnBytes = 1 << 20
	// joinBytes is how far beyond a run's limit a reader waits for it rather than begin another.
	joinBytes = 1 << 20
	// runPatience is how long a run waits for its reader to come on, with its GET half read.
	runPatience = 10 * time.Second
	// runAbsence is how long a run that has not begun keeps its place among those that wait for a slot when
	// nobody waits for it: a client whose fetch was answered without it asks again at once.
	runAbsence = time.Second
)

// runs are the GETs under way. Each chunk is on its way once, and goes into blocks.
type runs struct {
	*Reader

	mu sync.Mutex
	of map[string][]*run // by object; no two of one overlap; guarded by mu
}

// run is one GET that brings a row of chunks, in order. It goes on up to its limit,
// whether anybody waits or not, and rests there until a reader raises it: so how far it runs
// ahead is up to the readers, how much one GET brings is not. While it rests the store
// is held back by the connection, and memory is taken for what has come only.
type run struct {
	of  *runs
	src *segment

	next    int         // chunk that comes next; guarded by runs.mu, as are all up to absent
	limit   int         // first chunk that is not wanted yet; at most end
	end     int         // first chunk that this run will not bring
	waiters []*waiter   // for chunks of [next, end)
	begun   bool        // it has had a slot: it goes on without waiters
	gone    bool        // it is out of runs.of
	absent  *time.Timer // ends a run that was left before it began; nil where it was not

	wake chan struct{}   // of capacity 1: limit or end changed
	ctx  context.Context //nolint:containedctx // ends with the reader, or a while after all who waited left, where it has not begun
	stop context.CancelFunc
}

// waiter is one call that waits for a chunk.
type waiter struct {
	run   *run
	chunk int
	got   chan arrival // of capacity 1
}

// arrival is a pinned block or an error; neither, where the run ended before it came to the chunk.
type arrival struct {
	block *cache.Block
	err   error
}

// chunk gives chunk i, pinned. When ctx ends, the run that brings it goes on.
func (s *source) chunk(ctx context.Context, i int) (*cache.Block, error) {
	for first := true; ; first = false {
		block, w, err := s.runs.want(s, i, first)
		if block != nil || err != nil {
			return block, err
		}
		select {
		case a := <-w.got:
			if a.block != nil || a.err != nil {
				return a.block, a.err
			}
		case <-ctx.Done():
			w.leave()
			return nil, ctx.Err()
		}
	}
}

// want pins chunk i if it is held; else it makes the caller a waiter of the run that brings it.
func (u *runs) want(s *source, i int, count bool) (*cache.Block, *waiter, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	block, held := u.blocks.Find(s.key(i))
	if count && held {
		u.stats.hits.Add(1)
	} else if count {
		u.stats.misses.Add(1)
	}
	if held {
		return block, nil, nil
	}
	r := u.covering(s, i)
	if r == nil {
		if r = u.begin(s, i); r == nil {
			return nil, nil, ErrClosed
		}
	}
	r.raise(max(i+1, min(i+s.window, s.upTo)))
	w := &waiter{run: r, chunk: i, got: make(chan arrival, 1)}
	r.waiters = append(r.waiters, w)
	return nil, w, nil
}

// ahead sees to it that chunks [from, to) are held or on their way.
func (u *runs) ahead(s *source, from, to int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	to = min(to, s.index.Chunks())
	for i := from; i < to; {
		if u.blocks.Has(s.key(i)) {
			i++
			continue
		}
		r := u.covering(s, i)
		if r == nil {
			if r = u.begin(s, i); r == nil {
				return
			}
			r.begun = true // nobody waits for it, and yet it is wanted
		}
		r.raise(to)
		i = r.end
	}
}

// covering finds the run that brings chunk i soon. One that would bring it much
// later, when its own reader has come on, is cut short before it. The caller holds mu.
func (u *runs) covering(s *source, i int) *run {
	for _, r := range u.of[s.entry.ObjectKey] {
		if i < r.next || i >= r.end {
			continue
		}
		if i < r.limit+s.chunksOf(joinBytes) {
			return r
		}
		r.end = i
		r.rouse()
		return nil
	}
	return nil
}

// begin starts a run at chunk i, which no other covers; nil where the reader is closed. The caller holds mu.
func (u *runs) begin(s *source, i int) *run {
	end := s.runEnd(i)
	for _, r := range u.of[s.entry.ObjectKey] {
		if r.next > i {
			end = min(end, r.next)
		}
	}
	for j := i + 1; j < end; j++ {
		if u.blocks.Has(s.key(j)) {
			end = j
		}
	}
	r := &run{of: u, src: s.segment, next: i, limit: i + 1, end: end, wake: make(chan struct{}, 1)}
	r.ctx, r.stop = context.WithCancel(u.life)
	if !u.background(r.drive) {
		r.stop()
		return nil
	}
	u.of[s.entry.ObjectKey] = append(u.of[s.entry.ObjectKey], r)
	return r
}

// raise lets a run go on up to a chunk. The caller holds mu.
func (r *run) raise(to int) {
	if to = min(to, r.end); to > r.limit {
		r.limit = to
		r.rouse()
	}
}

func (r *run) rouse() {
	select {
	case r.wake <- struct{}{}:
	default: // a token is there already
	}
}

// leave ends a wait. A run that has not begun ends a while after its last waiter left.
func (w *waiter) leave() {
	r, u := w.run, w.run.of
	u.mu.Lock()
	defer u.mu.Unlock()
	select {
	case a := <-w.got: // it came at the last moment
		if a.block != nil {
			u.blocks.Unpin(a.block, false)
		}
		return
	default:
	}
	r.waiters = slices.DeleteFunc(r.waiters, func(o *waiter) bool { return o == w })
	switch {
	case len(r.waiters) > 0 || r.begun:
	case r.absent == nil:
		r.absent = time.AfterFunc(runAbsence, r.abandon)
	default:
		r.absent.Reset(runAbsence)
	}
}

// abandon ends a run that has not begun and that nobody has come back to.
func (r *run) abandon() {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	if len(r.waiters) == 0 && !r.begun {
		r.forget()
		r.stop()
	}
}

// forget takes a run out of those that bring anything; who waits for what it
// did not bring asks again. The caller holds mu.
func (r *run) forget() {
	if r.gone {
		return
	}
	r.gone = true
	key := r.src.entry.ObjectKey
	rest := slices.DeleteFunc(r.of.of[key], func(o *run) bool { return o == r })
	if r.of.of[key] = rest; len(rest) == 0 {
		delete(r.of.of, key)
	}
	for _, w := range r.waiters {
		w.got <- arrival{}
	}
	r.waiters = nil
}

// drive is the run's goroutine.
func (r *run) drive() {
	defer r.stop()
	defer func() {
		r.of.mu.Lock()
		defer r.of.mu.Unlock()
		r.forget()
	}()
	var a *answer
	defer func() {
		if a != nil {
			a.close()
		}
	}()
	for try := 1; r.await(a); {
		before := r.next // only this goroutine moves it
		var err error
		a, err = r.turn(a)
		if r.next > before {
			try = 1
		}
		if err == nil {
			continue
		}
		if errors.Is(err, object.ErrNotFound) || try == getTries || r.ctx.Err() != nil {
			r.fail(fmt.Errorf("get chunk %d of %s, try %d: %w", r.next, r.src.entry.ObjectKey, try, err))
			return
		}
		if sleep(r.ctx, r.of.fetch.backoff.after(try)) != nil {
			return
		}
		try++
	}
}

// await waits until there is a chunk to bring; false where the run is over.
func (r *run) await(a *answer) bool {
	var patience <-chan time.Time
	for {
		r.of.mu.Lock()
		over, wanted := r.next >= r.end || r.gone, r.next < r.limit
		r.of.mu.Unlock()
		if over || wanted {
			return !over
		}
		if patience == nil {
			if a != nil {
				a.rest()
			}
			timer := time.NewTimer(runPatience)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-r.wake:
		case <-patience:
			r.of.mu.Lock()
			idle := r.next >= r.limit
			if idle {
				r.forget()
			}
			r.of.mu.Unlock()
			if idle {
				return false
			}
		case <-r.ctx.Done():
			return false
		}
	}
}

// turn brings some chunks while it has a slot. It gives the answer to go on
// with, none after an error.
func (r *run) turn(a *answer) (on *answer, err error) {
	defer func() {
		if err != nil && a != nil {
			a.close()
			on = nil
		}
	}()
	if a != nil {
		a.rest()
	}
	slots := r.of.fetch.slots
	if err := slots.acquire(r.ctx); err != nil {
		return a, err
	}
	defer slots.release()
	r.of.mu.Lock()
	r.begun = true
	end := r.end
	r.of.mu.Unlock()
	if a == nil {
		from, _ := r.src.index.ChunkRange(r.next)
		off, n := r.src.index.ChunkRange(end - 1)
		if a, err = r.of.fetch.open(r.ctx, r.src.entry.ObjectKey, from, off+n-from); err != nil {
			return nil, err
		}
	}
	for range r.src.chunksOf(turnBytes) {
		r.of.mu.Lock()
		more := r.next < min(r.limit, r.end)
		r.of.mu.Unlock()
		if !more {
			break
		}
		if err := r.bring(a, r.next); err != nil {
			return a, err
		}
	}
	return a, nil
}

// bring reads one chunk into a block and hands it out.
func (r *run) bring(a *answer, i int) error {
	x, blocks := r.src.index, r.of.blocks
	_, n := x.ChunkRange(i)
	a.rest() // waiting for room is not the store's fault
	buf, err := blocks.Room(r.ctx, int(r.src.entry.ChunkSize))
	if err != nil {
		return err
	}
	if err := a.read(buf[:n], func(b []byte) error { return x.CheckChunk(i, b) }); err != nil {
		blocks.Return(buf)
		return err
	}
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	block := blocks.Put(r.src.key(i), buf, int(n))
	r.next++
	r.waiters = slices.DeleteFunc(r.waiters, func(w *waiter) bool {
		if w.chunk == i {
			blocks.Pin(block)
			w.got <- arrival{block: block}
		}
		return w.chunk == i
	})
	blocks.Unpin(block, false)
	return nil
}

// fail gives an error to those who wait: damage is that of one chunk, and must not take its neighbours with it.
func (r *run) fail(err error) {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	for _, w := range r.waiters {
		if w.chunk == r.next || !errors.Is(err, errDamaged) {
			w.got <- arrival{err: err}
		} else {
			w.got <- arrival{}
		}
	}
	r.waiters = nil
}
