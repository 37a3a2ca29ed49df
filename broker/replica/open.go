package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// ErrNoState means that no segment object ends at the offset, so that the
// bucket does not know the state there.
var ErrNoState = errors.New("no segment object ends there")

// openers is how many logs are opened at a time at the start. They wait for the disk more than they
// compute, and hold less than 1 MiB each, or the largest batch.
const openers = 32

// restoreTimeout bounds how long the upkeep waits for the bucket for one partition.
const restoreTimeout = 10 * time.Second

// fromBucket asks the bucket for what a log that starts anew must know: it
// begins at the tiered end, with the state of the object below (DESIGN D15).
func (m *Manager) fromBucket(ctx context.Context, row metadata.Partition) (log.Init, error) {
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	init := m.initial(row)
	if row.Manifest.Segments == 0 {
		return init, nil
	}
	if m.wholeHot(m.image.Load(), row) {
		return log.Init{Start: row.LogStart, Rebuild: init.Rebuild}, nil // the rest is read back, see refill
	}
	var err error
	init.Epochs, init.Producers, err = m.cfg.Cold.StateAt(ctx, row.Key, init.Start)
	if errors.Is(err, ErrNoState) {
		// The log start was moved past the last object: nothing is known, and nothing below is left.
		return init, nil
	}
	return init, err
}

// neverAsk stands for the bucket where a partition is opened under the lock that
// Apply needs, which must not wait.
func neverAsk() (log.Init, error) {
	return log.Init{}, errors.New("its state is in the bucket, which is asked next")
}

// initial is what is known of a log without asking the bucket.
func (m *Manager) initial(row metadata.Partition) log.Init {
	init := log.Init{Start: row.Manifest.TieredEnd}
	if row.Manifest.Segments > 0 {
		init.Rebuild = func(at protocol.Offset) ([]byte, error) {
			ctx, cancel := context.WithTimeout(m.life, restoreTimeout)
			defer cancel()
			_, producers, err := m.cfg.Cold.StateAt(ctx, row.Key, at)
			if errors.Is(err, ErrNoState) {
				return nil, nil // not known, which the log reports
			}
			return producers, err
		}
	}
	return init
}

// source is where opening a partition gets what the bucket has of it.
type source struct {
	state  func() (log.Init, error) // of a log that starts anew
	refill func(*Leader, metadata.Partition) error
}

// fromImage is the source where a partition is opened under the lock that Apply needs, which must not wait.
func fromImage(state func() (log.Init, error)) source {
	return source{state: state, refill: func(*Leader, metadata.Partition) error { return errRefill }}
}

// openOrOffline opens a partition. One that cannot be opened is offline and says why; it does not
// keep the others from serving (DESIGN D3).
func (m *Manager) openOrOffline(img *metadata.Image, row metadata.Partition, from source) {
	l, err := m.open(img, row, from)
	if err == nil {
		m.publish(l, row)
	}
	m.setOffline(row.Key, err)
}

// setOffline notes why a partition cannot be opened; nil for one that is open.
func (m *Manager) setOffline(key protocol.PartitionKey, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.offline[key]
	delete(m.offline, key)
	if err == nil {
		return
	}
	m.offline[key] = err
	if old == nil || old.Error() != err.Error() {
		m.cfg.Logger.Error("a partition is offline", "error", err)
	}
}

// open makes the Leader of a row and recovers its log.
func (m *Manager) open(img *metadata.Image, row metadata.Partition, from source) (_ *Leader, err error) {
	topic, ok := img.TopicByID(row.Key.Topic)
	if !ok {
		panic(fmt.Sprintf("partition %v has no topic in the image", row.Key))
	}
	name := dirName(topic.Name, row.Key.Partition)
	if err := m.finishDelete(name); err != nil {
		return nil, err
	}
	config := m.topicConfig(img, topic.Name)
	l := &Leader{key: row.Key, topic: topic.Name, stats: m.topicStats(topic.Name)}
	l.row.Store(&row)
	l.config.Store(config)
	init := m.initial(row)
	if row.Manifest.Segments > 0 && !m.found[row.Key] {
		if init, err = from.state(); err != nil {
			return nil, fmt.Errorf("restore %s: %w", name, err)
		}
	}
	var recovery log.Recovery
	if l.log, recovery, err = m.cfg.Dir.OpenLog(topic.Name, row.Key, m.logConfig(config), init, m.events(l)); err != nil {
		return nil, err
	}
	m.report(l, recovery)
	if err := m.afterOpen(l, row, from); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", name, err), l.log.Close())
	}
	return l, nil
}

