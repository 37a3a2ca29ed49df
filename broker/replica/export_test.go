package replica

import (
	"context"

	"github.com/stratabroker/strata/metadata"
)

// RetryOffline is what the upkeep does every few seconds.
func (m *Manager) RetryOffline(ctx context.Context) { m.retryOffline(ctx) }

// Readers is how many places in fetch sets are registered with a partition.
func (l *Leader) Readers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.readers)
}

// Refill is how a partition comes back whose whole set must be hot.
func (m *Manager) Refill(ctx context.Context, l *Leader, row metadata.Partition) error {
	return m.refill(ctx, l, row)
}
