package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"path"

	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

const snapshotSuffix = ".snapshot"

// Append adds whole batches that passed record.Batch.Check, patching offsets,
// epoch and append time in place. It returns once they are written, not synced:
// Events.Durable tells. A batch that an idempotent producer sent before is not added; the answer is
// where it lies. Errors: those of package producer, record.ErrInvalid,
// ErrDiskReserve, ErrDiskBudget, ErrProducers, ErrOffline, ErrClosed, or of the file system; then nothing was added.
// A client's append with a producer id is one batch.
func (l *Log) Append(batches []byte, epoch protocol.Epoch, o AppendOptions) (AppendInfo, error) {
	if o.Client && l.dir.BelowReserve() {
		return AppendInfo{}, fmt.Errorf("append to %s: %w", l.name, ErrDiskReserve)
	}
	if o.Client && l.config().Budgeted && l.dir.OverBudget() {
		return AppendInfo{}, fmt.Errorf("append to %s: %w", l.name, ErrDiskBudget)
	}
	l.mu.Lock()
	info, err := l.append(batches, epoch, o)
	// A duplicate whose original is not durable yet has somebody waiting for that.
	commit := err == nil && (!info.Duplicate || info.Next > l.Durable()) && (l.dir.cfg.Fsync || l.commitDue())
	l.mu.Unlock()
	if err != nil {
		return AppendInfo{}, fmt.Errorf("append to %s: %w", l.name, err)
	}
	if commit {
		l.dir.committer.dirty(l)
	}
	if !l.dir.cfg.Fsync && !info.Duplicate && l.events.Durable != nil {
		l.events.Durable(info.Next)
	}
	return info, nil
}

// commitDue tells, in replicated mode, whether this append must be followed by
// a commit: a seal, a new directory, flush.messages or a flush.ms of 0. It needs mu.
func (l *Log) commitDue() bool {
	p, cfg := &l.pending, l.config()
	if cfg.FlushMessages > 0 && l.unflushed >= cfg.FlushMessages || cfg.FlushInterval < 0 {
		l.unflushed, p.force = 0, true
	}
	return len(p.sealed) > 0 || p.created || p.force
}

// incoming is what an append needs to know of its batches as a whole.
type incoming struct {
	batches []record.Batch
	next    protocol.Offset // after the last
	maxTime protocol.Timestamp
	records int64
}

// append needs mu.
func (l *Log) append(bytes []byte, epoch protocol.Epoch, o AppendOptions) (AppendInfo, error) {
	if err := l.usable(); err != nil {
		return AppendInfo{}, err
	}
	if l.truncating {
		return AppendInfo{}, fmt.Errorf("%w: it is being truncated", ErrOffline)
	}
	batches, err := splitAll(bytes)
	if err != nil {
		return AppendInfo{}, err
	}
	dup, err := l.checkProducers(batches, o)
	if err != nil {
		return AppendInfo{}, err
	}
	if dup != nil {
		info := AppendInfo{First: dup.First, Next: dup.Last + 1, AppendTime: protocol.NoTimestamp, Duplicate: true}
		if o.LogAppendTime {
			info.AppendTime = dup.AppendTime
		}
		return info, nil
	}
	in, err := l.place(batches, epoch, o)
	if err != nil {
		return AppendInfo{}, err
	}
	if err := l.makeRoom(in, int64(len(bytes)), o); err != nil {
		return AppendInfo{}, err
	}
	if err := l.write(bytes); err != nil {
		return AppendInfo{}, err
	}
	info := AppendInfo{First: in.batches[0].BaseOffset(), Next: in.next, AppendTime: protocol.NoTimestamp}
	if o.LogAppendTime {
		info.AppendTime = o.Now
	}
	return info, l.publish(in, o)
}

func splitAll(bytes []byte) ([]record.Batch, error) {
	batches := make([]record.Batch, 0, 1)
	for len(bytes) > 0 {
		b, rest, err := record.Split(bytes)
		if err != nil {
			return nil, err
		}
		batches, bytes = append(batches, b), rest
	}
	if len(batches) == 0 {
		return nil, fmt.Errorf("%w: no batch", record.ErrInvalid)
	}
	return batches, nil
}

// checkProducers refuses what may not be appended, and finds a duplicate.
func (l *Log) checkProducers(batches []record.Batch, o AppendOptions) (dup *producer.BatchMeta, err error) {
	for _, b := range batches {
		if o.Client && b.ProducerID() != protocol.NoProducerID && len(batches) > 1 {
			return nil, fmt.Errorf("%w: %d batches with producer ids in one append", record.ErrInvalid, len(batches))
		}
		switch {
		case o.Client:
			if err := l.checkProducerRoom(b); err != nil {
				return nil, err
			}
			dup, err = l.producers.Check(b, true)
		case o.Follower:
			_, err = l.producers.Check(b, false)
		default:
			err = l.producers.CheckCoordinator(b)
		}
		if err != nil || dup != nil {
			return dup, err
		}
	}
	return nil, nil
}

