package broker

import (
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/tiering"
)

// newCleaner makes the one that keeps compacted topics clean. It runs with Run.
func (b *Broker) newCleaner() *log.Cleaner {
	s := b.cfg.Static
	threads := int(s.Int("log.cleaner.threads"))
	if !s.Bool("log.cleaner.enable") {
		threads = 0
	}
	return log.NewCleaner(log.CleanerConfig{
		Targets: b.replicas.Compacted, Threads: threads, Logger: b.cfg.Logger,
		Settings: func() log.CleanerSettings {
			img := b.node.Image()
			return log.CleanerSettings{
				Memory: log.CleanMemory{
					Bytes: s.BrokerInt(img, "log.cleaner.dedupe.buffer.size"), Load: s.BrokerFloat(img, "log.cleaner.io.buffer.load.factor"),
				},
				Backoff:        time.Duration(s.BrokerInt(img, "log.cleaner.backoff.ms")) * time.Millisecond,
				BytesPerSecond: s.BrokerFloat(img, "log.cleaner.io.max.bytes.per.second"),
			}
		},
	})
}

// coldDropped lets the hot copy of a tiered compacted partition lose the tombstones and markers that the bucket has lost.
func (b *Broker) coldDropped() replica.ColdDropped {
	if b.bucket == nil {
		return nil
	}
	return tiering.NewDropped(b.bucket.reader).At
}
