package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/errgroup"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// Config is what a Manager needs.
type Config struct {
	Self    protocol.BrokerID
	Dir     *log.Dir
	Static  *metadata.Static
	Propose func(context.Context, *metadata.Command) (metadata.Result, error)
	Cold    Cold
	// WholeHot tells of a compacted topic whose whole set the log must hold (DESIGN D18): what a log of it
	// lacks is read back from the bucket before the partition is led. nil: none.
	WholeHot func(topic string) bool
	// Sealed is told of every sealed and synced segment of a led partition; it must not block.
	Sealed func(protocol.PartitionKey)
	// Leadership is told, in the order of epochs, when this broker starts or stops
	// leading a partition; it must not block.
	Leadership func(topic string, key protocol.PartitionKey, epoch protocol.Epoch, leader bool)
	// ColdDropped is asked by the cleaner; nil means that the cold tier has dropped nothing.
	ColdDropped ColdDropped
	Now         func() time.Time
	Logger      *slog.Logger
}

// Manager holds the partitions of this broker and follows the image.
//
// Lock order: mu before a Leader's mu. Apply and Load are called by one
// goroutine at a time.
type Manager struct {
	cfg  Config
	life context.Context //nolint:containedctx // of what logs ask the bucket; ends with Run
	end  context.CancelFunc

	mu      sync.RWMutex
	leaders map[protocol.PartitionKey]*Leader // guarded by mu
	stats   map[string]*TopicStats            // guarded by mu; by topic name
	deleted map[string]*log.Log               // guarded by mu; by "<topic>-<partition>": closed, to be removed
	offline map[protocol.PartitionKey]error   // guarded by mu: why a partition placed here cannot be opened
	configs map[string]*metadata.TopicConfig  // guarded by mu; one for all partitions of a topic

	found    map[protocol.PartitionKey]bool // directories there were at the start; set by Load before it opens any
	applying sync.Mutex                     // held by Apply and by whoever else opens partitions
	image    atomic.Pointer[metadata.Image]
	dirty    dirtySet
	sweeping sync.Mutex // one upkeep at a time
}

var errSilent = errors.New("the bucket does not answer")

// NewManager makes an empty one.
func NewManager(cfg Config) *Manager {
	life, end := context.WithCancel(context.Background())
	return &Manager{
		cfg: cfg, life: life, end: end, leaders: map[protocol.PartitionKey]*Leader{}, stats: map[string]*TopicStats{},
		deleted: map[string]*log.Log{}, offline: map[protocol.PartitionKey]error{}, configs: map[string]*metadata.TopicConfig{}, found: map[protocol.PartitionKey]bool{}, dirty: newDirtySet(),
	}
}

// Load opens the logs of all partitions that the image places here, several at
// a time, and sets aside directories of topics it does not know. It returns
// when all are recovered.
func (m *Manager) Load(ctx context.Context, img *metadata.Image) error {
	m.image.Store(img)
	found, err := m.cfg.Dir.Partitions()
	if err != nil {
		return err
	}
	for _, f := range found {
		topic, ok := img.Topic(f.Topic)
		// A directory whose partition.metadata was torn belongs to whoever has its name.
		if ok && f.Partition < topic.Partitions && (f.ID == topic.ID || f.ID.IsZero()) {
			m.found[protocol.PartitionKey{Topic: topic.ID, Partition: f.Partition}] = true
			continue
		}
		m.cfg.Logger.Info("removing the directory of a topic that is no more", "directory", f.Name, "topic.id", f.ID)
		if err := m.cfg.Dir.SetAside(f.Name); err != nil {
			return err
		}
	}
	defer context.AfterFunc(ctx, m.end)()
	var silent atomic.Bool // the bucket did not answer
	var group errgroup.Group
	group.SetLimit(openers)
	for row := range img.AllPartitions() {
		if slices.Contains(row.Replicas, m.cfg.Self) {
			group.Go(func() error {
				ask := func(do func() error) error {
					if silent.Load() {
						return errSilent // one wait is enough; the upkeep asks again
					}
					err := do()
					if errors.Is(err, context.DeadlineExceeded) {
						silent.Store(true)
					}
					return err
				}
				m.openOrOffline(img, row, source{
					state: func() (init log.Init, err error) {
						err = ask(func() error { init, err = m.fromBucket(ctx, row); return err })
						return init, err
					},
					refill: func(l *Leader, row metadata.Partition) error {
						return ask(func() error { return m.refill(ctx, l, row) })
					},
				})
				return ctx.Err()
			})
		}
	}
	return group.Wait()
}

