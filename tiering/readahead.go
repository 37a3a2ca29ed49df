package tiering

import (
	"container/list"
	"context"
	"sync"

	"github.com/stratabroker/strata/protocol"
)

// streams remembers where recent reads ended. One that goes on there is
// sequential, and worth reading ahead of. There are so few of them that all
// they may have loaded ahead fits in half of the cache: else they would evict each other's chunks unread.
type streams struct {
	most int

	mu    sync.Mutex
	order *list.List                  // of *stream, the last used in front; guarded by mu
	at    map[streamEnd]*list.Element // guarded by mu
}

type streamEnd struct {
	key  protocol.PartitionKey
	next protocol.Offset
}

// stream is one sequential reader. Its fields are guarded by streams.mu.
type stream struct {
	end  streamEnd
	busy bool // its read-ahead is under way
}

func newStreams(cacheBytes, aheadBytes int64) *streams {
	s := &streams{order: list.New(), at: map[streamEnd]*list.Element{}}
	if aheadBytes > 0 {
		s.most = int(max(cacheBytes/2/aheadBytes, 1))
	}
	return s
}

// advance notes that a read went from `from` to next. It gives the stream to
// read ahead of: nil for a read that continues none, or whose read-ahead is under way.
func (s *streams) advance(k protocol.PartitionKey, from, next protocol.Offset) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := streamEnd{k, next}
	element, sequential := s.at[streamEnd{k, from}]
	if !sequential {
		s.insert(&stream{end: end})
		return nil
	}
	st := element.Value.(*stream)
	delete(s.at, st.end)
	s.order.Remove(element)
	st.end = end
	s.insert(st)
	if st.busy {
		return nil
	}
	st.busy = true
	return st
}

// insert puts a stream in front and lets the one that was idle longest go. The caller holds mu.
func (s *streams) insert(st *stream) {
	if old, ok := s.at[st.end]; ok {
		s.order.Remove(old)
	}
	s.at[st.end] = s.order.PushFront(st)
	for s.order.Len() > s.most {
		last := s.order.Remove(s.order.Back()).(*stream)
		delete(s.at, last.end)
	}
}

func (s *streams) rest(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.busy = false
}

// readAhead loads what a sequential reader will ask for next, across segment borders.
func (r *Reader) readAhead(k protocol.PartitionKey, from, next protocol.Offset) {
	if r.streams.most == 0 || from == next {
		return
	}
	st := r.streams.advance(k, from, next)
	if st == nil {
		return
	}
	r.stats.ahead.Add(1)
	r.background(func() {
		defer r.streams.rest(st)
		ctx, cancel := context.WithTimeout(r.life, r.fetch.deadline)
		defer cancel()
		err := r.withCurrent(k, next, func(v view) error { return v.ahead(ctx, next) })
		if err != nil {
			r.cfg.Logger.Debug("read-ahead ended", "partition", k, "offset", next, "err", err) // the reader meets it itself
		}
	})
}

func (v view) ahead(ctx context.Context, from protocol.Offset) error {
	left := v.cfg.ReadAheadBytes
	for left > 0 && from < v.row.Manifest.TieredEnd {
		e, err := v.find(ctx, from)
		if err != nil {
			return err
		}
		src, err := v.open(ctx, e)
		if err != nil {
			return err
		}
		pos := src.index.Floor(from)
		for i := int(pos / int64(e.ChunkSize)); i < src.index.Chunks() && left > 0; i++ {
			src.expect(left)
			c, err := src.chunk(ctx, i)
			if err != nil {
				return err
			}
			left -= int64(len(c))
		}
		from = e.End
	}
	return nil
}
