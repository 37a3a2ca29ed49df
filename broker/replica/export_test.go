package replica

import "context"

// RetryOffline is what the upkeep does every few seconds.
func (m *Manager) RetryOffline(ctx context.Context) { m.retryOffline(ctx) }