// Dir is where the logs lie.
func (m *Manager) Dir() *log.Dir { return m.cfg.Dir }

// IsOffline tells whether a partition placed here cannot be opened.
func (m *Manager) IsOffline(key protocol.PartitionKey) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if l := m.leaders[key]; l != nil {
		return l.Closed() != nil // its log failed while it was open
	}
	return m.offline[key] != nil
}

// Offline is how many partitions placed here cannot be opened.
func (m *Manager) Offline() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n := len(m.offline)
	for _, l := range m.leaders {
		if l.Closed() != nil {
			n++
		}
	}
	return n
}

// Get finds a partition that this broker leads. The error is the answer to the
// client: unknown partition, or led elsewhere.
func (m *Manager) Get(key protocol.PartitionKey) (*Leader, error) {
	m.mu.RLock()
	l, offline := m.leaders[key], m.offline[key]
	m.mu.RUnlock()
	switch {
	case offline != nil:
		return nil, protocol.Errorf(kerr.KafkaStorageError, "the partition is offline: %v", offline)
	case l == nil:
		return nil, protocol.Errorf(kerr.UnknownTopicOrPartition, "no such partition here")
	case l.row.Load().Leader != m.cfg.Self:
		return nil, protocol.Errorf(kerr.NotLeaderForPartition, "led by broker %d", l.row.Load().Leader)
	}
	return l, nil
}

// All yields the partitions that this broker leads, in no order. The set is
// copied first; no lock is held while it runs.
func (m *Manager) All() iter.Seq[*Leader] {
	m.mu.RLock()
	all := make([]*Leader, 0, len(m.leaders))
	for _, l := range m.leaders {
		all = append(all, l)
	}
	m.mu.RUnlock()
	return slices.Values(all)
}

// Apply follows one change of the image: it is the subscriber of the quorum,
// called in order, and what it opens is there before the proposer answers.
func (m *Manager) Apply(delta metadata.Delta, img *metadata.Image) {
	m.applying.Lock()
	defer m.applying.Unlock()
	m.image.Store(img)
	for _, t := range delta.Removed {
		m.remove(t)
	}
	for _, key := range delta.Partitions {
		row, ok := img.Partition(key)
		if !ok || !slices.Contains(row.Replicas, m.cfg.Self) {
			continue
		}
		m.mu.RLock()
		l, offline := m.leaders[key], m.offline[key] != nil
		m.mu.RUnlock()
		switch {
		case l != nil:
			m.update(l, row)
		case offline:
			// The upkeep tries it again, where it may wait for the bucket.
		default:
			m.openOrOffline(img, row, fromImage(neverAsk))
		}
	}
	m.reconfigure(delta.Configs, img)
}

// update takes over a changed row.
func (m *Manager) update(l *Leader, row metadata.Partition) {
	old := l.row.Swap(&row)
	if row.LeaderEpoch != old.LeaderEpoch && row.Leader == m.cfg.Self {
		m.lead(l, row)
	}
	if row.Leader != m.cfg.Self && old.Leader == m.cfg.Self && m.cfg.Leadership != nil {
		m.cfg.Leadership(l.topic, l.key, row.LeaderEpoch, false)
	}
	l.rowChanged()
	m.dirty.add(l)
}

// lead begins an epoch at the log end, so that no epoch has two histories.
func (m *Manager) lead(l *Leader, row metadata.Partition) {
	if err := l.log.AssignEpoch(row.LeaderEpoch, l.log.LEO()); err != nil {
		m.cfg.Logger.Error("cannot begin a leader epoch", "topic", l.topic, "partition", l.key.Partition, "epoch", row.LeaderEpoch, "error", err)
	}
	if m.cfg.Leadership != nil {
		m.cfg.Leadership(l.topic, l.key, row.LeaderEpoch, true)
	}
}

