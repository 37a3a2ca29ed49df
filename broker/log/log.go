package log

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// Log is one partition's log. It has no goroutine, timer or open file of its
// own while idle. Methods may run concurrently, but Append, Truncate, TruncateFully and
// Delete of one log are serialised by its owner.
type Log struct {
	dir    *Dir
	name   string // of the directory, "<topic>-<partition>"
	path   string
	key    protocol.PartitionKey
	init   Init
	events Events

	cfg      atomic.Pointer[Config]
	segments atomic.Pointer[[]*segment] // ascending, the last is active; nil before the first append
	start    atomic.Int64
	leo      atomic.Int64
	synced   atomic.Int64 // recovery point: below it all is synced in the log's own files
	durable  atomic.Int64 // as reported: in fsync mode at or above synced, what lies between is in the journal; leo otherwise
	hw       atomic.Int64 // for the checkpoint only

	onDisk atomic.Bool // the directory and its first segment are durable
	behind atomic.Bool // its file is to be synced behind the rounds of the journal
	forced atomic.Bool // the next commit is by the files, so that the journal lets go of the log

	firstAppend atomic.Int64 // wall clock in ms of the active segment's first append, 0 while it is empty

	// part is held while a round of the journal has bytes of the log, while the past is cut, and while
	// the log is closed. Taken after admin, before round.
	part sync.Mutex
	// round is held for one round of commits, while the past is cut, so that
	// no round writes of what is gone, and at the end of a Close. Taken before mu.
	round sync.Mutex

	epochFile sync.Mutex // held while the epoch checkpoint is written; taken before mu

	// admin serialises what removes or cuts segments. Taken before mu.
	admin sync.Mutex

	// mu is held for an append: never across a sync.
	mu         sync.Mutex
	producers  producer.State
	counted    int // of producers, as the directory was told
	epochs     epochCache
	tail       tail
	pending    pending
	truncating bool
	cuts       int // how often its past was cut
	offline    error
	closed     bool
	changed    bool            // since it was opened after a clean stop
	unflushed  int64           // records since the last sync, in replicated mode
	lastFlush  int64           // wall clock in ms of the first of them
	snapshotAt protocol.Offset // newest producer snapshot that was written or is pending
	flushing   *flushWait      // nil without waiters
	failing    bool            // the last commit failed
	passing    *passing        // the cleaning pass under way, or nil
	leaving    bool            // it is being closed or deleted: no pass begins

	commitState commitState // guarded by the committer
	journaled   *journaled  // what the journal holds of it, a short cut to journal.logs, which guards it; or nil
}

// tail is what only appends need to know of the active segment. Log.mu guards it.
type tail struct {
	index     indexBuilder
	firstTime protocol.Timestamp // max timestamp of its first batch
	timeKnown bool
}

// OpenLog opens the log of a partition, whose directory is named by the topic's
// name. Where there is none, nothing is made until the first append. Else the log is
// recovered, which may take long; several may be opened at a time. An error that
// is ErrCorrupt (a *CorruptError) says what cannot be read: nothing was cut, the log is
// not open, and SetAside is what gives it up. A directory of another topic id is removed,
// also one that was found corrupt; a folder that is no partition's gives ErrOffline.
func (d *Dir) OpenLog(topic string, key protocol.PartitionKey, cfg Config, init Init, events Events) (*Log, Recovery, error) {
	name := dirName(topic, key.Partition)
	l := &Log{dir: d, name: name, path: d.path(name), key: key, init: init, events: events}
	l.cfg.Store(&cfg)
	d.mu.Lock()
	_, taken := d.logs[name]
	if d.closed || taken {
		d.mu.Unlock()
		if taken {
			return nil, Recovery{}, fmt.Errorf("open %s: it is open", name)
		}
		return nil, Recovery{}, ErrClosed
	}
	d.logs[name] = nil // reserved; checkpoints do not see it until it is open
	d.mu.Unlock()

	rec, err := l.open()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		delete(d.logs, name)
		d.producers.held.Add(-int64(l.counted))
		if errors.Is(err, ErrCorrupt) {
			d.idle[name] = false
		}
		return nil, rec, fmt.Errorf("open %s: %w", name, err)
	}
	d.logs[name] = l
	delete(d.idle, name)
	delete(d.ids, name)
	return l, rec, nil
}

