package recovery

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
)

// PartitionInfo is one partition's cold tier.
type PartitionInfo struct {
	Topic        string
	Partition    int32
	LogStart     protocol.Offset
	TieredEnd    protocol.Offset // first offset that is not in a segment object
	Segments     int64
	Records      int64
	Bytes        int64 // of segment objects
	MaxTimestamp protocol.Timestamp
}

// String gives one line of name=value pairs.
func (p PartitionInfo) String() string {
	return fmt.Sprintf("topic=%s partition=%d log-start=%d tiered-end=%d segments=%d records=%d bytes=%d max-timestamp=%s",
		p.Topic, p.Partition, p.LogStart, p.TieredEnd, p.Segments, p.Records, p.Bytes, timeText(p.MaxTimestamp))
}

func timeText(ts protocol.Timestamp) string {
	if ts < 0 {
		return "none"
	}
	return time.UnixMilli(int64(ts)).UTC().Format("2006-01-02T15:04:05.000Z")
}

// Partitions yields the partitions of one topic, or of all where topic is "", by
// topic name and number. It reads one page of each. Errors: ErrNotFound, and what ends it.
func (b *Bucket) Partitions(ctx context.Context, topic string) iter.Seq2[PartitionInfo, error] {
	return func(yield func(PartitionInfo, error) bool) {
		if topic != "" {
			if _, err := b.topic(topic); err != nil {
				yield(PartitionInfo{}, err)
				return
			}
		}
		for t := range b.Image.Topics() {
			if topic != "" && t.Name != topic {
				continue
			}
			for row := range b.Image.Partitions(t.ID) {
				sum, err := manifestOf(row).Summary(b.read.page(ctx))
				if err != nil {
					yield(PartitionInfo{}, fmt.Errorf("partition %d of %s: %w", row.Key.Partition, t.Name, err))
					return
				}
				info := PartitionInfo{
					Topic: t.Name, Partition: row.Key.Partition, LogStart: row.LogStart, TieredEnd: row.Manifest.TieredEnd,
					Segments: sum.Segments, Records: sum.Records, Bytes: sum.ObjectBytes, MaxTimestamp: sum.MaxTimestamp,
				}
				if !yield(info, nil) {
					return
				}
			}
		}
	}
}

// SegmentInfo is one entry of a partition's manifest.
type SegmentInfo struct {
	Topic     string
	Partition int32
	format.Entry
}

// String gives one line of name=value pairs.
func (s SegmentInfo) String() string {
	return fmt.Sprintf("topic=%s partition=%d offsets=[%d,%d) epoch=%d records=%d bytes=%d max-timestamp=%s object=%s",
		s.Topic, s.Partition, s.Base, s.End, s.Epoch, s.Records, s.ObjectSize, timeText(s.MaxTimestamp), s.ObjectKey)
}

// Segments yields the segment objects of a topic's partitions in the order of offsets. Errors: ErrNotFound, and what ends it.
func (b *Bucket) Segments(ctx context.Context, topic string) iter.Seq2[SegmentInfo, error] {
	return func(yield func(SegmentInfo, error) bool) {
		t, err := b.topic(topic)
		if err != nil {
			yield(SegmentInfo{}, err)
			return
		}
		for row := range b.Image.Partitions(t.ID) {
			for e, err := range manifestOf(row).Scan(b.read.page(ctx), 0) {
				if !yield(SegmentInfo{Topic: topic, Partition: row.Key.Partition, Entry: e}, err) || err != nil {
					return
				}
			}
		}
	}
}
