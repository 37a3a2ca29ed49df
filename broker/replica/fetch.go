package replica

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/protocol"
)

// FetchPartition asks for one partition. A partition that cannot be read
// carries its error in Err and no Leader.
type FetchPartition struct {
	Leader           *Leader
	Err              error
	From             protocol.Offset
	MaxBytes         int
	LastFetchedEpoch protocol.Epoch // NoEpoch: no check for divergence
}

// FetchOptions belong to the whole fetch.
type FetchOptions struct {
	MinBytes, MaxBytes int
	MaxWait            time.Duration
	ColdWait           time.Duration // how long to wait for the bucket
	Committed          bool          // read_committed
}

// FetchResult is the answer for one partition. Records is nil where there are
// none; its owner releases it.
type FetchResult struct {
	Err           error
	HighWatermark protocol.Offset
	LastStable    protocol.Offset
	LogStart      protocol.Offset
	Records       Records
	Aborted       []protocol.AbortedTxn
	Diverging     *protocol.EpochEnd
}

// fetch is one Fetch on its way. It is planned anew whenever a partition it
// watches got more; only one planning runs at a time.
type fetch struct {
	cold    Cold
	parts   []FetchPartition
	options FetchOptions
	reply   func([]FetchResult)

	mu       sync.Mutex // held while planning
	done     bool       // guarded by mu
	waiter   Waiter
	woken    atomic.Bool
	deadline *time.Timer
}

// Fetch reads several partitions: at once when at least MinBytes are there,
// anything is wrong or data must come from the bucket, else when they are
// there or MaxWait has passed. Reply is called once, maybe before Fetch
// returns. Fetch itself does not wait.
//
// The bytes never exceed MaxBytes, nor a partition's share its MaxBytes, except
// that the first batch of the first partition that has data is sent whole. Shares
// are dealt out in the order of parts, whichever tier they are in: a client rotates
// that order so that none starves (KIP-74). What the bucket leaves of its shares
// goes to the hot partitions, so that an outage of it does not starve them.
func Fetch(cold Cold, parts []FetchPartition, o FetchOptions, reply func([]FetchResult)) {
	f := &fetch{cold: cold, parts: parts, options: o, reply: reply}
	f.waiter.Wake = func() {
		if !f.woken.Swap(true) {
			go f.try(false)
		}
	}
	f.try(o.MaxWait <= 0)
}

// try plans the fetch and answers it if it is ready or last is set; else it
// watches the partitions.
func (f *fetch) try(last bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.done {
		f.woken.Store(false)
		p := f.plan()
		switch {
		case len(p.tiered) > 0:
			f.finish()
			go func() { f.reply(f.readCold(p)) }()
		case last || p.failed || p.bytes >= f.options.MinBytes:
			f.finish()
			f.reply(p.results)
		case f.watch(p):
			return
		}
		if !f.done {
			p.release() // a partition moved between plan and watch
		}
	}
}

// finish ends the watching. The fetch is answered by whoever called it.
func (f *fetch) finish() {
	f.done = true
	if f.deadline == nil {
		return
	}
	f.deadline.Stop()
	for i := range f.parts {
		if l := f.parts[i].Leader; l != nil {
			l.Unwatch(&f.waiter)
		}
	}
}

// watch registers with all partitions; false means that one has moved since
// the plan. What the plan has read is released in either case it returns true.
func (f *fetch) watch(p *fetchPlan) bool {
	if f.deadline == nil {
		f.deadline = time.AfterFunc(f.options.MaxWait, func() { f.try(true) })
	}
	for i := range f.parts {
		if l := f.parts[i].Leader; l != nil && !l.Watch(&f.waiter, p.results[i].HighWatermark) {
			return false
		}
	}
	p.release()
	return true
}

// fetchPlan is one look at all partitions.
type fetchPlan struct {
	results []FetchResult
	tiered  []coldShare
	bytes   int // of hot records
	held    int // of MaxBytes, for the cold tier
	failed  bool
}

// coldShare is a partition to be read from the cold tier.
type coldShare struct {
	index  int // into the parts of the fetch
	bytes  int
	minOne bool
}

func (p *fetchPlan) release() {
	for i := range p.results {
		if r := p.results[i].Records; r != nil {
			r.Release()
			p.results[i].Records = nil
		}
	}
}

func (f *fetch) plan() *fetchPlan {
	p := &fetchPlan{results: make([]FetchResult, len(f.parts))}
	for i := range f.parts {
		f.planPartition(p, i)
	}
	return p
}

