package replica

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// dirtySet is the partitions whose row or settings changed since their last upkeep.
type dirtySet struct {
	mu     sync.Mutex
	set    map[*Leader]struct{} // guarded by mu
	signal chan struct{}        // holds one token while there is something to do
}

func newDirtySet() dirtySet {
	return dirtySet{set: map[*Leader]struct{}{}, signal: make(chan struct{}, 1)}
}

func (d *dirtySet) add(l *Leader) {
	d.mu.Lock()
	d.set[l] = struct{}{}
	d.mu.Unlock()
	d.wake()
}

func (d *dirtySet) wake() {
	select {
	case d.signal <- struct{}{}:
	default:
	}
}

func (d *dirtySet) take() map[*Leader]struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.set
	d.set = map[*Leader]struct{}{}
	return out
}

// retryInterval is how often a partition that is offline is tried again.
const retryInterval = 5 * time.Second

// Run does the upkeep of all partitions until ctx ends: at once of those whose
// row or settings changed, of all every log.retention.check.interval.ms; and
// it writes the checkpoints. One goroutine serves them all.
func (m *Manager) Run(ctx context.Context) {
	defer context.AfterFunc(ctx, m.end)()
	sweep := time.NewTicker(m.cfg.Static.Millis("log.retention.check.interval.ms"))
	defer sweep.Stop()
	checkpoint := time.NewTicker(m.cfg.Static.Millis("log.flush.offset.checkpoint.interval.ms"))
	defer checkpoint.Stop()
	retry := time.NewTicker(retryInterval)
	defer retry.Stop()
	var measure <-chan time.Time // never, without a budget
	if m.cfg.Static.Int("strata.disk.budget.bytes") >= 0 {
		budget := time.NewTicker(budgetInterval)
		defer budget.Stop()
		measure = budget.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.dirty.signal:
			m.removeDeleted()
			for l := range m.dirty.take() {
				m.upkeep(ctx, l, nil)
			}
		case <-retry.C:
			m.retryOffline(ctx)
		case <-measure:
			m.KeepBudget(ctx)
		case <-sweep.C:
			m.Sweep(ctx)
		case <-checkpoint.C:
			if err := m.cfg.Dir.Checkpoint(); err != nil {
				m.cfg.Logger.Error("cannot write the checkpoints", "error", err)
			}
		}
	}
}

// Sweep rolls what is old, expires and evicts, over all partitions that this
// broker leads.
func (m *Manager) Sweep(ctx context.Context) {
	var starts []*metadatapb.LogStart
	for l := range m.All() {
		if ctx.Err() != nil {
			return
		}
		m.upkeep(ctx, l, &starts)
	}
	for rows := range slices.Chunk(starts, startsInCommand) {
		cmd := &metadata.Command{Kind: &metadatapb.Command_AdvanceLogStarts{AdvanceLogStarts: &metadatapb.AdvanceLogStarts{Rows: rows}}}
		if _, err := m.cfg.Propose(ctx, cmd); err != nil && ctx.Err() == nil {
			m.cfg.Logger.Warn("cannot move log starts; the next sweep tries again", "error", err)
		}
	}
}

// startsInCommand keeps a command well below what the metadata log takes.
const startsInCommand = 5000

// upkeep brings one log in line with its row and its retention. With starts it
// also looks at the clock: it rolls what is old and collects log starts to move.
func (m *Manager) upkeep(_ context.Context, l *Leader, starts *[]*metadatapb.LogStart) {
	m.sweeping.Lock()
	defer m.sweeping.Unlock()
	if l.Closed() != nil {
		return
	}
	row, config, now := l.row.Load(), l.config.Load(), m.cfg.Now()
	if starts != nil {
		if _, err := l.log.MaybeRoll(now); err != nil {
			m.upkeepFailed(l, "roll", err)
		}
		l.log.SetHighWatermark(l.HighWatermark())
	}
	if row.LogStart > l.log.Start() {
		if err := l.log.SetStart(row.LogStart); err != nil {
			m.upkeepFailed(l, "remove below the log start", err)
		}
	}
	switch {
	case config.RemoteDelete && row.Manifest.Segments > 0:
		// The partition begins where the hot tier does; the archiver drops the rest.
		addLogStart(starts, l, row, l.log.Start())
	case config.Compact && (!config.Delete || l.Tiered()):
		// Neither evicted nor expired: the whole set stays hot (DESIGN D18).
	case config.RemoteStorage:
		m.evict(l, row, config, now)
	case row.Manifest.Segments > 0:
		// Nothing new is uploaded, and what is in the bucket stays until the
		// archiver expires it: a changed default deletes no archive.
	case starts != nil && config.Delete:
		m.expire(l, row, config, now, starts)
	}
}

