package coordinator

import (
	"time"

	"github.com/stratabroker/strata/broker/group"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// roomInterval is how often a shard that has something to write looks whether the full disk has room again.
const roomInterval = time.Second

// serve decides what comes until the leadership ends (nil) or an append fails. An idle
// shard sleeps until a request, an append's end or the nearest deadline of a group. While
// the disk is full nothing is decided that would be written: groups stay as they are,
// heartbeats and reads are answered, deadlines wait.
func (s *shard) serve() error {
	// First the status, then the topics: of a deletion in between Loaded or a signal tells.
	s.mu.Lock()
	s.status = statusServing
	s.mu.Unlock()
	s.output(s.groups.Loaded(time.Now(), nil))
	s.owed = true
	s.forgetDeleted()
	if s.c.cfg.Ends != nil {
		out := s.groups.SetBack(time.Now(), s.c.cfg.Topics(), func(k protocol.PartitionKey) (protocol.Offset, bool) { return s.c.cfg.Ends(s.ctx, k) })
		for _, n := range out.Notes {
			s.log.Warn(n.What, "group", n.Group)
		}
		s.output(out)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	settled := false
	for s.ctx.Err() == nil {
		if err := s.settle(); err != nil {
			return err
		}
		if !settled && len(s.queue) == 0 {
			settled = true
			s.isSettled(nil)
		}
		s.forgetDeleted()
		// What has arrived counts before what is overdue: after a stall heartbeats wait in
		// the mailbox, and their members are alive.
		for range len(s.mailbox) {
			if s.full() {
				break
			}
			s.decide(<-s.mailbox)
		}
		s.await(timer)
	}
	return nil
}

// full tells that no more may be decided before an append has ended.
func (s *shard) full() bool {
	return max(len(s.queue), s.held) >= s.c.cfg.MailboxRequests
}

// await waits for something to do; deadlines that have come are handled at once.
func (s *shard) await(timer *time.Timer) {
	var due <-chan time.Time
	room := s.c.cfg.Partitions.Room()
	if at, ok := s.groups.Deadline(); (ok || s.owed) && !s.full() {
		left := time.Until(at)
		switch {
		case !room && (s.owed || left <= 0):
			left = roomInterval
		case left <= 0 && ok:
			s.output(s.groups.Expire(time.Now()))
			return
		}
		timer.Reset(left)
		due = timer.C
	}
	mailbox := s.mailbox
	if s.full() {
		mailbox = nil
	}
	select {
	case op := <-mailbox:
		s.decide(op)
	case <-due:
	case <-s.wake:
	case <-s.ctx.Done():
	}
}

func (s *shard) decide(op operation) {
	if op.writes && !s.c.cfg.Partitions.Room() {
		op.refuse(noRoom)
		return
	}
	s.lastToken++
	s.waiting[s.lastToken] = op
	s.output(op.decide(s.groups, time.Now(), s.lastToken))
}

// forgetDeleted removes offsets of deleted topics once there is room for it: after a load of all topics, later of
// those that were named.
func (s *shard) forgetDeleted() {
	s.mu.Lock()
	names := s.deleted
	s.deleted = nil
	s.mu.Unlock()
	s.owed = s.owed || len(names) > 0 && !s.c.cfg.Partitions.Room()
	switch {
	case s.owed && s.c.cfg.Partitions.Room():
		s.owed = false
		s.output(s.groups.TopicsDeleted(time.Now(), s.c.cfg.Topics(), nil))
	case !s.owed && len(names) > 0:
		s.output(s.groups.TopicsDeleted(time.Now(), s.c.cfg.Topics(), names))
	}
}

// output appends what was decided and holds the replies until it, and all that
// was decided before, is committed.
func (s *shard) output(out group.Output) {
	for _, n := range out.Notes {
		s.log.Debug("group "+n.What, "group", n.Group, "member", n.Member, "generation", n.Generation, "state", n.State)
	}
	for _, batch := range s.batches(out.Records) {
		s.append(batch)
	}
	if len(s.queue) == 0 {
		s.send(out.Replies)
		return
	}
	last := &s.queue[len(s.queue)-1]
	last.replies = append(last.replies, out.Replies...)
	s.held += len(out.Replies)
}

// batches packs records into batches of bounded size: one, but for the many tombstones
// of an expiry, of which each stands for itself.
func (s *shard) batches(records []group.Record) []record.Batch {
	const slack = 128 // header of the batch and of the record that is added
	limit := s.c.cfg.Group.MaxBatchBytes
	if limit <= 0 {
		limit = 1 << 20
	}
	now := protocol.Timestamp(time.Now().UnixMilli())
	var out []record.Batch
	var b *record.Builder
	for _, r := range records {
		if b != nil && b.Size()+len(r.Key)+len(r.Value)+slack > limit {
			out = append(out, b.Bytes())
			b = nil
		}
		if b == nil {
			b = record.NewBuilder(0)
			b.LeaderEpoch = s.epoch
		}
		b.Add(record.Record{Timestamp: now, Key: r.Key, Value: r.Value})
	}
	if b != nil {
		out = append(out, b.Bytes())
	}
	return out
}

func (s *shard) append(batch record.Batch) {
	seq := s.first + uint64(len(s.queue))
	s.queue = append(s.queue, appending{})
	s.inFlight++
	s.c.cfg.Partitions.Append(s.partition, s.epoch, batch, func(_ protocol.Offset, err error) {
		s.mu.Lock()
		s.results = append(s.results, appendResult{seq, err})
		s.mu.Unlock()
		s.signal()
	})
}

// settle handles the ends of appends and sends the replies that are due, in the
// order in which they were decided.
func (s *shard) settle() error {
	var failed error
	for _, r := range s.takeResults() {
		s.inFlight--
		if r.err != nil && failed == nil {
			failed = r.err
		}
		if r.err == nil {
			s.queue[r.seq-s.first].committed = true
			s.backoff = 0
		}
	}
	// What is committed up to the first failure is answered also when a later append failed.
	for len(s.queue) > 0 && s.queue[0].committed {
		replies := s.queue[0].replies
		s.queue[0] = appending{}
		s.queue = s.queue[1:]
		s.first++
		s.held -= len(replies)
		s.send(replies)
	}
	return failed
}

func (s *shard) send(replies []group.Reply) {
	for _, r := range replies {
		op := s.waiting[r.Token]
		delete(s.waiting, r.Token)
		op.reply(r.Response)
	}
}