// open finds out what is there.
func (l *Log) open() (Recovery, error) {
	entries, err := l.dir.cfg.FS.List(l.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Recovery{}, err
	}
	if err == nil {
		ours, err := l.checkOwner(entries)
		if err != nil {
			return Recovery{Existed: true}, err
		}
		if ours {
			return l.recover(entries)
		}
		if err := l.dir.setAside(l.name); err != nil {
			return Recovery{Existed: true}, err
		}
	}
	// What the journal holds of an earlier life must not seem to continue this one.
	if err := l.dir.journal.reset(l.key, l.init.Start, protocol.NoEpoch); err != nil {
		return Recovery{}, err
	}
	rec := Recovery{}
	if err != nil { // the directory is missing: what a checkpoint knows of it is lost
		_, _, hw, _ := l.dir.checkpointed(l.name)
		rec.HighWatermark = protocol.Offset(hw)
	}
	// A checkpoint entry of an earlier partition of this name must not outlive it.
	if err := l.dir.lowerRecoveryPoint(l.name, protocol.NoOffset); err != nil {
		return rec, err
	}
	return rec, l.reset(l.init)
}

// checkOwner tells whether the directory is this partition's. One whose
// partition.metadata is missing or torn never got as far as its first commit, so that
// nothing in it was acknowledged, unless a checkpoint knows it. One that holds other
// files as well is somebody else's: it is neither used nor removed.
func (l *Log) checkOwner(entries []vfs.Entry) (ours bool, err error) {
	id, err := l.dir.topicID(l.name)
	_, known, _, _ := l.dir.checkpointed(l.name)
	foreign := foreignFile(entries)
	switch {
	case errors.Is(err, errBadFile) && (known || l.dir.strict):
		return false, &CorruptError{File: path.Join(l.name, metadataFile), From: 0, To: protocol.NoOffset, Reason: err.Error()}
	case errors.Is(err, errBadFile) && foreign != "":
		return false, fmt.Errorf("%w: folder %s is not a partition's, it holds %q: move it away", ErrOffline, l.path, foreign)
	case errors.Is(err, errBadFile):
		l.dir.cfg.Logger.Warn("directory without a first commit is removed", "log", l.name, "err", err)
		return false, nil
	case err != nil:
		return false, err
	case id != l.key.Topic:
		// The topic was deleted and made anew while this one was not open (DESIGN D1).
		l.dir.cfg.Logger.Info("directory of an earlier topic of this name is removed", "log", l.name, "topic.id", id)
		return false, nil
	}
	return true, nil
}

// reset makes the log an empty one without files.
func (l *Log) reset(init Init) error {
	state, err := decodeProducers(init.Producers)
	if err != nil {
		return err
	}
	l.init, l.producers = init, *state
	l.countProducers()
	l.epochs = epochCache{changes: l.epochs.changes + 1, saved: l.epochs.saved}
	for _, e := range init.Epochs {
		if e.Start < init.Start {
			l.epochs.assign(e.Epoch, e.Start)
		}
	}
	l.snapshotAt = protocol.NoOffset
	l.segments.Store(nil)
	l.firstAppend.Store(0)
	l.start.Store(int64(init.Start))
	l.leo.Store(int64(init.Start))
	l.synced.Store(int64(init.Start))
	l.durable.Store(int64(init.Start))
	return nil
}

func decodeProducers(b []byte) (*producer.State, error) {
	if b == nil {
		return &producer.State{}, nil
	}
	return producer.Decode(b)
}

// exists tells whether there are files.
func (l *Log) exists() bool { return l.segments.Load() != nil }

// named tells whether the directory is durable, so that a checkpoint may
// speak of it; l may be nil while it is being opened.
func (l *Log) named() bool { return l != nil && l.onDisk.Load() }

// list returns the segments, oldest first. The slice is never changed.
func (l *Log) list() []*segment {
	if p := l.segments.Load(); p != nil {
		return *p
	}
	return nil
}

// active needs mu, and a log that exists.
func (l *Log) active() *segment {
	s := l.list()
	return s[len(s)-1]
}

func (l *Log) config() Config { return *l.cfg.Load() }

// SetConfig changes the settings from the next append on.
func (l *Log) SetConfig(cfg Config) { l.cfg.Store(&cfg) }

// Start is the local log start: the first offset that can be read here.
func (l *Log) Start() protocol.Offset { return protocol.Offset(l.start.Load()) }

// LEO is the log end offset.
func (l *Log) LEO() protocol.Offset { return protocol.Offset(l.leo.Load()) }

// Durable is the offset below which everything counts as durable.
func (l *Log) Durable() protocol.Offset { return protocol.Offset(l.durable.Load()) }

// RecoveryPoint is the offset below which everything has been synced in the log's own files.
func (l *Log) RecoveryPoint() protocol.Offset { return protocol.Offset(l.synced.Load()) }

// SetHighWatermark tells what the next checkpoint shall write; nothing else here depends on it.
func (l *Log) SetHighWatermark(hw protocol.Offset) { l.hw.Store(int64(hw)) }

