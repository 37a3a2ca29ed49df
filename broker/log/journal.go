package log

import (
	"container/list"
	"fmt"
	"sync"
	"time"

	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

// journalDir is the folder of the journal in the log directory.
const journalDir = "strata-journal"

// journalLimits bound the journal.
type journalLimits struct {
	bytes   int64         // all segments together; above it logs are committed by their files
	segment int64         // one segment
	round   int           // the entries of one round, which is held in memory
	chunk   int64         // what is filled with zeros ahead of the rounds
	behind  int64         // of one log; from then on its file is synced behind the rounds
	quiet   time.Duration // after it without a round the journal is emptied
}

// Of 256 MiB a start reads at most about half a second, and at half of them the oldest logs are
// synced. A round that overwrites zeros needs no new metadata of the file system: measured on
// ext4, 4 KiB take 0.12 ms where a growing file takes 0.27 ms. A file sync of 4 MiB behind the rounds
// holds the disk for 4 ms: with 256 KiB the slowest rounds (p99.9) take 4.7 ms instead of 6.7.
var defaultJournal = journalLimits{bytes: 256 << 20, segment: 16 << 20, round: 8 << 20, chunk: 1 << 20, behind: 256 << 10, quiet: 5 * time.Second}

// journal is the second way to commit (DESIGN D6): what many logs have to make
// durable goes into one file with one sync. Rounds are numbered without a gap, and none is
// written before the one before it is synced. What it holds of a log goes to the log's own file
// sooner or later; then the segment that held it is removed. While nothing is in it, it has no
// file, timer or goroutine.
type journal struct {
	dir    *Dir
	path   string
	limits journalLimits
	rounds sync.Pool // of *roundBuilder

	trims sync.Mutex // held while segments are prepared or removed; taken before write
	// write is held while a round is written. Taken after Log.part and Log.round.
	write  sync.Mutex
	making sync.Mutex      // held while a segment is made; taken after write
	number int64           // of the newest round
	active *journalSegment // nil: the next round makes one
	file   vfs.File        // of active
	zeroed int64           // up to here the file holds zeros or rounds, perhaps of an earlier segment
	name   int64           // greatest of a segment; guarded by making
	torn   bool            // a round behind active.end may be whole although its writing failed

	// mu is a leaf.
	mu       sync.Mutex
	segments []*journalSegment // oldest first
	next     *journalSegment   // prepared, without rounds; bytes counts it
	tried    bool              // to prepare one since the last roll
	logs     map[protocol.PartitionKey]*journaled
	live     list.List // of *journaled with first > 0, in that order
	bytes    int64     // of all segments
	noted    int64     // calls of note
	refuse   bool      // full, or a round could not be written: commits go by the files
	trimming bool
	stopped  bool
	timer    *time.Timer
	armed    bool
	last     time.Time // of the newest round

	wg sync.WaitGroup
}

// journalSegment is one file of the journal.
type journalSegment struct {
	path string
	id   journalID
	name int64 // greater than those before
	last int64 // its last round; while it has none, that of the segment before
	end  int64 // of the last round
	size int64 // of the file
}

// journaled is what the journal's segments hold of one partition since its last reset.
type journaled struct {
	key   protocol.PartitionKey
	log   *Log          // nil until it is opened
	first int64         // oldest round with bytes that are not synced in the log's file; 0 without any
	last  int64         // newest round
	noted int64         // journal.noted when that was noted: a round that failed leaves its number to the next
	at    *list.Element // in journal.live
	// What the start found: the places of the entries (segment and position) that the checkpoint
	// does not cover, until the log has been opened, and the greatest of their ends.
	places []journalPlace
	end    protocol.Offset
}

func newJournal(d *Dir) *journal {
	j := &journal{dir: d, path: d.path(journalDir), limits: defaultJournal, logs: map[protocol.PartitionKey]*journaled{}}
	j.rounds.New = func() any { return &roundBuilder{} }
	return j
}

// append writes the round that b holds and syncs it; before is called with its
// number, also when the writing fails then. It needs write.
func (j *journal) append(b *roundBuilder, before func(number int64)) error {
	n := blocks(int64(len(b.buf)))
	if j.active == nil || j.active.end+n > max(j.limits.segment, journalBlock+n) {
		if err := j.roll(); err != nil {
			return err
		}
	}
	s := j.active
	number := j.number + 1
	before(number)
	round := b.seal(s.id, number)
	j.torn = true
	if _, err := j.file.WriteAt(round, s.end); err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	if err := j.fill(s.end + n); err != nil {
		return err
	}
	if err := syncFile(j.file); err != nil {
		return fmt.Errorf("journal %s: %w", s.path, err)
	}
	j.number, j.torn = number, false
	j.mu.Lock()
	s.last, s.end = number, s.end+n
	j.resize(s, max(s.end, j.zeroed))
	j.last = time.Now()
	j.arm(j.limits.quiet)
	j.prepareAhead(s)
	j.mu.Unlock()
	return nil
}

// fill writes zeros for the rounds to come once the written ones have reached
// end; the next sync is theirs as well. It needs write.
func (j *journal) fill(end int64) error {
	if end <= j.zeroed {
		return nil
	}
	to := min(end+j.limits.chunk, max(j.limits.segment, end))
	for at := end; at < to; at += fillPiece {
		if _, err := j.file.WriteAt(zeros[:min(fillPiece, to-at)], at); err != nil {
			return fmt.Errorf("fill %s: %w", j.active.path, err)
		}
	}
	j.zeroed = to
	return nil
}

// resize needs mu.
func (j *journal) resize(s *journalSegment, size int64) {
	j.bytes += size - s.size
	s.size = size
}

// note says that a round holds entries of a log, whose file has not been synced
// with them. It needs mu.
func (j *journal) note(l *Log, number int64) {
	e := j.of(l)
	if e == nil {
		e = &journaled{key: l.key}
		j.logs[l.key] = e
	}
	l.journaled = e
	j.noted++
	e.log, e.last, e.noted = l, number, j.noted
	if e.first == 0 {
		e.first = number
		e.at = j.live.PushBack(e)
	}
}

// of is what the journal holds of a log, nil for nothing. It needs mu.
func (j *journal) of(l *Log) *journaled {
	if l.journaled != nil {
		return l.journaled
	}
	return j.logs[l.key]
}

// drop forgets a partition of which no segment holds anything that counts. It needs mu.
func (j *journal) drop(e *journaled) {
	delete(j.logs, e.key)
	if e.log != nil {
		e.log.journaled = nil
	}
}

// settle notes that what the journal holds of a log lies in the log's own file,
// or that nobody needs it. It needs mu.
func (j *journal) settle(e *journaled) {
	if e.first > 0 {
		j.live.Remove(e.at)
		e.first, e.at = 0, nil
	}
	e.places = nil
}

// journalMark is what the journal held of a log at some time.
type journalMark struct {
	noted int64
	last  int64 // newest round
}

// mark says what the journal holds of the log now: nothing that the log's file does not.
func (j *journal) mark(l *Log) journalMark {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.of(l); e != nil {
		return journalMark{e.noted, e.last}
	}
	return journalMark{}
}

// fileSynced says that the log's file is synced with what the journal held of it
// at the mark. Rounds that were written since keep it live.
func (j *journal) fileSynced(l *Log, to journalMark) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.of(l)
	switch {
	case e == nil:
	case e.noted == to.noted:
		j.settle(e)
	case e.first > 0 && e.first < to.last:
		e.first = to.last
		j.place(e)
	}
}

