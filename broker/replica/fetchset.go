package replica

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/protocol"
)

// FetchSet is the partitions that one reader asks for: those of a fetch session
// (KIP-227), or of a single Fetch. All methods may run concurrently.
//
// A fetch costs what is due and not what is in the set. An entry is due when it
// was put, when its Leader has marked it (another HW, row or end), when it has
// records that the last answer had no room for, and while it has an error. All
// others have nothing that the reader does not know.
//
// No change is missed: a Leader changes first and marks then; a look takes the
// marks first and reads then; a fetch begins to wait only under the lock of the
// marks, while there are none; and an entry's first registration is followed by
// a second look at what the first one saw.
//
// One fetch of a set is under way at a time, those behind it wait in order; one
// that only waits for more is answered at once when another comes.
//
// Lock order: mu, Manager.mu or Leader.mu, marking.
type FetchSet struct {
	self    protocol.BrokerID
	cold    Cold
	resolve func(FetchKey) (*Leader, error)

	mu       sync.Mutex
	first    []fetchEntry             // guarded by mu: of the first fetch, until there is an index
	index    map[FetchKey]*fetchEntry // guarded by mu: nil as long as there is one fetch
	due      dueList                  // guarded by mu: to be looked at, in the order in which shares are dealt out
	queue    []*fetch                 // guarded by mu: the first is under way
	watching int                      // guarded by mu: entries that are registered with a Leader
	kept     bool                     // guarded by mu: more fetches will come
	closed   bool                     // guarded by mu

	marking   sync.Mutex
	firstMark *fetchEntry // guarded by marking, as is lastMark: what was marked since the last look
	lastMark  *fetchEntry
	waiting   bool // guarded by marking: a fetch waits, and the next mark wakes it
}

// fetchEntry is one partition of a FetchSet.
type fetchEntry struct {
	FetchPartition
	set *FetchSet

	leader    *Leader         // guarded by set.mu, as are the next ones; nil where there is none to read from
	epoch     protocol.Epoch  // of the row at the last look
	hw, start protocol.Offset // at the last look; NoOffset: none since the client was told of an error
	news      bool            // hw or start is not what the client was told
	watched   bool            // the leader has it among its readers
	gone      bool            // not in the set any more
	due       bool            // in set.due
	prev      *fetchEntry
	next      *fetchEntry

	gapAt, gapEnd protocol.Offset // compaction left nothing in [gapAt, gapEnd) of leader; gapEnd is 0 where nothing is known

	at int // guarded by leader.mu: place among its readers

	marked   atomic.Bool
	nextMark *fetchEntry // guarded by set.marking
}

// NewFetchSet makes an empty one. resolve finds the Leader of a partition, or
// says what the client is answered; it is called again whenever that may have changed.
func (m *Manager) NewFetchSet(cold Cold, resolve func(FetchKey) (*Leader, error)) *FetchSet {
	return &FetchSet{self: m.cfg.Self, cold: cold, resolve: resolve}
}

// Fetch reads: at once when at least MinBytes are there, anything is wrong or
// data must come from the bucket, else when they are there or MaxWait has
// passed. Fetch itself does not wait.
//
// Partitions that were sent records go to the end of the order, so that none
// starves (KIP-74).
func (s *FetchSet) Fetch(q FetchRequest) {
	s.Queue(q)
	s.Advance()
}

// Queue fixes the place of a fetch among those of its set; Advance begins it.
func (s *FetchSet) Queue(q FetchRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, &fetch{FetchRequest: q})
}

// Advance answers the fetches that can be.
func (s *FetchSet) Advance() {
	for {
		s.mu.Lock()
		f := s.answered()
		s.mu.Unlock()
		if f == nil {
			return
		}
		f.Reply(f.results)
	}
}

// Keep says that more fetches will come, until Close: its partitions stay
// registered with their Leaders between them.
func (s *FetchSet) Keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = !s.closed
	s.buildIndex()
	for _, e := range s.index {
		s.watch(e)
	}
}

// Close ends all registrations. A fetch under way is still answered, at once if
// it only waits.
func (s *FetchSet) Close() {
	s.mu.Lock()
	s.kept, s.closed = false, true
	if s.watching > 0 {
		for i := range s.first {
			s.unwatch(&s.first[i])
		}
		for _, e := range s.index {
			s.unwatch(e)
		}
	}
	s.mu.Unlock()
	s.Advance()
}