// place gives the batches their offsets, epoch and time, or checks those that
// a leader gave them.
func (l *Log) place(batches []record.Batch, epoch protocol.Epoch, o AppendOptions) (incoming, error) {
	in := incoming{batches: batches, next: l.LEO(), maxTime: protocol.NoTimestamp}
	latest := l.epochs.latest()
	if !o.Follower && epoch < latest {
		return in, fmt.Errorf("%w: append in epoch %d, latest is %d", record.ErrInvalid, epoch, latest)
	}
	for _, b := range batches {
		if o.Follower {
			if b.BaseOffset() < in.next || b.LeaderEpoch() < latest {
				return in, fmt.Errorf("%w: batch at %d of epoch %d, log end %d in epoch %d", record.ErrInvalid,
					b.BaseOffset(), b.LeaderEpoch(), in.next, latest)
			}
			latest = b.LeaderEpoch()
		} else {
			b.SetBaseOffset(in.next)
			b.SetLeaderEpoch(epoch)
			if o.LogAppendTime {
				b.SetLogAppendTime(o.Now)
			}
		}
		if b.LastOffset() == math.MaxInt64 || b.LastOffset() < b.BaseOffset() {
			return in, fmt.Errorf("%w: batch at %d with last offset delta %d", record.ErrInvalid, b.BaseOffset(), b.LastOffsetDelta())
		}
		in.next = b.NextOffset()
		in.maxTime = max(in.maxTime, b.MaxTimestamp())
		in.records += int64(b.LastOffsetDelta()) + 1
	}
	return in, nil
}

// makeRoom makes the directory for the first append, and rolls where the
// batches may not go into the active segment.
func (l *Log) makeRoom(in incoming, size int64, o AppendOptions) error {
	if in.next-1-l.LEO() > math.MaxInt32 {
		// Segments follow each other without a gap, which tells recovery when one is missing.
		return fmt.Errorf("%w: gap from %d to %d is too wide for a segment", record.ErrInvalid, l.LEO(), in.next)
	}
	if !l.exists() {
		return l.create(l.LEO())
	}
	if err := l.loadTail(); err != nil {
		return err
	}
	switch full := l.full(in, size); {
	case full && l.pending.created:
		return fmt.Errorf("%w: its first segment is full before its first commit", ErrOffline)
	case full || !l.pending.created && l.shouldRoll(in, size, o):
		return l.roll()
	}
	return nil
}

// full tells whether the batches cannot go into the active segment.
func (l *Log) full(in incoming, size int64) bool {
	active := l.active()
	return in.next-1-active.base > math.MaxInt32 || active.filled.Load().size+size > math.MaxInt32
}

// loadTail learns the time of the active segment's first batch.
func (l *Log) loadTail() error {
	active := l.active()
	size := active.filled.Load().size
	if l.tail.timeKnown || size == 0 {
		return nil
	}
	if _, _, err := active.maximum(); err != nil { // the index goes on from there
		return err
	}
	l.tail.firstTime = protocol.NoTimestamp
	err := active.steps(0, size, func(h record.Batch, _, _ int64) (bool, error) {
		l.tail.firstTime = h.MaxTimestamp()
		return false, nil
	})
	l.tail.timeKnown = err == nil
	return err
}

// shouldRoll is Kafka's rule, but that the age of records counts only once the
// segment holds strata.segment.min.bytes (DESIGN D2).
func (l *Log) shouldRoll(in incoming, size int64, o AppendOptions) bool {
	cfg, active := l.config(), l.active()
	filled := active.filled.Load().size
	if filled == 0 {
		return false
	}
	if cfg.SegmentBytes > 0 && filled+size > cfg.SegmentBytes || active.indexFull(cfg.IndexMaxBytes) {
		return true
	}
	if cfg.SegmentAge <= 0 {
		return false
	}
	age := l.segmentAge(cfg, active.base)
	if first := l.firstAppend.Load(); first > 0 && int64(o.Now)-first >= age {
		return true
	}
	return filled >= cfg.SegmentMinBytes && l.tail.firstTime >= 0 && in.maxTime >= 0 && int64(in.maxTime-l.tail.firstTime) > age
}

// segmentAge is the age in ms at which a segment is sealed: segment.ms less its share of
// segment.jitter.ms. The share hangs on the segment alone, so that it is the same after a restart.
func (l *Log) segmentAge(cfg Config, base protocol.Offset) int64 {
	age := cfg.SegmentAge.Milliseconds()
	jitter := min(cfg.SegmentJitter.Milliseconds(), age)
	if jitter <= 0 {
		return age
	}
	h := fnv.New64a()
	_, _ = h.Write(l.key.Topic[:]) // a hash takes all
	_, _ = h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(l.key.Partition)), uint64(base)))
	return age - int64(h.Sum64()%uint64(jitter))
}

// create makes the directory and the first segment. Nothing is synced here: the
// first commit does.
func (l *Log) create(base protocol.Offset) error {
	fsys := l.dir.cfg.FS
	if err := fsys.MkdirAll(l.path); err != nil {
		return err
	}
	if err := writeFile(fsys, path.Join(l.path, metadataFile), encodeMetadata(l.key.Topic), false); err != nil {
		return err
	}
	s, err := l.createSegment(base)
	if err != nil {
		return err
	}
	if base > 0 {
		l.addSnapshot(base)
	}
	l.epochs.changes++ // the file is to be there from the first commit on
	l.pending.created, l.pending.durable, l.changed = true, 0, true
	l.setSegments([]*segment{s})
	return nil
}

