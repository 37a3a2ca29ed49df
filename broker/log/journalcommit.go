package log

import (
	"errors"
	"fmt"

	"github.com/stratabroker/strata/protocol"
)

// CommitPath chooses between the two ways to commit (DESIGN D6).
type CommitPath string

// The ways: what is small goes through the journal, what is large by the files; or
// everything goes one way as far as it can. An empty CommitPath is CommitAuto.
const (
	CommitAuto    CommitPath = "auto"
	CommitFile    CommitPath = "file"
	CommitJournal CommitPath = "journal"
)

// journalAppend is the pending bytes of a log from which on its file is synced instead: every
// byte that goes through the journal is written twice. Measured on ext4, one append to each partition:
//
//	partitions x bytes    1x100  8x100  1x16K  8x16K  1x128K  6x128K  100x1K  1000x1K
//	by the files, ms       0.39    1.2   0.24    1.1    0.32     1.2     5.7       71
//	by the journal, ms     0.22   0.19   0.18   0.65    0.45     3.2     2.7       11
//
// What is small goes through the journal however few partitions there are: syncing a file that
// has grown waits for the file system's own journal.
const journalAppend = 32 << 10

// journalBacklog takes its place for a log that goes through the journal already: what piled up
// while the disk was slow must not make it slower by a sync of each file.
const journalBacklog = 4 * journalAppend

// part is a log's part in a round of the journal: the bytes [pos, size) of its
// active segment, which bring the durable offset from from to to.
type part struct {
	log       *Log // its part is held
	segment   *segment
	pos, size int64
	from, to  protocol.Offset
}

// roundResult says what became of the logs of a round.
type roundResult struct {
	done    []part // durable now
	idle    []*Log // are durable already
	later   []*Log // did not fit into the round
	files   []*Log // are to be committed by their files
	overdue []*Log // the same, because the journal reaches a bound
	behind  []*Log // their files are to be synced without haste
}

// journalBytes is how many bytes a journal round would make durable; ok is false where the
// journal cannot do all that a commit of the log has to. It needs mu.
func (l *Log) journalBytes() (n int64, ok bool) {
	p := &l.pending
	if l.closed || l.offline != nil || !p.written || p.durable < 0 || p.created || len(p.sealed) > 0 || len(p.snapshots) > 0 || p.names != p.namesSynced {
		return 0, false
	}
	return l.active().filled.Load().size - p.durable, true
}