// Len is the number of partitions.
func (s *FetchSet) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.len()
}

// len needs mu.
func (s *FetchSet) len() int { return len(s.first) + len(s.index) }

// answered takes the first fetch off the queue if it can be answered. It needs mu.
func (s *FetchSet) answered() *fetch {
	if len(s.queue) == 0 {
		return nil
	}
	f := s.queue[0]
	switch f.state {
	case fetchReading:
		return nil
	case fetchQueued:
		s.change(f)
		fallthrough
	case fetchWaiting:
		if !s.attempt(f) {
			return nil
		}
	case fetchRead:
	}
	if f.deadline != nil {
		f.deadline.Stop()
	}
	s.queue = slices.Delete(s.queue, 0, 1)
	s.settle(f)
	return f
}

// change makes the changes of the set that a fetch begins with. It needs mu.
func (s *FetchSet) change(f *fetch) {
	if s.first == nil && s.index == nil {
		s.begin(f.Put)
	} else {
		s.buildIndex()
		for i := range f.Put {
			s.put(&f.Put[i])
		}
		for _, key := range f.Forget {
			s.forget(key)
		}
	}
	f.Put, f.Forget = nil, nil
}

// begin fills a set that is new. Most are asked once, so that there is no index
// yet: what is named twice is answered twice. It needs mu.
func (s *FetchSet) begin(put []FetchPartition) {
	s.first = make([]fetchEntry, len(put))
	for i := range s.first {
		e := &s.first[i]
		e.FetchPartition, e.set, e.hw, e.start = put[i], s, protocol.NoOffset, protocol.NoOffset
		s.due.add(e)
	}
}

// buildIndex needs mu.
func (s *FetchSet) buildIndex() {
	if s.index != nil {
		return
	}
	s.index = make(map[FetchKey]*fetchEntry, len(s.first))
	for i := range s.first {
		e := &s.first[i]
		s.forget(e.Key) // named twice: the last counts
		s.index[e.Key] = e
	}
	s.first = nil
}

// put needs mu.
func (s *FetchSet) put(p *FetchPartition) {
	e := s.index[p.Key]
	if e == nil {
		e = &fetchEntry{set: s, hw: protocol.NoOffset, start: protocol.NoOffset}
		s.index[p.Key] = e
	}
	e.FetchPartition = *p
	s.due.add(e)
}

// forget needs mu.
func (s *FetchSet) forget(key FetchKey) {
	if e := s.index[key]; e != nil {
		s.unwatch(e)
		s.due.remove(e)
		e.gone = true
		delete(s.index, key)
	}
}

// attempt looks at what is due and tells whether the fetch can be answered; if
// not, it waits or the bucket is read. It needs mu.
func (s *FetchSet) attempt(f *fetch) bool {
	for {
		s.takeMarks()
		f.plan(s)
		if len(f.tiered) > 0 {
			f.state = fetchReading
			go s.readCold(f)
			return false
		}
		if f.failed || f.bytes >= f.MinBytes || f.MaxWait <= 0 || f.expired || s.len() == 0 || len(s.queue) > 1 || s.closed {
			return true
		}
		f.release()
		for i := range f.results {
			s.rest(&f.results[i])
		}
		if s.wait() {
			f.state = fetchWaiting
			if f.deadline == nil {
				f.deadline = time.AfterFunc(f.MaxWait, func() { s.expire(f) })
			}
			return false
		}
	}
}

func (s *FetchSet) readCold(f *fetch) {
	f.readCold(s.cold)
	s.mu.Lock()
	f.state = fetchRead
	if f.passed() {
		f.state = fetchWaiting
	}
	s.mu.Unlock()
	s.Advance()
}

func (s *FetchSet) expire(f *fetch) {
	s.mu.Lock()
	f.expired = true
	s.mu.Unlock()
	s.Advance()
}

// rest registers a partition that was looked at, and takes it off the due ones
// if there is nothing more to say about it. It needs mu.
func (s *FetchSet) rest(r *FetchResult) {
	s.watch(r.entry)
	if !r.more() && !r.entry.news {
		s.due.remove(r.entry)
	}
}

