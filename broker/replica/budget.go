package replica

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// budgetInterval is how often the logs are measured where a budget is set: what is written in between may come on top.
const budgetInterval = 250 * time.Millisecond

// evictable is one sealed segment that the bucket holds too.
type evictable struct {
	leader *Leader
	end    protocol.Offset
	bytes  int64
	sealed time.Time
	newest protocol.Timestamp
}

// KeepBudget holds the logs whose segments move to the bucket within strata.disk.budget.bytes (DESIGN D22): it evicts
// what the bucket holds, the oldest first. What never leaves the disk (compacted, internal and local topics) is neither
// counted nor refused: no eviction could make room for it. Where that is not enough, as in an outage, it seals what is open, so that it can be uploaded, and
// clients' produce to them is refused until there is room; total retention goes on meanwhile.
func (m *Manager) KeepBudget(ctx context.Context) {
	budget := m.cfg.Static.Int("strata.disk.budget.bytes")
	if budget < 0 {
		return
	}
	m.sweeping.Lock()
	defer m.sweeping.Unlock()
	used := m.movableBytes()
	if used > budget {
		used -= m.evictOldest(ctx, used-budget)
	}
	over := used > budget
	if over {
		m.sealOpen(ctx)
	}
	if over == m.cfg.Dir.OverBudget() {
		return
	}
	m.cfg.Dir.SetOverBudget(over)
	if over {
		m.cfg.Logger.Error("the logs have used up their disk budget, and the bucket has not taken enough of them: produce is refused",
			"bytes", used, "strata.disk.budget.bytes", budget)
	} else {
		m.cfg.Logger.Info("the logs are within their disk budget again: produce is served", "bytes", used, "strata.disk.budget.bytes", budget)
	}
}

// movable tells whether the segments of a topic leave the disk once the bucket holds them.
func movable(c *metadata.TopicConfig) bool { return c.RemoteStorage && !c.Compact }

func (m *Manager) movableBytes() (total int64) {
	for l := range m.All() {
		if movable(l.config.Load()) {
			total += l.log.Size()
		}
	}
	return total
}

// evictOldest frees at least so many bytes, or all it may, and tells how many.
func (m *Manager) evictOldest(ctx context.Context, want int64) (freed int64) {
	var all []evictable
	for l := range m.All() {
		if l.Closed() != nil || !movable(l.config.Load()) || ctx.Err() != nil {
			continue
		}
		held, err := l.log.Sealed(l.log.Start(), min(l.row.Load().Manifest.TieredEnd, l.HighWatermark()))
		if err != nil {
			continue // evicted or truncated between the two looks; the next finds it
		}
		for _, r := range held {
			all = append(all, evictable{leader: l, end: r.End, bytes: r.Bytes, sealed: r.Sealed, newest: r.MaxTimestamp})
		}
	}
	slices.SortStableFunc(all, func(a, b evictable) int { // stable: a log's segments stay in their order
		return cmp.Or(a.sealed.Compare(b.sealed), cmp.Compare(a.newest, b.newest))
	})
	upTo := map[*Leader]protocol.Offset{}
	for _, e := range all {
		if freed >= want {
			break
		}
		upTo[e.leader] = max(upTo[e.leader], e.end)
		freed += e.bytes
	}
	freed = 0
	for l, end := range upTo {
		segments, bytes, err := l.log.Evict(end, 0, -1, m.cfg.Now())
		if err != nil {
			m.upkeepFailed(l, "evict for the disk budget", err)
		}
		freed += bytes
		m.cfg.Logger.Debug("evicted for the disk budget", "topic", l.topic, "partition", l.key.Partition, "segments", segments, "bytes", bytes)
	}
	return freed
}

// sealOpen seals the active segments of what is uploaded and evicted: they may be all that is left.
func (m *Manager) sealOpen(ctx context.Context) {
	for l := range m.All() {
		config := l.config.Load()
		if ctx.Err() != nil || l.Closed() != nil || !movable(config) || config.RemoteCopyDisable {
			continue
		}
		if err := l.log.Roll(); err != nil {
			m.upkeepFailed(l, "roll for the disk budget", err)
		}
	}
}