// evict removes local segments that the bucket holds, past local retention.
func (m *Manager) evict(l *Leader, row *metadata.Partition, config *metadata.TopicConfig, now time.Time) {
	end := min(row.Manifest.TieredEnd, l.HighWatermark())
	segments, bytes, err := l.log.Evict(end, config.LocalRetentionBytes, milliseconds(config.LocalRetentionMs), now)
	if err != nil {
		m.upkeepFailed(l, "evict", err)
	}
	if segments > 0 {
		m.cfg.Logger.Debug("evicted", "topic", l.topic, "partition", l.key.Partition, "segments", segments, "bytes", bytes)
	}
}

// expire collects where the log start of a partition without a bucket should move.
func (m *Manager) expire(l *Leader, row *metadata.Partition, config *metadata.TopicConfig, now time.Time, starts *[]*metadatapb.LogStart) {
	to, err := l.log.RetentionStart(now, milliseconds(config.RetentionMs), config.RetentionBytes, l.HighWatermark())
	if err != nil {
		m.upkeepFailed(l, "look for expired segments", err)
		return
	}
	addLogStart(starts, l, row, to)
}

func addLogStart(starts *[]*metadatapb.LogStart, l *Leader, row *metadata.Partition, to protocol.Offset) {
	if starts == nil || to <= row.LogStart {
		return
	}
	*starts = append(*starts, &metadatapb.LogStart{
		TopicId: l.key.Topic[:], Partition: l.key.Partition, Offset: int64(to), LeaderEpoch: int32(row.LeaderEpoch),
	})
}

// milliseconds keeps -1, no limit, as it is.
func milliseconds(ms int64) time.Duration {
	if ms < 0 {
		return -1
	}
	return time.Duration(min(ms, int64(time.Duration(1<<63-1)/time.Millisecond))) * time.Millisecond
}

func (m *Manager) upkeepFailed(l *Leader, what string, err error) {
	m.cfg.Logger.Error("upkeep of a partition failed", "doing", what, "topic", l.topic, "partition", l.key.Partition, "error", err)
}

func (m *Manager) removeDeleted() {
	m.mu.RLock()
	gone := make(map[string]*log.Log, len(m.deleted))
	for name, l := range m.deleted {
		gone[name] = l
	}
	m.mu.RUnlock()
	for name := range gone {
		m.applying.Lock() // a topic of this name may be made meanwhile
		err := m.finishDelete(name)
		m.applying.Unlock()
		if err != nil {
			m.cfg.Logger.Error("cannot remove a deleted partition; the next start does", "directory", name, "error", err)
		}
	}
}

// Tiered yields the led partitions that the bucket has, or is to have, part of.
func (m *Manager) Tiered(yield func(*Leader) bool) {
	for l := range m.All() {
		if l.row.Load().Leader == m.cfg.Self && l.Tiered() && !yield(l) {
			return
		}
	}
}

// Tiered tells whether the bucket has, or is to have, part of the partition.
func (l *Leader) Tiered() bool {
	return l.config.Load().RemoteStorage || l.row.Load().Manifest.Segments > 0
}

// UploadLimit is the first offset that may not be uploaded yet: min(HW, LSO).
func (l *Leader) UploadLimit() protocol.Offset { return min(l.HighWatermark(), l.LastStable()) }

// BytesFrom is the size of the hot log at and above an offset. It is read while the log changes, in an order that
// counts too little rather than too much: retention by size goes by it.
func (l *Leader) BytesFrom(from protocol.Offset) int64 {
	above, err := l.log.Sealed(max(from, l.log.Start()), l.HighWatermark())
	if err != nil {
		return 0
	}
	all, err := l.log.Sealed(l.log.Start(), l.HighWatermark())
	if err != nil {
		return 0
	}
	size := l.log.Size()
	for _, r := range above {
		size += r.Bytes
	}
	for _, r := range all {
		size -= r.Bytes
	}
	return max(0, size)
}