// settle leaves in the results of a fetch what the client must be told, and makes
// the set what the client will then know. It needs mu.
func (s *FetchSet) settle(f *fetch) {
	told := f.results[:0]
	for i := range f.results {
		r := &f.results[i]
		e := r.entry
		if f.Full || r.isNews() {
			e.news = false
			if r.Leader != nil && !f.Committed {
				r.LastStable = r.Leader.log.LastStable(r.HighWatermark)
			}
			told = append(told, *r)
		}
		if s.kept {
			s.watch(e)
		}
		switch {
		case r.Err != nil:
			e.hw = protocol.NoOffset // the end of the error is told
		case r.Records != nil:
			s.due.remove(e)
			s.due.add(e)
		case !r.more():
			s.due.remove(e)
		}
	}
	clear(f.results[len(told):])
	f.results = told
}

// find is the Leader of an entry that serves, found anew where it changed. It needs mu.
func (s *FetchSet) find(e *fetchEntry) (*Leader, error) {
	if e.leader == nil || e.leader.Closed() != nil || e.leader.row.Load().Leader != s.self {
		s.unwatch(e)
		l, err := s.resolve(e.Key)
		if err == nil {
			err = l.Closed()
		}
		if err != nil {
			return nil, err
		}
		e.leader, e.gapEnd = l, 0
	}
	row := e.leader.row.Load()
	e.epoch = row.LeaderEpoch
	if row.Leader != s.self {
		return nil, protocol.Errorf(kerr.NotLeaderForPartition, "led by broker %d", row.Leader)
	}
	return e.leader, nil
}

// watch registers an entry with its Leader, unless it is. It needs mu.
func (s *FetchSet) watch(e *fetchEntry) {
	if e.watched || e.leader == nil || s.closed {
		return
	}
	if e.watched = e.leader.watch(e); !e.watched {
		e.mark() // it was closed since the look
		return
	}
	s.watching++
	if row := e.leader.row.Load(); e.leader.HighWatermark() != e.hw || row.LogStart != e.start || row.LeaderEpoch != e.epoch {
		e.mark()
	}
}

// unwatch parts an entry from its Leader. It needs mu.
func (s *FetchSet) unwatch(e *fetchEntry) {
	if e.watched {
		e.leader.unwatch(e)
		e.watched = false
		s.watching--
	}
	e.leader = nil
}

// takeMarks makes what was marked due. It needs mu.
func (s *FetchSet) takeMarks() {
	s.marking.Lock()
	defer s.marking.Unlock()
	s.waiting = false
	e := s.firstMark
	s.firstMark, s.lastMark = nil, nil
	for e != nil {
		next := e.nextMark
		e.nextMark = nil
		e.marked.Store(false)
		if !e.gone {
			s.due.add(e)
		}
		e = next
	}
}

// wait makes the next mark call Advance; false means that there is one already.
func (s *FetchSet) wait() bool {
	s.marking.Lock()
	defer s.marking.Unlock()
	s.waiting = s.firstMark == nil
	return s.waiting
}

// mark makes an entry due for the next look and wakes the fetch that waits. It
// may be called with a Leader's mu held, and takes the same time for any set.
func (e *fetchEntry) mark() {
	if e.marked.Load() {
		return // and not taken yet: whoever takes it sees what the caller changed
	}
	s := e.set
	s.marking.Lock()
	defer s.marking.Unlock()
	if e.marked.Swap(true) {
		return
	}
	if s.lastMark == nil {
		s.firstMark = e
	} else {
		s.lastMark.nextMark = e
	}
	s.lastMark = e
	if s.waiting {
		s.waiting = false
		go s.Advance()
	}
}

// from is where the records begin that the entry asks for.
func (e *fetchEntry) from() protocol.Offset {
	if e.From == e.gapAt {
		return max(e.From, e.gapEnd)
	}
	return e.From
}

// seen notes what a look found.
func (e *fetchEntry) seen(hw, start protocol.Offset) {
	if e.hw != hw || e.start != start {
		e.hw, e.start, e.news = hw, start, true
	}
}

// dueList is a list of entries, each in it at most once.
type dueList struct {
	first, last *fetchEntry
	len         int
}

// add puts an entry at the end, unless it is in the list.
func (d *dueList) add(e *fetchEntry) {
	if e.due {
		return
	}
	e.due, e.prev = true, d.last
	if d.last == nil {
		d.first = e
	} else {
		d.last.next = e
	}
	d.last = e
	d.len++
}

func (d *dueList) remove(e *fetchEntry) {
	if !e.due {
		return
	}
	if e.prev == nil {
		d.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		d.last = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.due, e.prev, e.next = false, nil, nil
	d.len--
}
