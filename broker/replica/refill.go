package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// refillBytes is how much is read back at a time.
const refillBytes = 1 << 20

// errRefill says that a log must be read back where it may take long.
var errRefill = errors.New("its records are read back from the bucket")

// wholeHot tells whether the partition's whole set must be in the log.
func (m *Manager) wholeHot(img *metadata.Image, row metadata.Partition) bool {
	topic, ok := img.TopicByID(row.Key.Topic)
	return ok && m.cfg.WholeHot != nil && m.cfg.WholeHot(topic.Name) && m.topicConfig(img, topic.Name).Compact
}

// refill reads back all that the bucket holds of an empty log: the same bytes at the same offsets, durable on
// return. A crash leaves a log that ends below the tiered end, which is emptied and read back anew (DESIGN D15, D18).
// What it holds in memory is one read.
func (m *Manager) refill(ctx context.Context, l *Leader, row metadata.Partition) error {
	end := row.Manifest.TieredEnd
	for from := row.LogStart; from < end; {
		next, err := m.refillSome(ctx, l, row, from)
		if err != nil {
			return fmt.Errorf("read back from offset %d: %w", from, err)
		}
		if next <= from {
			return fmt.Errorf("read back from offset %d: the bucket has nothing up to the tiered end %d", from, end)
		}
		from = next
	}
	if err := m.refillGap(ctx, l, end, 0); err != nil { // compaction has left nothing of the last offsets
		return err
	}
	if err := l.log.Flush(ctx); err != nil {
		return err
	}
	if row.LogStart > l.log.Start() {
		if err := l.log.SetStart(row.LogStart); err != nil {
			return err
		}
	}
	m.cfg.Logger.Info("read back from the bucket", "topic", l.topic, "partition", l.key.Partition, "from", l.log.Start(), "end", end, "bytes", l.log.Size())
	return nil
}

func (m *Manager) refillSome(ctx context.Context, l *Leader, row metadata.Partition, from protocol.Offset) (protocol.Offset, error) {
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	got, err := m.cfg.Cold.Read(ctx, row.Key, from, refillBytes, true)
	if err != nil {
		return from, err
	}
	defer got.release()
	if len(got.Bytes) == 0 {
		return got.Next, nil
	}
	first, _, err := record.Split(got.Bytes)
	if err != nil {
		return from, err
	}
	if l.log.Segments() == 0 && first.BaseOffset() < l.log.Start() { // the log start lies inside a batch
		if err := l.log.TruncateFully(log.Init{Start: first.BaseOffset()}); err != nil {
			return from, err
		}
	}
	for rest := got.Bytes; len(rest) > 0; {
		var b record.Batch
		if b, rest, err = record.Split(rest); err != nil {
			return from, err
		}
		if err := m.refillGap(ctx, l, b.BaseOffset(), segmentOffsets-(b.NextOffset()-b.BaseOffset())); err != nil {
			return from, err
		}
		if err := m.refillAppend(l, b); err != nil {
			return from, err
		}
	}
	return got.Next, nil
}

// segmentOffsets is how many offsets a segment may span.
const segmentOffsets = 1 << 31

// refillGap appends empty batches until the log's end is no more than least below to: compaction may have left nothing
// of more offsets than a segment, or one append, can span.
func (m *Manager) refillGap(ctx context.Context, l *Leader, to, least protocol.Offset) error {
	for to-l.log.LEO() > least {
		if err := l.log.Flush(ctx); err != nil { // its first segment must not be full before its first commit
			return err
		}
		next := min(to, l.log.LEO()+segmentOffsets)
		if err := m.refillAppend(l, record.EmptyBatch(l.log.LEO(), next, max(0, l.log.LatestEpoch()))); err != nil {
			return err
		}
		if err := l.log.Flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) refillAppend(l *Leader, batches []byte) error {
	_, err := l.log.Append(batches, protocol.NoEpoch, log.AppendOptions{Follower: true, Now: timestamp(m.cfg.Now())})
	return err
}

// refillOffline opens an offline partition whose whole set is in the bucket, without
// holding the lock that Apply needs while it is read.
func (m *Manager) refillOffline(ctx context.Context, row metadata.Partition, state func() (log.Init, error)) error {
	var needs metadata.Partition
	later := source{state: state, refill: func(_ *Leader, now metadata.Partition) error { needs = now; return nil }}
	m.applying.Lock()
	img := m.image.Load()
	now, ok := img.Partition(row.Key)
	if !ok || now.Manifest.TieredEnd != row.Manifest.TieredEnd || !m.IsOffline(row.Key) {
		m.applying.Unlock()
		return nil
	}
	l, err := m.open(img, now, later)
	m.applying.Unlock()
	if err == nil && !needs.Key.Topic.IsZero() {
		err = m.refill(ctx, l, needs)
	}
	m.applying.Lock()
	defer m.applying.Unlock()
	now, ok = m.image.Load().Partition(row.Key)
	if err == nil && ok && m.IsOffline(row.Key) {
		l.row.Store(&now)
		l.onDurable(l.log.Durable())
		m.publish(l, now)
		m.setOffline(row.Key, nil)
		return nil
	}
	if l != nil {
		err = errors.Join(err, l.log.Close())
	}
	switch {
	case !ok && l != nil:
		m.setAside(dirName(l.topic, l.key.Partition)) // its topic was deleted meanwhile, while its log was open
	case ok && err != nil:
		m.setOffline(row.Key, err)
	}
	return err
}