// publish lets a partition be used.
func (m *Manager) publish(l *Leader, row metadata.Partition) {
	m.mu.Lock()
	m.leaders[row.Key] = l
	m.mu.Unlock()
	if row.Leader == m.cfg.Self {
		m.lead(l, row)
	}
}

func (m *Manager) events(l *Leader) log.Events {
	return log.Events{
		Durable: l.onDurable,
		Sealed: func() {
			if m.cfg.Sealed != nil {
				m.cfg.Sealed(l.key)
			}
		},
		Offline: func(err error) {
			m.cfg.Logger.Error("a partition went offline", "topic", l.topic, "partition", l.key.Partition, "error", err)
			l.close(protocol.Errorf(kerr.KafkaStorageError, "the partition is offline: %v", err))
		},
	}
}

// afterOpen brings a recovered log in line with the row and begins its HW.
func (m *Manager) afterOpen(l *Leader, row metadata.Partition, from source) error {
	end := row.Manifest.TieredEnd
	// A directory that lost its segments was opened without the state of the object below.
	emptied := m.found[row.Key] && row.Manifest.Segments > 0 && l.log.Segments() == 0
	if l.log.LEO() < end || emptied {
		whole := m.wholeHot(m.image.Load(), row)
		if m.found[row.Key] || l.log.Segments() > 0 || !whole { // else it is empty and begins where it should
			init, err := from.state()
			if err != nil {
				return err
			}
			m.cfg.Logger.Warn("the log ends below the tiered end: it starts anew from the bucket", "topic", l.topic, "partition", l.key.Partition, "log.end", l.log.LEO(), "tiered.end", end)
			if err := l.log.TruncateFully(init); err != nil {
				return err
			}
		}
		if whole {
			if err := from.refill(l, row); err != nil {
				return err
			}
		}
	}
	if row.LogStart > l.log.Start() {
		if err := l.log.SetStart(row.LogStart); err != nil {
			return err
		}
	}
	l.onDurable(l.log.Durable())
	return nil
}

// retryOffline opens again what could not be opened for a reason that may have
// passed, such as a bucket that did not answer. Corruption does not pass. When
// the bucket does not answer for one, the others wait for the next time.
func (m *Manager) retryOffline(ctx context.Context) {
	m.mu.RLock()
	var again []protocol.PartitionKey
	for key, err := range m.offline {
		if !errors.Is(err, log.ErrCorrupt) {
			again = append(again, key)
		}
	}
	m.mu.RUnlock()
	for _, key := range again {
		row, ok := m.image.Load().Partition(key)
		if !ok {
			continue
		}
		if m.found[key] && m.reopen(row, fromImage(neverAsk)) {
			continue
		}
		init, err := m.fromBucket(ctx, row) // before the lock is taken that Apply needs
		if errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return
		}
		if err != nil {
			continue
		}
		if known := func() (log.Init, error) { return init, nil }; m.wholeHot(m.image.Load(), row) {
			err = m.refillOffline(ctx, row, known)
		} else {
			m.reopen(row, fromImage(known))
		}
		if errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return
		}
	}
}

// reopen opens an offline partition whose tiered end is still that of row, and
// tells whether it is offline no more.
func (m *Manager) reopen(row metadata.Partition, from source) bool {
	m.applying.Lock()
	defer m.applying.Unlock()
	img := m.image.Load()
	if now, ok := img.Partition(row.Key); ok && now.Manifest.TieredEnd == row.Manifest.TieredEnd && m.IsOffline(row.Key) {
		m.openOrOffline(img, now, from)
	}
	return !m.IsOffline(row.Key)
}

func (m *Manager) report(l *Leader, r log.Recovery) {
	attrs := []any{"topic", l.topic, "partition", l.key.Partition}
	if r.Torn {
		m.cfg.Logger.Info("cut an append off the log's end that was never acknowledged", append(attrs, "bytes", r.CutBytes)...)
	}
	if r.Unclean {
		m.cfg.Logger.Error("the machine stopped before the disk had all: the log was cut", append(attrs, "from", r.CutFrom, "to", r.CutTo, "bytes", r.CutBytes)...)
	}
	if end := max(l.log.LEO(), l.row.Load().Manifest.TieredEnd); r.HighWatermark > end {
		m.cfg.Logger.Error("the log ends below what was committed: these records are lost", append(attrs, "from", end, "to", r.HighWatermark)...)
	}
	if r.ProducersUnknownBelow > 0 {
		m.cfg.Logger.Warn("producers whose last batch lies below this offset are not known", append(attrs, "offset", r.ProducersUnknownBelow)...)
	}
}
