package replica

import "context"

// RetryOffline is what the upkeep does every few seconds.
func (m *Manager) RetryOffline(ctx context.Context) { m.retryOffline(ctx) }

// Readers is how many places in fetch sets are registered with a partition.
func (l *Leader) Readers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.readers)
}
