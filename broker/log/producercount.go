package log

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// ProducerBytes is about what one producer in one log takes of memory, with its place in the map.
const ProducerBytes = 256

// leastProducerIdle is how long a producer is remembered whatever is held: a retry of the client comes sooner.
const leastProducerIdle = 10 * time.Minute

// producerCount is how many producers all logs of a directory remember. Anybody may make up producer ids, so it is
// bounded: beyond three quarters those that have been idle for leastProducerIdle are forgotten,
// and at the bound ones that a log does not know are refused.
type producerCount struct {
	held atomic.Int64
	most int64 // 0 means no limit
}

func (c *producerCount) full() bool { return c.most > 0 && c.held.Load() >= c.most }

// expiry is after how long an idle producer is forgotten, of what the setting says.
func (c *producerCount) expiry(set time.Duration) time.Duration {
	if c.most == 0 || c.held.Load() < c.most-c.most/4 {
		return set
	}
	if set <= 0 {
		return leastProducerIdle
	}
	return min(set, leastProducerIdle)
}

// countProducers tells the directory how many the log remembers. Whatever may change that calls it. It needs mu.
func (l *Log) countProducers() {
	held := 0
	if !l.closed {
		held = l.producers.Len()
	}
	if held != l.counted {
		l.dir.producers.held.Add(int64(held - l.counted))
		l.counted = held
	}
}

// checkProducerRoom refuses a producer that would be one too many. It needs mu.
func (l *Log) checkProducerRoom(b record.Batch) error {
	if b.ProducerID() == protocol.NoProducerID || !l.dir.producers.full() || l.producers.Knows(b.ProducerID()) {
		return nil
	}
	l.expireProducers(l.dir.cfg.Now())
	if !l.dir.producers.full() {
		return nil
	}
	return fmt.Errorf("%w: %d in all partitions, and none of this one has been idle for %s", ErrProducers, l.dir.producers.held.Load(), leastProducerIdle)
}

// HeldProducers is how many producers the logs of the directory remember, each counted once a log.
func (d *Dir) HeldProducers() int64 { return d.producers.held.Load() }