func (m *Manager) reconfigure(resources []metadata.Resource, img *metadata.Image) {
	if len(resources) == 0 {
		return
	}
	all := slices.ContainsFunc(resources, func(r metadata.Resource) bool { return r.Type == metadata.BrokerResource })
	m.mu.Lock()
	clear(m.configs)
	m.mu.Unlock()
	for l := range m.All() {
		if !all && !slices.Contains(resources, metadata.Resource{Type: metadata.TopicResource, Name: l.topic}) {
			continue
		}
		config := m.topicConfig(img, l.topic)
		l.config.Store(config)
		l.log.SetConfig(m.logConfig(config))
		m.dirty.add(l)
	}
}

// topicConfig resolves a topic's settings, once for all its partitions.
func (m *Manager) topicConfig(img *metadata.Image, topic string) *metadata.TopicConfig {
	m.mu.Lock()
	defer m.mu.Unlock()
	config := m.configs[topic]
	if config == nil {
		c := m.cfg.Static.Topic(img, topic)
		config = &c
		m.configs[topic] = config
	}
	return config
}

func (m *Manager) logConfig(c *metadata.TopicConfig) log.Config {
	ms := func(n int64) time.Duration {
		if n > int64(time.Duration(1<<63-1)/time.Millisecond) {
			return 0 // no limit
		}
		return time.Duration(n) * time.Millisecond
	}
	flush := ms(c.FlushMs)
	if c.FlushMs == 0 {
		flush = -1 // after every append; 0 is no limit to the log
	}
	age := c.SegmentMs
	if c.Compact {
		age = min(age, c.MaxCompactionLagMs) // the active segment is never cleaned (KIP-354)
	}
	return log.Config{
		SegmentBytes: c.SegmentBytes, SegmentMinBytes: c.SegmentMinBytes, SegmentAge: ms(age), SegmentJitter: milliseconds(c.SegmentJitterMs),
		IndexIntervalBytes: c.IndexIntervalBytes, IndexMaxBytes: c.IndexMaxBytes,
		FlushMessages: c.FlushMessages, FlushInterval: flush, Budgeted: movable(c),
		ProducerExpiry: m.cfg.Static.BrokerMillis(m.image.Load(), "producer.id.expiration.ms"),
	}
}

// remove closes the partitions of a deleted topic. Their files go in the
// upkeep, or before a partition of the same name is opened.
func (m *Manager) remove(t metadata.Topic) {
	for p := range t.Partitions {
		key := protocol.PartitionKey{Topic: t.ID, Partition: p}
		m.mu.Lock()
		l := m.leaders[key]
		offline := m.offline[key] != nil
		delete(m.leaders, key)
		delete(m.offline, key)
		delete(m.stats, t.Name)
		delete(m.configs, t.Name)
		if l != nil {
			m.deleted[dirName(t.Name, p)] = l.log
		}
		m.mu.Unlock()
		if offline {
			m.setAside(dirName(t.Name, p))
		}
		if l == nil {
			continue
		}
		l.close(protocol.Errorf(kerr.UnknownTopicOrPartition, "the topic was deleted"))
		if m.cfg.Leadership != nil {
			m.cfg.Leadership(l.topic, l.key, l.Epoch(), false)
		}
	}
	m.dirty.wake()
}

// setAside gives up the directory of a deleted partition that could not be opened.
func (m *Manager) setAside(name string) {
	if err := m.cfg.Dir.SetAside(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.cfg.Logger.Error("cannot set a deleted partition aside; the next start does", "directory", name, "error", err)
	}
}

// finishDelete removes the files of a deleted partition that had this directory.
func (m *Manager) finishDelete(name string) error {
	m.mu.Lock()
	old := m.deleted[name]
	delete(m.deleted, name)
	m.mu.Unlock()
	if old == nil {
		return nil
	}
	return old.Delete()
}

func dirName(topic string, partition int32) string { return fmt.Sprintf("%s-%d", topic, partition) }

// Close fails what waits. The logs are closed with their Dir.
func (m *Manager) Close() {
	m.end()
	for l := range m.All() {
		l.close(protocol.Errorf(kerr.NotLeaderForPartition, "the broker is stopping"))
	}
}

// Closed tells why the partition takes no more requests; nil while it does.
func (l *Leader) Closed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// ErrNoCold answers reads of the cold tier on a broker without a bucket.
var ErrNoCold = errors.New("this broker has no bucket")