// createSegment makes an empty segment's file.
func (l *Log) createSegment(base protocol.Offset) (*segment, error) {
	s := newSegment(l, base)
	name := path.Join(l.path, fileName(base)+logKind.suffix())
	if err := writeFile(l.dir.cfg.FS, name, nil, false); err != nil {
		return nil, errors.Join(err, removeFile(l.dir.cfg.FS, name))
	}
	l.pending.names++
	return s, nil
}

// setSegments publishes a list whose last segment is the active one.
func (l *Log) setSegments(list []*segment) {
	l.segments.Store(&list)
	l.tail = tail{index: indexBuilder{segment: list[len(list)-1]}}
	l.firstAppend.Store(0)
}

// roll seals the active segment, unless it is empty, and makes the next one at
// the log end. It changes nothing when it fails. The sealed one is synced by the
// next commit; until then it lies above the recovery point. It needs mu.
func (l *Log) roll() error {
	active, base := l.active(), l.LEO()
	if active.filled.Load().size == 0 {
		return nil
	}
	if l.truncating || l.pending.created {
		panic(fmt.Sprintf("log %s: roll at %d, truncating %t", l.name, base, l.truncating))
	}
	if err := active.flushIndex(true); err != nil {
		return err
	}
	next, err := l.createSegment(base)
	if err != nil {
		return err
	}
	now := l.dir.cfg.Now()
	l.expireProducers(now)
	l.addSnapshot(base)
	active.sealed.Store(max(1, now.UnixMilli()))
	l.pending.sealed = append(l.pending.sealed, sealedFile{active, l.pending.pinned})
	l.pending.written, l.pending.durable, l.pending.pinned, l.changed = false, 0, nil, true
	old := l.list()
	l.setSegments(append(old[:len(old):len(old)], next))
	return nil
}

// write puts the bytes at the end of the active segment, or takes back what it put.
func (l *Log) write(bytes []byte) error {
	active := l.active()
	h := l.pending.pinned
	if h == nil {
		var err error
		if h, err = l.dir.handles.acquire(active, logKind); err != nil {
			return err
		}
		if l.dir.cfg.Fsync {
			l.pending.pinned = h
		} else {
			defer l.dir.handles.release(h)
		}
	}
	end := active.filled.Load().size
	n, err := h.file.WriteAt(bytes, end)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("write %s: %w", active.name(), err)
	if !l.pending.written {
		defer l.unpinFile(&l.pending.pinned)
	}
	if n == 0 {
		if size, sizeErr := h.file.Size(); sizeErr == nil && size == end {
			return err
		}
	}
	if undo := h.file.Truncate(end); undo != nil {
		err = errors.Join(err, fmt.Errorf("undo: %w", undo))
		l.goOffline(err)
	}
	return err
}

// publish makes the written batches part of the log. An error here leaves it
// offline, because its indexes no longer tell the truth.
func (l *Log) publish(in incoming, o AppendOptions) error {
	active := l.active()
	pos := active.filled.Load().size
	var aborted []byte
	for _, b := range in.batches {
		if l.tail.index.add(b, pos, int64(len(b))) != nil {
			active.dropPending() // a sparser index is as true
		}
		pos += int64(len(b))
		if b.LeaderEpoch() > l.epochs.latest() {
			l.assignEpoch(b.LeaderEpoch(), b.BaseOffset())
		}
		if t, ok := l.producers.Apply(b, b.BaseOffset(), o.Now); ok {
			aborted = producer.AppendAborted(aborted, t)
		}
	}
	l.countProducers()
	if err := active.addAborted(aborted); err != nil {
		l.goOffline(err)
		return err
	}
	if !l.tail.timeKnown {
		l.tail.firstTime, l.tail.timeKnown = in.batches[0].MaxTimestamp(), true
	}
	if l.firstAppend.Load() == 0 {
		l.firstAppend.Store(max(1, int64(o.Now)))
	}
	l.pending.written, l.changed = true, true
	if l.unflushed == 0 {
		l.lastFlush = int64(o.Now)
	}
	l.unflushed += in.records
	l.pending.bytes += pos - active.filled.Load().size
	active.filled.Store(&extent{size: pos, next: in.next})
	l.leo.Store(int64(in.next))
	if !l.dir.cfg.Fsync {
		l.durable.Store(int64(in.next))
	}
	return nil
}

// addAborted appends entries to the segment's aborted index.
func (s *segment) addAborted(entries []byte) error {
	if len(entries) == 0 {
		return nil
	}
	err := s.log.dir.handles.with(s, txnKind, func(f vfs.File) error {
		end, err := f.Size()
		if err == nil {
			_, err = f.WriteAt(entries, end)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("aborted index of %s: %w", s.name(), err)
	}
	s.txns.Store(true)
	s.log.pending.names++
	return nil
}