// takes tells whether the next commit of a log goes through the journal.
func (j *journal) takes(l *Log) bool {
	if !j.dir.cfg.Fsync || j.dir.cfg.Commit == CommitFile || l.forced.Load() {
		return false
	}
	l.mu.Lock()
	n, ok := l.journalBytes()
	l.mu.Unlock()
	if !ok || n > j.most(l) {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.refuse
}

// most is how many bytes of one log the journal takes in a round.
func (j *journal) most(l *Log) int64 {
	limit := int64(j.limits.round)
	if j.dir.cfg.Commit == CommitJournal {
		return limit
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.of(l); e != nil && e.first > 0 {
		return min(journalBacklog-1, limit)
	}
	return min(journalAppend-1, limit)
}

// commit makes the logs durable in one round, as far as they fit. The caller
// tells their events. There is one call at a time.
func (j *journal) commit(logs []*Log) (r roundResult) {
	b := j.rounds.Get().(*roundBuilder)
	defer j.rounds.Put(b)
	b.begin()
	for _, l := range logs {
		j.join(l, b, &r)
	}
	if len(r.done) == 0 {
		return r
	}
	err := j.round(b, &r)
	for _, p := range r.done {
		p.leave(err)
		if err != nil {
			r.files = append(r.files, p.log)
		}
	}
	if err != nil {
		r.done = nil
	}
	return r
}

// join adds a log to the round, with its part held, or says what else is to become of it. One
// that is busy is truncated or deleted: its turn comes after that.
func (j *journal) join(l *Log, b *roundBuilder, r *roundResult) {
	if l.forced.Load() || !l.part.TryLock() {
		r.files = append(r.files, l)
		return
	}
	l.mu.Lock()
	n, ok := l.journalBytes()
	switch {
	case !ok || n > j.most(l):
		r.files = append(r.files, l)
	case n == 0:
		l.wakeFlushers(nil)
		r.idle = append(r.idle, l)
	case len(b.buf)+batchesEntryLen+int(n) > j.limits.round+roundHeaderLen+batchesEntryLen:
		r.later = append(r.later, l)
	default:
		active := l.active()
		end := active.filled.Load()
		p := part{log: l, segment: active, pos: l.pending.durable, size: end.size, from: l.Durable(), to: end.next}
		active.refs.Add(1)
		file := l.pending.pinned
		l.dir.handles.share(file)
		if l.pending.bytes >= j.limits.behind && l.behind.CompareAndSwap(false, true) {
			r.behind = append(r.behind, l)
		}
		l.mu.Unlock()
		if err := p.read(b, file); err == nil {
			r.done = append(r.done, p)
			return
		}
		active.unpin()
		l.part.Unlock()
		r.files = append(r.files, l)
		return
	}
	l.mu.Unlock()
	l.part.Unlock()
}

// read copies the bytes from the file, where the append has put them, and gives the file back.
func (p part) read(b *roundBuilder, file *handle) error {
	room, undo := b.batches(p.log.key, p.from, p.to, int(p.size-p.pos))
	err := readFull(file.file, room, p.pos)
	p.log.dir.handles.release(file)
	if err != nil {
		undo()
	}
	return err
}

// round writes the round. An error has been dealt with: nothing of it is durable.
func (j *journal) round(b *roundBuilder, r *roundResult) error {
	j.write.Lock()
	defer j.write.Unlock()
	j.mu.Lock()
	if j.full(blocks(int64(len(b.buf)))) {
		j.refuse = true
	}
	refuse := j.refuse
	j.mu.Unlock()
	if refuse {
		return errJournalRefuses
	}
	err := j.append(b, func(number int64) {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, p := range r.done {
			j.note(p.log, number)
		}
	})
	j.mu.Lock()
	if err == nil {
		r.overdue, r.behind = j.overdue(), j.aged(r.behind)
		j.mu.Unlock()
		return nil
	}
	j.refuse = true
	j.arm(j.limits.quiet)
	j.mu.Unlock()
	if !errors.As(err, new(*syncError)) {
		j.dir.cfg.Logger.Error("journal cannot be written, the logs are synced one by one", "err", err)
		return err
	}
	err = j.dir.fatal(err) // before who waits learns of it
	for _, p := range r.done {
		p.log.setOffline(err)
	}
	return err
}

var errJournalRefuses = errors.New("journal takes no more")

// leave ends the log's part: what the round holds of it is durable unless it failed.
func (p part) leave(failed error) {
	l := p.log
	l.mu.Lock()
	if failed == nil {
		if p.from > l.Durable() || p.to > l.LEO() || l.active() != p.segment && p.to > l.active().base {
			panic(fmt.Sprintf("log %s: journal round [%d, %d), durable offset %d, log end %d", l.name, p.from, p.to, l.Durable(), l.LEO()))
		}
		// A round of the files may have come further meanwhile.
		l.durable.Store(max(l.durable.Load(), int64(p.to)))
		if l.active() == p.segment {
			l.pending.durable = max(l.pending.durable, p.size)
		}
		l.wakeFlushers(nil)
	}
	l.mu.Unlock()
	l.part.Unlock()
	p.segment.unpin()
}

// tell calls the events. Whom it finds durable already may not have been told: it was truncated.
func (r roundResult) tell() {
	for _, p := range r.done {
		p.log.tellDurable(p.to)
	}
	for _, l := range r.idle {
		l.tellDurable(l.Durable())
	}
}

func (l *Log) tellDurable(to protocol.Offset) {
	if l.events.Durable != nil {
		l.events.Durable(to)
	}
}
