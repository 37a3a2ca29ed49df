package replica

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/protocol"
)

// FetchKey names a partition as the client does: by the topic's id, or by its
// name (Fetch up to version 12) and a zero id.
type FetchKey struct {
	Name      string
	Topic     protocol.TopicID
	Partition int32
}

// FetchPartition asks for one partition.
type FetchPartition struct {
	Key              FetchKey
	From             protocol.Offset
	MaxBytes         int
	CurrentEpoch     protocol.Epoch // NoEpoch: not checked (KIP-320)
	LastFetchedEpoch protocol.Epoch // NoEpoch: no check for divergence
}

// FetchOptions belong to the whole fetch.
type FetchOptions struct {
	MinBytes, MaxBytes int
	MaxWait            time.Duration
	ColdWait           time.Duration // how long to wait for the bucket
	Committed          bool          // read_committed
}

// FetchRequest is one Fetch of a FetchSet: first Put are added or changed, then
// Forget taken out, then what is left is read.
type FetchRequest struct {
	FetchOptions
	Put    []FetchPartition
	Forget []FetchKey
	// Full tells of all partitions of a set that is new, not only of those with news.
	Full bool
	// Reply is called once, maybe before Fetch returns, without locks held.
	Reply func([]FetchResult)
}

// FetchResult is the answer for one partition. Records is nil where there are
// none; its owner releases it.
type FetchResult struct {
	Key           FetchKey
	Leader        *Leader // nil where there is none to read from
	Err           error
	HighWatermark protocol.Offset
	LastStable    protocol.Offset
	LogStart      protocol.Offset
	Records       Records
	Aborted       []protocol.AbortedTxn
	Diverging     *protocol.EpochEnd

	entry *fetchEntry
	below protocol.Offset // the first offset that this fetch may not see
	empty protocol.Offset // the bucket has nothing from where the entry reads up to here; 0: not known
}

// more tells that there is something for the reader that a later look may send.
func (r *FetchResult) more() bool {
	return r.Err != nil || r.Diverging != nil || r.entry.from() < r.below
}

// isNews tells whether the client must be told, as Kafka's incremental fetches
// have it: records, an error, a divergence, another HW or log start.
func (r *FetchResult) isNews() bool {
	return r.Records != nil || r.Err != nil || r.Diverging != nil || r.entry.news
}

type fetchState uint8

const (
	fetchQueued  fetchState = iota // behind another one of its set
	fetchWaiting                   // for more than it found, or for its deadline
	fetchReading                   // from the bucket
	fetchRead                      // from the bucket; to be answered
)

// fetch is one FetchRequest on its way. The set's mu guards it, but while it is
// reading it belongs to the goroutine that reads.
type fetch struct {
	FetchRequest
	state    fetchState
	expired  bool
	deadline *time.Timer

	// The last look at the due partitions.
	results []FetchResult
	tiered  []coldShare
	bytes   int // of hot records
	held    int // of MaxBytes, for the cold tier
	failed  bool
}

// coldShare is a partition to be read from the cold tier.
type coldShare struct {
	index  int // into results
	bytes  int
	minOne bool
}

// release lets go what the last look has read.
func (f *fetch) release() {
	for i := range f.results {
		if r := f.results[i].Records; r != nil {
			r.Release()
			f.results[i].Records = nil
		}
	}
}

// plan looks at the due partitions of a set, in their order. The bytes never
// exceed MaxBytes, nor a partition's share its MaxBytes, except that the first
// batch of the first partition that has data is sent whole. Shares are dealt out
// in order, whichever tier they are in. What the bucket leaves of its shares goes
// to the hot partitions, so that an outage of it does not starve them.
func (f *fetch) plan(s *FetchSet) {
	if f.results == nil {
		room := s.due.len
		if !f.Full {
			room = min(room, resultsAtFirst)
		}
		f.results = make([]FetchResult, 0, room)
	}
	f.results, f.tiered = f.results[:0], f.tiered[:0]
	f.bytes, f.held, f.failed = 0, 0, false
	for e := s.due.first; e != nil; e = e.next {
		if !f.Full && f.bytes > 0 && f.bytes >= f.MaxBytes {
			return // the others keep their place for the next fetch
		}
		f.look(s, e)
	}
}

// resultsAtFirst is room for as many partitions as fill an answer, as a rule.
const resultsAtFirst = 128

func (f *fetch) look(s *FetchSet, e *fetchEntry) {
	f.results = append(f.results, FetchResult{
		Key: e.Key, HighWatermark: protocol.NoOffset, LastStable: protocol.NoOffset, LogStart: protocol.NoOffset, entry: e, below: protocol.NoOffset,
	})
	r := &f.results[len(f.results)-1]
	if r.Leader, r.Err = s.find(e); r.Err == nil {
		r.Err = r.Leader.CheckEpoch(e.CurrentEpoch)
	}
	if r.Err != nil {
		f.failed = true
		return
	}
	l := r.Leader
	r.HighWatermark, r.LogStart = l.HighWatermark(), l.LogStart()
	e.seen(r.HighWatermark, r.LogStart)
	if r.Diverging, r.Err = l.diverging(e); r.Diverging != nil || r.Err != nil {
		f.failed = true
		return
	}
	r.below = r.HighWatermark
	if f.Committed {
		r.LastStable = l.log.LastStable(r.HighWatermark)
		r.below = r.LastStable
	}
	first := f.bytes == 0 && len(f.tiered) == 0
	room := max(0, min(e.MaxBytes, f.MaxBytes-f.bytes-f.held))
	if f.readHot(r, room, first) {
		f.tiered = append(f.tiered, coldShare{len(f.results) - 1, room, first})
		f.held += room
	}
}

// readHot reads a partition's share from the hot tier; true means that only the bucket has it.
func (f *fetch) readHot(r *FetchResult, room int, minOne bool) (tiered bool) {
	s, err := r.Leader.readHot(r.entry.from(), r.below, room, minOne)
	switch {
	case errors.Is(err, errTiered):
		return true
	case err != nil:
		r.Err, f.failed = err, true
	case s.Len() > 0:
		r.Records = s
		f.bytes += s.Len()
		if f.Committed {
			r.Aborted, r.Err = r.Leader.log.Aborted(r.entry.from(), s.Next())
		}
	}
	return false
}

// diverging compares the last epoch a reader has with the lineage (KIP-595). Of an
// epoch that this log never had nothing can be told but that the offset is none of its.
func (l *Leader) diverging(e *fetchEntry) (*protocol.EpochEnd, error) {
	if e.LastFetchedEpoch == protocol.NoEpoch || e.From < l.log.Start() {
		return nil, nil
	}
	epoch, end, ok := l.log.EpochEnd(e.LastFetchedEpoch)
	switch {
	case !ok:
		return nil, protocol.Errorf(kerr.OffsetOutOfRange, "leader epoch %d is not known", e.LastFetchedEpoch)
	case epoch == e.LastFetchedEpoch && end >= e.From:
		return nil, nil
	}
	return &protocol.EpochEnd{Epoch: epoch, End: end}, nil
}
