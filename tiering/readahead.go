package tiering

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/stratabroker/strata/protocol"
)

const (
	// leastAhead is the smallest window that is worth reading ahead in, in bytes.
	leastAhead = 1 << 20
	// streamIdle is how long a reader that does not come on counts as one.
	streamIdle = 10 * time.Second
)

// streams remembers where recent reads ended. One that goes on there is
// sequential, and worth reading ahead of. How far, its window, grows from read to
// read, and is at most an equal share of what all may have loaded ahead together:
// so they do not evict each other's chunks unread, and one that rests keeps no more than its share.
type streams struct {
	budget int64 // of all windows, in bytes
	widest int64 // of one window; 0 for no reading ahead

	mu    sync.Mutex
	order *list.List                  // of *stream, the last used in front; guarded by mu
	at    map[streamEnd]*list.Element // guarded by mu
	loose int                         // reads under way that continue none; guarded by mu
}

type streamEnd struct {
	key  protocol.PartitionKey
	next protocol.Offset
}

// stream is one sequential reader. Its fields are guarded by streams.mu.
type stream struct {
	end    streamEnd
	moved  time.Time // when it was last read
	window int64     // bytes from the next read's begin on
	busy   bool      // its read-ahead is being planned
}

func newStreams(cacheBytes, aheadBytes int64) *streams {
	return &streams{
		budget: cacheBytes / 4 * 3, widest: max(aheadBytes, 0), order: list.New(), at: map[streamEnd]*list.Element{},
	}
}

// begin says how many bytes may be loaded from the begin of a read on, and whether the
// read continues a stream. done is called when it has ended.
func (s *streams) begin(k protocol.PartitionKey, from protocol.Offset) (window int64, sequential bool, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	element, sequential := s.at[streamEnd{k, from}]
	if sequential {
		return min(element.Value.(*stream).window, s.share()), true, func() {}
	}
	s.loose++
	return s.share(), false, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.loose--
	}
}

// share is what each reader may have loaded ahead. The caller holds mu.
func (s *streams) share() int64 {
	return s.budget / int64(max(s.order.Len()+s.loose, 1))
}

// expire forgets streams that rest. The caller holds mu.
func (s *streams) expire() {
	for back := s.order.Back(); back != nil && time.Since(back.Value.(*stream).moved) > streamIdle; back = s.order.Back() {
		s.remove(back)
	}
}

func (s *streams) remove(element *list.Element) {
	delete(s.at, s.order.Remove(element).(*stream).end)
}

// advance notes that a read went from `from` to next, and had so many bytes. It gives the stream to
// read ahead of, and how far: nil for a read that continues none, or whose read-ahead is being planned.
func (s *streams) advance(k protocol.PartitionKey, from, next protocol.Offset, bytes int) (*stream, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.widest == 0 || from == next {
		return nil, 0
	}
	st := &stream{window: 2 * int64(bytes)}
	element, sequential := s.at[streamEnd{k, from}]
	if sequential {
		st = element.Value.(*stream)
		s.remove(element)
		st.window = max(2*st.window, 2*int64(bytes))
	}
	st.window = min(st.window, s.widest)
	st.end, st.moved = streamEnd{k, next}, time.Now()
	if old, ok := s.at[st.end]; ok {
		s.remove(old)
	}
	s.at[st.end] = s.order.PushFront(st)
	for s.order.Len() > 1 && s.share() < min(leastAhead, s.widest) {
		s.remove(s.order.Back())
	}
	if !sequential || st.busy {
		return nil, 0
	}
	st.busy = true
	return st, min(st.window, s.share())
}

func (s *streams) rest(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.busy = false
}

// readAhead has loaded what a sequential reader will ask for next, across segment borders. It only
// begins the loads: runs.go bounds them.
func (r *Reader) readAhead(k protocol.PartitionKey, from, next protocol.Offset, bytes int) {
	st, window := r.streams.advance(k, from, next, bytes)
	if st == nil {
		return
	}
	r.stats.ahead.Add(1)
	if !r.background(func() {
		defer r.streams.rest(st)
		ctx, cancel := context.WithTimeout(r.life, r.fetch.deadline)
		defer cancel()
		err := r.withCurrent(k, next, func(v view) error { return v.ahead(ctx, next, window) })
		if err != nil {
			r.cfg.Logger.Debug("read-ahead ended", "partition", k, "offset", next, "err", err) // the reader meets it itself
		}
	}) {
		r.streams.rest(st)
	}
}

func (v view) ahead(ctx context.Context, from protocol.Offset, left int64) error {
	for left > 0 && from < v.row.Manifest.TieredEnd {
		e, err := v.find(ctx, from)
		if err != nil {
			return err
		}
		src, err := v.open(ctx, e)
		if err != nil {
			return err
		}
		src.stream = true
		pos := src.index.Floor(from)
		src.expect(pos, left)
		v.runs.ahead(src, int(pos/int64(e.ChunkSize)), src.upTo)
		left -= e.DataBytes - pos
		from = e.End
	}
	return nil
}