func (f *fetch) planPartition(p *fetchPlan, i int) {
	part, r := &f.parts[i], &p.results[i]
	l := part.Leader
	if l == nil {
		*r = FetchResult{Err: part.Err, HighWatermark: protocol.NoOffset, LastStable: protocol.NoOffset, LogStart: protocol.NoOffset}
		p.failed = true
		return
	}
	if err := l.Closed(); err != nil {
		*r = FetchResult{Err: err, HighWatermark: protocol.NoOffset, LastStable: protocol.NoOffset, LogStart: protocol.NoOffset}
		p.failed = true
		return
	}
	r.HighWatermark, r.LogStart = l.HighWatermark(), l.LogStart()
	r.LastStable = l.log.LastStable(r.HighWatermark)
	if d := l.diverging(part); d != nil {
		r.Diverging, p.failed = d, true
		return
	}
	first := p.bytes == 0 && len(p.tiered) == 0
	room := max(0, min(part.MaxBytes, f.options.MaxBytes-p.bytes-p.held))
	if f.readHot(p, i, f.below(r), room, first) {
		p.tiered = append(p.tiered, coldShare{i, room, first})
		p.held += room
	}
}

// readHot reads a partition's share from the hot tier; true means that only the bucket has it.
func (f *fetch) readHot(p *fetchPlan, i int, below protocol.Offset, room int, minOne bool) (tiered bool) {
	part, r := &f.parts[i], &p.results[i]
	s, err := part.Leader.readHot(part.From, below, room, minOne)
	switch {
	case errors.Is(err, errTiered):
		return true
	case err != nil:
		r.Err, p.failed = err, true
	case s.Len() > 0:
		r.Records = s
		p.bytes += s.Len()
		if f.options.Committed {
			r.Aborted, r.Err = part.Leader.log.Aborted(part.From, s.Next())
		}
	}
	return false
}

// below is the first offset of a partition that this fetch may not see.
func (f *fetch) below(r *FetchResult) protocol.Offset {
	if f.options.Committed {
		return r.LastStable
	}
	return r.HighWatermark
}

// diverging compares the last epoch a reader has with the lineage (KIP-595).
func (l *Leader) diverging(part *FetchPartition) *protocol.EpochEnd {
	if part.LastFetchedEpoch == protocol.NoEpoch || part.From < l.log.Start() {
		return nil
	}
	epoch, end, ok := l.log.EpochEnd(part.LastFetchedEpoch)
	if !ok || (epoch == part.LastFetchedEpoch && end >= part.From) {
		return nil
	}
	return &protocol.EpochEnd{Epoch: epoch, End: end}
}

// readCold reads the tiered partitions of a plan in parallel, each within the share that the plan
// holds for it, so that together with the hot ones they stay within MaxBytes.
func (f *fetch) readCold(p *fetchPlan) []FetchResult {
	ctx, cancel := context.WithTimeout(context.Background(), f.options.ColdWait)
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range p.tiered {
		if c.bytes > 0 || c.minOne {
			wg.Go(func() { f.readColdPartition(ctx, c, &p.results[c.index]) })
		}
	}
	wg.Wait()
	f.topUp(p, trim(p, f.options.MaxBytes))
	return p.results
}

// topUp gives hot partitions that got nothing what the cold ones left of MaxBytes.
func (f *fetch) topUp(p *fetchPlan, total int) {
	cold := map[int]bool{}
	for _, c := range p.tiered {
		cold[c.index] = true
	}
	for i := range f.parts {
		r := &p.results[i]
		if cold[i] || f.parts[i].Leader == nil || f.parts[i].Leader.Closed() != nil || r.Err != nil || r.Records != nil || r.Diverging != nil {
			continue
		}
		room := min(f.parts[i].MaxBytes, f.options.MaxBytes-total)
		if room > 0 && !f.readHot(p, i, f.below(r), room, total == 0) && r.Records != nil {
			total += r.Records.Len()
		}
	}
}

func (f *fetch) readColdPartition(ctx context.Context, c coldShare, r *FetchResult) {
	part := &f.parts[c.index]
	got, err := f.cold.Read(ctx, part.Leader.key, part.From, c.bytes, c.minOne)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		// The client asks again; by then the cache may have it.
	case err != nil:
		r.Err = err
	case len(got.Bytes) == 0:
		got.release()
	default:
		r.Records = &coldRecords{got}
		if f.options.Committed {
			r.Aborted = got.Aborted
		}
	}
}

// trim takes out what exceeds limit because the first batch was larger than
// its share, and returns what is left.
func trim(p *fetchPlan, limit int) (total int) {
	for i := range p.results {
		r := &p.results[i]
		if r.Records == nil {
			continue
		}
		if total > 0 && total+r.Records.Len() > limit {
			r.Records.Release()
			r.Records, r.Aborted = nil, nil
			continue
		}
		total += r.Records.Len()
	}
	return total
}

// coldRecords are batches in memory, which belong to the cold tier's budget.
type coldRecords struct{ batches ColdBatches }

// Len is their size.
func (c *coldRecords) Len() int { return len(c.batches.Bytes) }

// HeapBytes is what they hold of the heap until they are released.
func (c *coldRecords) HeapBytes() int { return cap(c.batches.Bytes) }

// WriteTo writes them.
func (c *coldRecords) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(c.batches.Bytes)
	return int64(n), err
}

// Release gives their memory back.
func (c *coldRecords) Release() { c.batches.release() }

var _ Records = log.Slice{}
