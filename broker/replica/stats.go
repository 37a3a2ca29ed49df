package replica

import (
	"iter"
	"maps"
	"sync/atomic"
)

// TopicStats counts what clients did with one topic since the start. One is
// shared by all partitions of the topic.
type TopicStats struct {
	BytesIn, BytesOut, MessagesIn  atomic.Int64
	ProduceRequests, FetchRequests atomic.Int64
	FailedProduce, FailedFetch     atomic.Int64
}

// Stats is the topic's counters.
func (l *Leader) Stats() *TopicStats { return l.stats }

func (m *Manager) topicStats(topic string) *TopicStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats[topic]
	if s == nil {
		s = &TopicStats{}
		m.stats[topic] = s
	}
	return s
}

// TopicStats yields the counters of all topics that have partitions here.
func (m *Manager) TopicStats() iter.Seq2[string, *TopicStats] {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return maps.All(maps.Clone(m.stats))
}