// Size is the bytes of all segments.
func (l *Log) Size() int64 {
	var n int64
	for _, s := range l.list() {
		n += s.filled.Load().size
	}
	return n
}

// Segments is the number of local segments.
func (l *Log) Segments() int { return len(l.list()) }

// usable needs mu.
func (l *Log) usable() error {
	switch {
	case l.closed:
		return ErrClosed
	case l.offline != nil:
		return fmt.Errorf("%w: %w", ErrOffline, l.offline)
	}
	return nil
}

// setOffline refuses all that would write from here on.
func (l *Log) setOffline(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.goOffline(err)
}

// goOffline needs mu.
func (l *Log) goOffline(err error) {
	if l.offline == nil {
		l.offline = err
		l.wakeFlushers(nil)
		if l.events.Offline != nil {
			go l.events.Offline(err) // mu is held, and the appender's locks
		}
	}
}

// LastStable is the last stable offset for a high watermark, which must not go back.
func (l *Log) LastStable(hw protocol.Offset) protocol.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.producers.LastStable(hw), min(hw, l.Start()))
}

// EpochEnd answers OffsetForLeaderEpoch (KIP-101, KIP-279): the greatest epoch at
// or below e and the offset at which it ends here. ok is false where no epoch that low is known.
func (l *Log) EpochEnd(e protocol.Epoch) (epoch protocol.Epoch, end protocol.Offset, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epochs.end(e, l.LEO())
}

// LatestEpoch is NoEpoch for a log that has none.
func (l *Log) LatestEpoch() protocol.Epoch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epochs.latest()
}

// Epochs is the lineage that is known here, ascending.
func (l *Log) Epochs() []protocol.EpochStart {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epochs.list()
}

// AssignEpoch notes that a new leader's epoch starts at the log end. It becomes
// durable with the first batch that carries it.
func (l *Log) AssignEpoch(e protocol.Epoch, start protocol.Offset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if start != l.LEO() || e < l.epochs.latest() {
		return fmt.Errorf("%w: epoch %d at %d, log end %d in epoch %d", record.ErrInvalid, e, start, l.LEO(), l.epochs.latest())
	}
	l.assignEpoch(e, start)
	return nil
}

// assignEpoch needs mu.
func (l *Log) assignEpoch(e protocol.Epoch, start protocol.Offset) {
	if l.epochs.assign(e, start) {
		l.changed = true
	}
}

func (l *Log) snapshotPath(at protocol.Offset) string {
	return path.Join(l.path, fileName(at)+snapshotSuffix)
}

// settle is a clean stop of the log: everything is made durable, with the
// indexes, the epochs and a producer snapshot at the log end.
func (l *Log) settle() error {
	l.mu.Lock()
	if l.offline != nil || !l.exists() || !l.changed {
		defer l.mu.Unlock()
		return l.offline // such a log is not as a clean stop leaves one
	}
	l.pending.force = true
	if l.snapshotAt != l.LEO() && l.LEO() > 0 {
		l.addSnapshot(l.LEO())
	}
	active := l.active()
	err := active.flushIndex(true)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	if err := l.commit(); err != nil {
		return err
	}
	l.mu.Lock()
	if err := l.usable(); err != nil {
		l.mu.Unlock()
		return err // another commit failed meanwhile
	}
	if l.LEO() != l.RecoveryPoint() {
		l.mu.Unlock()
		return fmt.Errorf("recovery point %d has not reached the log end %d", l.RecoveryPoint(), l.LEO())
	}
	snapshots := l.pending.snapshots
	l.pending.snapshots = nil
	l.mu.Unlock()
	return l.sync(round{sealed: []*segment{active}, snapshots: snapshots, syncNames: true})
}

// addSnapshot needs mu.
func (l *Log) addSnapshot(at protocol.Offset) {
	l.pending.snapshots = append(l.pending.snapshots, snapshotFile{at, l.producers.Encode()})
	l.snapshotAt = at
}

// Close stops the log cleanly: all is durable on return. Readers' slices stay valid. No
// round, of the journal or of the files, has anything of the log after it.
func (l *Log) Close() error {
	l.endPass()
	l.admin.Lock()
	defer l.admin.Unlock()
	// A round of the journal that has bytes of the log ends first. Written later, its entry would stand behind
	// the reset of a cut in the log's next life, which nobody knew to need it, and be replayed.
	l.part.Lock()
	defer l.part.Unlock()
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return nil
	}
	err := l.dir.fatal(l.settle())
	l.round.Lock()
	defer l.round.Unlock()
	l.leave()
	l.shut()
	return err
}

