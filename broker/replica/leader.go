// Package replica is one partition on this broker. A Leader fences by epoch,
// checks and appends what clients send, advances the high watermark by the
// durable offsets of the in-sync replicas, and completes what waits for it.
// Manager holds all of them, follows the metadata image and runs their upkeep.
// The package does no network I/O and knows neither the bucket nor Raft; the
// composition root joins them. Broker/api and the coordinators call it.
package replica

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/isr"
	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// Leader is a partition that this broker leads in one leader epoch. All
// methods may run concurrently.
//
// Invariants: log start <= HW <= durable offset <= LEO; the HW never goes back.
// Lock order: appending, mu, then the log's own lock or a FetchSet's marking;
// none is held across a sync, a propose or a wait.
type Leader struct {
	key   protocol.PartitionKey
	topic string
	log   *log.Log
	stats *TopicStats

	row    atomic.Pointer[metadata.Partition] // as the applied image has it
	config atomic.Pointer[metadata.TopicConfig]
	hw     atomic.Int64

	appending sync.Mutex // held by the one append under way, so that nothing is written after close

	mu      sync.Mutex
	acks    ackQueue      // guarded by mu: appends whose reply waits for the HW
	readers []*fetchEntry // guarded by mu: places in fetch sets that are to be told of changes; nil when none
	closed  error         // guarded by mu: why no more appends are taken
}

// Key is the partition's identity.
func (l *Leader) Key() protocol.PartitionKey { return l.key }

// Topic is the topic's name.
func (l *Leader) Topic() string { return l.topic }

// Epoch is the leader epoch in force.
func (l *Leader) Epoch() protocol.Epoch { return l.row.Load().LeaderEpoch }

// Row is the partition's row of the applied image.
func (l *Leader) Row() metadata.Partition { return *l.row.Load() }

// Config is the topic's settings in force.
func (l *Leader) Config() metadata.TopicConfig { return *l.config.Load() }

// HighWatermark is the first offset not shown to consumers.
func (l *Leader) HighWatermark() protocol.Offset { return protocol.Offset(l.hw.Load()) }

// LastStable is the first offset not shown to read_committed consumers.
func (l *Leader) LastStable() protocol.Offset { return l.log.LastStable(l.HighWatermark()) }

// LogStart is the first offset of the partition, in whichever tier.
func (l *Leader) LogStart() protocol.Offset { return l.row.Load().LogStart }

// Log is the partition's hot tier.
func (l *Leader) Log() *log.Log { return l.log }

// CheckEpoch compares the epoch a client believes in with the one in force
// (KIP-320); NoEpoch skips the check.
func (l *Leader) CheckEpoch(client protocol.Epoch) error {
	switch current := l.Epoch(); {
	case client == protocol.NoEpoch || client == current:
		return nil
	case client < current:
		return protocol.Errorf(kerr.FencedLeaderEpoch, "leader epoch %d is older than %d", client, current)
	default:
		return protocol.Errorf(kerr.UnknownLeaderEpoch, "leader epoch %d is newer than %d", client, current)
	}
}

// Appended is what a successful append tells the client.
type Appended struct {
	First      protocol.Offset
	AppendTime protocol.Timestamp // NoTimestamp under CreateTime
	LogStart   protocol.Offset
}

// ack is an append whose reply waits until everything below next is committed.
type ack struct {
	next protocol.Offset
	at   Appended
	done func(Appended, error)
}

// ackQueue is ordered by next. Appends come nearly in order, so an insertion
// looks at the end first.
type ackQueue struct{ items []ack }

func (q *ackQueue) push(a ack) {
	i := len(q.items)
	for i > 0 && q.items[i-1].next > a.next {
		i--
	}
	q.items = slices.Insert(q.items, i, a)
}

// pop takes what waits for offsets up to hw.
func (q *ackQueue) pop(hw protocol.Offset) []ack {
	n := 0
	for n < len(q.items) && q.items[n].next <= hw {
		n++
	}
	if n == 0 {
		return nil
	}
	ready := slices.Clone(q.items[:n])
	q.items = slices.Delete(q.items, 0, n)
	if len(q.items) == 0 {
		q.items = nil // an idle partition keeps no buffer
	}
	return ready
}

// onDurable is called by the log's committer with the new durable offset.
func (l *Leader) onDurable(durable protocol.Offset) {
	row, config := l.row.Load(), l.config.Load()
	l.mu.Lock()
	current := l.HighWatermark()
	// The log of a sole in-sync replica is the whole ISR; with followers their
	// reported durable offsets join this slice.
	next := isr.HighWatermark(current, []protocol.Offset{durable}, isr.EffectiveMin(int(config.MinISR), len(row.Replicas)))
	if next == current {
		l.mu.Unlock()
		return
	}
	l.hw.Store(int64(next))
	ready := l.acks.pop(next)
	l.markReaders()
	l.mu.Unlock()
	for _, a := range ready {
		a.done(a.at, nil)
	}
}

// await calls done once everything below next is committed, maybe at once.
func (l *Leader) await(a ack) {
	l.mu.Lock()
	switch {
	case l.closed != nil:
		err := l.closed
		l.mu.Unlock()
		a.done(Appended{}, err)
	case l.HighWatermark() >= a.next:
		l.mu.Unlock()
		a.done(a.at, nil)
	default:
		l.acks.push(a)
		l.mu.Unlock()
	}
}

// close fails everything that waits with err; appends fail with it from now
// on, and none is under way when it returns.
func (l *Leader) close(err error) {
	l.appending.Lock()
	l.mu.Lock()
	l.closed = err
	acks := l.acks.items
	l.acks.items = nil
	l.markReaders()
	l.readers = nil
	l.mu.Unlock()
	l.appending.Unlock()
	for _, a := range acks {
		a.done(Appended{}, err)
	}
}

// watch makes e be marked at every change that a reader may have to know: of
// the HW, of the row, and the end. It returns false, and registers nothing, if
// the partition is closed. What changed before is for the caller to look at.
func (l *Leader) watch(e *fetchEntry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		return false
	}
	e.at = len(l.readers)
	l.readers = append(l.readers, e)
	return true
}

// unwatch ends what watch began.
func (l *Leader) unwatch(e *fetchEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		return // all were let go
	}
	last := len(l.readers) - 1
	l.readers[e.at] = l.readers[last]
	l.readers[e.at].at = e.at
	l.readers[last] = nil
	l.readers = l.readers[:last]
	if last == 0 {
		l.readers = nil // an idle partition keeps no buffer
	}
}

// rowChanged tells who reads that the partition's row was replaced.
func (l *Leader) rowChanged() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.markReaders()
}

// markReaders needs mu.
func (l *Leader) markReaders() {
	for _, e := range l.readers {
		e.mark()
	}
}
