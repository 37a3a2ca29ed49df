package replica

import (
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/protocol"
)

// ColdDropped tells of a partition whether the cold tier covers an offset without the record that lies there:
// then the hot copy may lose a tombstone or a marker as well (DESIGN D17).
type ColdDropped func(key protocol.PartitionKey, at protocol.Offset) bool

// Compacted yields the logs that are to be kept compacted, with the rules of their topics.
func (m *Manager) Compacted(yield func(log.CleanTarget) bool) {
	for l := range m.All() {
		config := l.config.Load()
		if !config.Compact || l.Closed() != nil {
			continue
		}
		rules := log.CleanRules{
			Stable: l.UploadLimit(), MinLag: milliseconds(config.MinCompactionLagMs), MinDirtyRatio: config.MinCleanableDirtyRatio,
			DeleteRetention: milliseconds(config.DeleteRetentionMs), SupersededOnly: l.Tiered(),
		}
		if rules.SupersededOnly {
			// What supersedes a record may reach the bucket later than the place where the record was: a disk
			// that is lost between would bring the one before back.
			rules.Stable = min(rules.Stable, l.row.Load().Manifest.TieredEnd)
		}
		if lag := milliseconds(config.MaxCompactionLagMs); lag < time.Duration(1<<63-1)/time.Millisecond*time.Millisecond {
			rules.MaxLag = lag
		}
		if dropped := m.cfg.ColdDropped; rules.SupersededOnly && dropped != nil {
			rules.Dropped = func(at protocol.Offset) bool { return dropped(l.key, at) }
		}
		if !yield(log.CleanTarget{Log: l.log, Rules: rules}) {
			return
		}
	}
}