// leave takes the log out of its directory's list; its checkpoint entries stay.
func (l *Log) leave() {
	d := l.dir
	d.files.Lock()
	defer d.files.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.logs, l.name)
	if l.named() {
		d.idle[l.name] = false
		d.recovery.values[l.name] = int64(l.RecoveryPoint())
		d.starts.values[l.name] = int64(l.Start())
		d.hw.values[l.name] = l.checkpointHW()
	}
}

// checkpointHW is the high watermark as a checkpoint may tell it: of what a
// crash leaves in this log.
func (l *Log) checkpointHW() int64 {
	safe := l.RecoveryPoint()
	if l.dir.cfg.Fsync {
		safe = l.Durable()
	}
	return min(l.hw.Load(), int64(safe))
}

// shut closes files and refuses everything from here on.
func (l *Log) shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	l.countProducers()
	l.wakeFlushers(nil)
	l.unpinFile(&l.pending.pinned)
	for i := range l.pending.sealed {
		l.unpinFile(&l.pending.sealed[i].pinned)
	}
	for _, s := range l.list() {
		s.unpin()
	}
}

// Delete removes the partition: its directory is renamed, which is durable on
// return, and removed as far as readers let it. The log is closed.
func (l *Log) Delete() error {
	l.endPass()
	l.admin.Lock()
	defer l.admin.Unlock()
	l.part.Lock()
	defer l.part.Unlock()
	l.round.Lock()
	defer l.round.Unlock()
	l.mu.Lock()
	exists := l.exists() || l.offline != nil // it may have failed while it was to begin anew
	l.mu.Unlock()
	l.shut()
	l.dir.mu.Lock()
	delete(l.dir.logs, l.name)
	l.dir.mu.Unlock()
	if !exists {
		return nil
	}
	// No reset of the journal: OpenLog does that should the partition come back, and until the
	// directory is gone its entries are as good as before.
	if err := l.dir.setAside(l.name); err != nil {
		return err
	}
	l.dir.journal.forget(l.key)
	return nil
}

// MaybeRoll is the sweep's look at one log: it rolls the active segment when
// segment.ms has passed by the wall clock since its first append, starts the sync that
// flush.ms asks for, and forgets producers that have expired.
func (l *Log) MaybeRoll(now time.Time) (rolled bool, err error) {
	l.mu.Lock()
	rolled, again, err := l.sweep(now)
	l.mu.Unlock()
	if again {
		l.dir.committer.dirty(l)
	}
	if err != nil {
		return rolled, fmt.Errorf("roll %s: %w", l.name, err)
	}
	return rolled, nil
}

// sweep needs mu.
func (l *Log) sweep(now time.Time) (rolled, again bool, err error) {
	if err := l.usable(); err != nil || !l.exists() || l.truncating {
		return false, false, err
	}
	cfg := l.config()
	l.expireProducers(now)
	if first := l.firstAppend.Load(); !l.pending.created && cfg.SegmentAge > 0 && first > 0 && now.UnixMilli()-first >= l.segmentAge(cfg, l.active().base) {
		if err := l.roll(); err != nil {
			return false, false, err
		}
		rolled = true
	}
	if cfg.FlushInterval > 0 && l.unflushed > 0 && now.UnixMilli()-l.lastFlush >= cfg.FlushInterval.Milliseconds() {
		l.unflushed, l.pending.force = 0, true
	}
	return rolled, l.commitPending(), nil
}

// expireProducers needs mu.
func (l *Log) expireProducers(now time.Time) {
	if expiry := l.dir.producers.expiry(l.config().ProducerExpiry); expiry > 0 {
		l.producers.Expire(protocol.Timestamp(now.UnixMilli()), expiry.Milliseconds())
		l.countProducers()
	}
}

// commitPending tells whether a round has anything to do. It needs mu.
func (l *Log) commitPending() bool {
	p := &l.pending
	return len(p.sealed) > 0 || p.created || p.written && (l.dir.cfg.Fsync || p.force)
}

// Roll seals the active segment now, unless it is empty.
func (l *Log) Roll() error {
	l.admin.Lock()
	defer l.admin.Unlock()
	err := l.lockCreated()
	if err == nil && l.exists() {
		err = l.roll()
	}
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("roll %s: %w", l.name, err)
	}
	l.dir.committer.dirty(l)
	return nil
}

// lockCreated locks mu once the first segment's name is durable. No segment
// follows it before: else a crash might leave only the later one, and nobody could
// tell that the log does not begin there. mu is locked in any case.
func (l *Log) lockCreated() error {
	for {
		l.mu.Lock()
		if err := l.usable(); err != nil || !l.pending.created {
			return err
		}
		l.mu.Unlock()
		if err := l.Flush(context.Background()); err != nil {
			l.mu.Lock()
			return err
		}
	}
}