// place moves a log to where it belongs in live. It needs mu.
func (j *journal) place(e *journaled) {
	after := j.live.Back()
	for after.Value.(*journaled).first > e.first {
		after = after.Prev() // e itself at the latest
	}
	if after != e.at {
		j.live.MoveAfter(e.at, after)
	}
}

// forget says that the directory of a partition is gone. Should the partition
// come back, OpenLog ends its earlier life by a reset.
func (j *journal) forget(key protocol.PartitionKey) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.logs[key]; e != nil {
		j.settle(e)
		if e.log != nil {
			e.log.journaled = nil
		}
		e.log, e.end = nil, 0
	}
}

// holds tells whether there are entries of a partition.
func (j *journal) holds(key protocol.PartitionKey) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.logs[key] != nil
}

// pinnedBy tells whether the log's file lacks what the journal holds of it. Such a log is synced even when
// it is offline: what was appended before is whole, and the journal could not be emptied else.
func (j *journal) pinnedBy(l *Log) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.of(l)
	return e != nil && e.first > 0
}

// reset ends the life of a partition's entries, durably, if there are any: after it, none is
// replayed. It is to be done before what they say is cut off or written anew, under
// Log.part and Log.round, or before the log is open.
func (j *journal) reset(key protocol.PartitionKey, at protocol.Offset, epoch protocol.Epoch) error {
	if !j.holds(key) {
		return nil
	}
	var b roundBuilder
	b.begin()
	b.reset(key, at, epoch)
	j.write.Lock()
	defer j.write.Unlock()
	if err := j.append(&b, func(int64) {}); err != nil {
		return fmt.Errorf("reset of the journal: %w", j.dir.fatal(err))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.logs[key]; e != nil {
		j.settle(e)
		j.drop(e)
	}
	return nil
}
