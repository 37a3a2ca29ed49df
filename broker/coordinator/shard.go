package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/stratabroker/strata/broker/group"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 10 * time.Second
	// decodeBudget bounds one batch of the partition when it is read: ours are below
	// max.message.bytes, but it may have been raised, or compression.type set.
	decodeBudget = 64 << 20
)

// shard runs the groups of one partition for the time of one leader epoch.
type shard struct {
	c         *Coordinator
	partition int32
	epoch     protocol.Epoch
	log       *slog.Logger
	ctx       context.Context // ends with the leadership
	stop      context.CancelFunc
	ended     chan struct{}       // closed when run has returned
	settled   chan struct{}       // closed once all that the load led to is committed, or the load can never succeed
	wake      chan struct{}       // one signal: look at what mu guards
	mailbox   chan operation      // sent to under mu, while serving
	mu        sync.Mutex          // a leaf: nothing is called while it is held
	status    status              // guarded by mu
	unusable  error               // guarded by mu; why the load can never succeed
	deleted   map[string]struct{} // guarded by mu; topics deleted, not handled yet, nil for none
	results   []appendResult      // guarded by mu; of appends, not handled yet

	// What follows belongs to the goroutine of run.
	groups    *group.Shard
	lastToken group.Token
	waiting   map[group.Token]operation // requests decided or parked, without a reply
	queue     []appending               // appends under way, in order
	first     uint64                    // sequence number of queue[0]
	held      int                       // replies in queue
	inFlight  int                       // appends whose result has not come, also those given up
	backoff   time.Duration             // before the next load
	owed      bool                      // offsets of deleted topics are to be looked for
}

// status is what a shard tells to requests.
type status uint8

const (
	statusLoading status = iota
	statusServing
	statusGone // not led here any more, or not loadable
)

// appendResult is the end of one append.
type appendResult struct {
	seq uint64
	err error
}

// appending is one append and the replies that rest on it.
type appending struct {
	committed bool
	replies   []group.Reply
}

func newShard(c *Coordinator, partition int32, epoch protocol.Epoch) *shard {
	ctx, cancel := context.WithCancel(c.ctx)
	return &shard{
		c: c, partition: partition, epoch: epoch, ctx: ctx, stop: cancel,
		log:   c.cfg.Logger.With("topic", "__consumer_offsets", "partition", partition, "leader_epoch", epoch),
		ended: make(chan struct{}), settled: make(chan struct{}), wake: make(chan struct{}, 1), mailbox: make(chan operation, c.cfg.MailboxRequests),
		waiting: map[group.Token]operation{},
	}
}

// submit hands a request to the shard, or refuses it.
func (s *shard) submit(op operation) {
	why, taken := loading, false
	s.mu.Lock()
	switch s.status {
	case statusServing:
		select {
		case s.mailbox <- op:
			taken = true
		default:
			why = crowded
		}
	case statusGone:
		why = moved
	case statusLoading:
	}
	s.mu.Unlock()
	if !taken {
		op.refuse(why)
	}
}

// gone tells that the shard will not serve again.
func (s *shard) gone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status == statusGone
}

func (s *shard) topicsDeleted(names []string) {
	s.mu.Lock()
	if s.status == statusServing { // a load looks at all topics itself
		if s.deleted == nil {
			s.deleted = map[string]struct{}{}
		}
		for _, name := range names {
			s.deleted[name] = struct{}{}
		}
	}
	s.mu.Unlock()
	s.signal()
}

func (s *shard) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run loads and serves until the leadership ends.
func (s *shard) run() {
	defer close(s.ended)
	defer s.stop()
	for s.ctx.Err() == nil {
		if err := s.load(); err != nil {
			if unreadable(err) {
				s.log.Error("groups cannot be loaded; their clients are refused until the partition is mended or moved", "error", err)
				s.refuseAll(statusGone)
				s.isSettled(err)
				<-s.ctx.Done()
				break
			}
			if s.ctx.Err() == nil {
				s.log.Warn("loading groups failed, will try again", "error", err)
			}
			s.pause()
			continue
		}
		err := s.serve()
		if s.ctx.Err() != nil {
			break
		}
		// Decided changes may be missing in the log: the log is the truth.
		s.log.Warn("append of group records failed, loading again", "error", err)
		s.refuseAll(statusLoading)
		s.awaitAppends()
		s.pause()
	}
	s.refuseAll(statusGone)
}

// isSettled tells who waits in Settled.
func (s *shard) isSettled(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.settled:
	default:
		s.unusable = err
		close(s.settled)
	}
}

