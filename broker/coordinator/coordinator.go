package coordinator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/stratabroker/strata/broker/group"
	"github.com/stratabroker/strata/protocol"
)

const (
	defaultMailbox = 1024
	// parallelLoads bounds how many partitions are read at a time: a restarted broker
	// leads all of them at once.
	parallelLoads = 4
	ensureTimeout = 30 * time.Second
)

// Coordinator is the group coordinator of one broker. All methods are safe for
// concurrent use.
type Coordinator struct {
	cfg    Config
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	loads  chan struct{} // a token per partition being loaded
	wg     sync.WaitGroup

	mu       sync.Mutex
	shards   map[int32]*shard // guarded by mu
	ensuring bool             // guarded by mu; the topic is being created
	closed   bool             // guarded by mu
}

var _ API = (*Coordinator)(nil)

// New makes a coordinator that leads nothing yet.
func New(cfg Config) *Coordinator {
	if cfg.MailboxRequests <= 0 {
		cfg.MailboxRequests = defaultMailbox
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Coordinator{
		cfg: cfg, ctx: ctx, cancel: cancel,
		loads: make(chan struct{}, parallelLoads), shards: map[int32]*shard{},
	}
}

// Close stops all shards and waits for their goroutines; who still waits for a
// reply is told NOT_COORDINATOR. Partitions must outlive it.
func (c *Coordinator) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}

// Settled returns once every partition that is led now is loaded, and what its load led to is committed. An
// error tells of one that cannot be.
func (c *Coordinator) Settled(ctx context.Context) error {
	c.mu.Lock()
	shards := slices.Collect(maps.Values(c.shards))
	c.mu.Unlock()
	for _, s := range shards {
		select {
		case <-s.settled:
		case <-s.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
		s.mu.Lock()
		err := s.unusable
		s.mu.Unlock()
		if err != nil {
			return fmt.Errorf("partition %d of the groups: %w", s.partition, err)
		}
	}
	return nil
}

// FindPartition implements API.
func (c *Coordinator) FindPartition(groupID string) int32 {
	if count := c.cfg.Partitions.Count(); count > 0 {
		return group.PartitionFor(groupID, count)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ensuring && !c.closed {
		c.ensuring = true
		c.wg.Go(c.ensure)
	}
	return -1
}

func (c *Coordinator) ensure() {
	ctx, cancel := context.WithTimeout(c.ctx, ensureTimeout)
	defer cancel()
	if err := c.cfg.Partitions.Ensure(ctx); err != nil && c.ctx.Err() == nil {
		c.cfg.Logger.Warn("cannot create the offsets topic; the next group that asks tries again", "error", err)
	}
	c.mu.Lock()
	c.ensuring = false
	c.mu.Unlock()
}

// OnLeadership implements API.
func (c *Coordinator) OnLeadership(partition int32, epoch protocol.Epoch, leader bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.shards[partition]
	if c.closed || old != nil && (epoch < old.epoch || leader && epoch == old.epoch) {
		return
	}
	if old != nil {
		old.stop()
		delete(c.shards, partition)
	}
	if leader {
		s := newShard(c, partition, epoch)
		c.shards[partition] = s
		c.wg.Go(func() {
			if old != nil {
				<-old.ended // it may still be handing out appends
			}
			s.run()
		})
	}
}

// TopicDeleted implements API.
func (c *Coordinator) TopicDeleted(names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.shards {
		s.topicsDeleted(names)
	}
}

// shardOf is the shard that coordinates the group, nil if it is not here.
func (c *Coordinator) shardOf(groupID string) *shard {
	count := c.cfg.Partitions.Count()
	if count <= 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shards[group.PartitionFor(groupID, count)]
}