// pause waits before a retry, longer each time; an append that succeeds resets it.
func (s *shard) pause() {
	s.backoff = min(max(2*s.backoff, firstBackoff), lastBackoff)
	t := time.NewTimer(s.backoff)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}

// awaitAppends waits until no append is under way: one that is committed after the log
// was read would be missing from the state.
func (s *shard) awaitAppends() {
	for s.inFlight > 0 {
		select {
		case <-s.wake:
			s.inFlight -= len(s.takeResults())
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *shard) takeResults() []appendResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.results
	s.results = nil
	return out
}

// refuseAll turns to a status and refuses everything without a reply: what waits in the
// mailbox, what was decided and not committed, and parked JoinGroups and SyncGroups.
func (s *shard) refuseAll(to status) {
	s.mu.Lock()
	s.status = to
	s.mu.Unlock()
	for _, token := range slices.Sorted(maps.Keys(s.waiting)) {
		s.waiting[token].refuse(moved)
	}
	clear(s.waiting)
	if s.groups != nil {
		s.groups.Release()
	}
	s.queue, s.held, s.groups = nil, 0, nil
	why := loading
	if to == statusGone {
		why = moved
	}
	for {
		select {
		case op := <-s.mailbox:
			op.refuse(why)
		default:
			return
		}
	}
}

// unreadable tells that reading the partition again will not help.
func unreadable(err error) bool {
	return slices.ContainsFunc([]error{
		record.ErrShort, record.ErrCorrupt, record.ErrOldFormat, record.ErrInvalid, record.ErrBudget,
	}, func(target error) bool { return errors.Is(err, target) })
}

// skipped counts records that the load of a partition passes by.
type skipped struct {
	count int
	first error // where the first is, and why
}

func (k *skipped) add(at protocol.Offset, err error) {
	if k.count++; k.first == nil {
		k.first = fmt.Errorf("record at offset %d: %w", at, err)
	}
}

var errTransactional = errors.New("it belongs to a transaction, and offsets are not committed in transactions here")

// load reads the partition from its start to the high watermark. A record that cannot be understood is passed by and
// told of: what it is about stays as the records before it say, and all other groups are served.
func (s *shard) load() (err error) {
	select {
	case s.c.loads <- struct{}{}:
		defer func() { <-s.c.loads }()
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	began, groups := time.Now(), group.NewShard(s.c.cfg.Group)
	defer func() {
		if err != nil {
			groups.Release()
		}
	}()
	from, read := s.c.cfg.Partitions.Start(s.partition), 0
	var unknown, damaged skipped
	for {
		batches, next, err := s.c.cfg.Partitions.Read(s.ctx, s.partition, from)
		if err != nil {
			return fmt.Errorf("read from offset %d: %w", from, err)
		}
		if next <= from {
			break
		}
		n, err := replay(groups, batches, from, &unknown, &damaged)
		if err != nil {
			return err
		}
		from, read = next, read+n
	}
	s.groups = groups
	if unknown.count > 0 {
		s.log.Warn("records of unknown kinds or versions were ignored; newer software may have written them", "records", unknown.count, "first", unknown.first)
	}
	if damaged.count > 0 {
		s.log.Error("records that cannot be read were ignored; their groups are as the records before say", "records", damaged.count, "first", damaged.first)
	}
	if read > 0 {
		s.log.Info("groups loaded", "records", read, "end", from, "took", time.Since(began))
	}
	return nil
}

// replay applies the records of whole batches from an offset on and counts them. Only a batch that is damaged as a
// whole is an error.
func replay(groups *group.Shard, batches []byte, from protocol.Offset, unknown, damaged *skipped) (int, error) {
	count := 0
	for len(batches) > 0 {
		b, rest, err := record.Split(batches)
		if err == nil {
			err = b.Check()
		}
		if err != nil {
			return count, fmt.Errorf("batch at or after offset %d: %w", from, err)
		}
		batches = rest
		switch {
		case b.Control():
			continue
		case b.Transactional():
			damaged.add(b.BaseOffset(), errTransactional)
			continue
		}
		for r, err := range b.Records(decodeBudget) {
			if err != nil {
				damaged.add(b.BaseOffset(), err) // its CRC is right: it was written so
				break
			}
			if r.Offset < from {
				continue
			}
			if err := groups.Replay(group.Record{Key: r.Key, Value: r.Value}); err != nil {
				if errors.Is(err, group.ErrUnknownRecord) {
					unknown.add(r.Offset, err)
				} else {
					damaged.add(r.Offset, err)
				}
				continue
			}
			count++
		}
	}
	return count, nil
}
