package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/stratabroker/strata/integration/harness"
)

// compactKills is how often the broker is killed while it is written to and cleans.
const compactKills = 3

// compacted is the events' way through a compacted topic.
type compacted struct {
	t      *testing.T
	broker *harness.Broker
	data   *dataset

	mu    sync.Mutex
	acked [partitions]map[int64]int32 // indexes of events, by the offset that was acknowledged
	done  int
}

// TestEventsThroughACompactedTopicLeaveTheAnswerWhateverIsKilled: fifteen years of changes through small segments that
// are cleaned again and again while they are written, the broker being killed meanwhile. What is left is what was
// written at that offset, and the last value of each key is the known answer.
func TestEventsThroughACompactedTopicLeaveTheAnswerWhateverIsKilled(t *testing.T) {
	for name, remote := range map[string]string{"hot": "false", "tiered": "true"} {
		t.Run(name, func(t *testing.T) {
			kills := int(numberOf(t, "STRATA_COMPACT_KILLS", compactKills))
			c := &compacted{t: t, data: realEvents(t), broker: harness.Start(t, harness.Options{Set: map[string]string{
				"log.cleaner.backoff.ms": "50", "log.cleaner.dedupe.buffer.size": "1048576", "log.cleaner.min.cleanable.ratio": "0.05",
				"log.cleaner.delete.retention.ms": "100", "strata.remote.storage.enable": remote,
			}})}
			written := make(chan error, 1)
			begun := time.Now()
			c.create()
			go func() { written <- c.produce() }()
			for kill := range kills {
				c.awaitWritten((kill + 1) * eventCount / (kills + 1))
				c.broker.Kill9()
				c.broker.Again()
			}
			if err := <-written; err != nil {
				t.Fatalf("produce: %v", err)
			}
			c.settle()
			before := c.check()
			c.broker.Kill9()
			c.broker.Again()
			c.settle()
			after := c.check()
			report(t, "%d events, %d kills: %d records in %d bytes are left, then %d, in %s", eventCount, kills+1, before, c.bytes(), after, time.Since(begun))
			// Most of what is left beside the answer lies in the active segments.
			if before > eventCount/3 || after > before {
				t.Errorf("%d records are left, then %d, of an answer of %d", before, after, answerCount)
			}
		})
	}
}

func (c *compacted) create() {
	client := c.broker.Client()
	defer client.Close()
	settings := map[string]*string{"segment.bytes": kadm.StringPtr("1048576"), "cleanup.policy": kadm.StringPtr("compact")}
	if _, err := kadm.NewClient(client).CreateTopic(c.t.Context(), partitions, 1, settings, changes); err != nil {
		c.t.Fatal(err)
	}
	for p := range c.acked {
		c.acked[p] = map[int64]int32{}
	}
}

// produce writes all events in order, as an idempotent producer that goes on after each kill.
func (c *compacted) produce() error {
	client := c.broker.Client(
		kgo.DefaultProduceTopic(changes), kgo.ProducerBatchMaxBytes(16<<10), kgo.MaxBufferedRecords(20_000),
		kgo.RecordRetries(1<<20), kgo.RetryTimeout(clientLimit), kgo.UnknownTopicRetries(1<<20),
	)
	defer client.Close()
	ctx, cancel := context.WithTimeout(c.t.Context(), 3*clientLimit)
	defer cancel()
	var failed error // guarded by mu
	for i, e := range c.data.events {
		r := &kgo.Record{Key: []byte(e.key), Value: e.value, Timestamp: time.UnixMilli(e.ms)}
		client.Produce(ctx, r, func(r *kgo.Record, err error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.done++
			if err != nil {
				failed = errors.Join(failed, err)
				cancel()
				return
			}
			if other, twice := c.acked[r.Partition][r.Offset]; twice {
				failed = errors.Join(failed, fmt.Errorf("events %d and %d both at offset %d of partition %d", other, i, r.Offset, r.Partition))
			}
			c.acked[r.Partition][r.Offset] = int32(i)
		})
	}
	err := client.Flush(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(failed, err)
}

func (c *compacted) awaitWritten(n int) {
	c.t.Helper()
	harness.Eventually(c.t, clientLimit, fmt.Sprintf("%d events are written", n), func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.done < n {
			return fmt.Errorf("%d are", c.done)
		}
		return nil
	})
}

// settle waits until nothing is dirty enough to be cleaned.
func (c *compacted) settle() {
	c.t.Helper()
	least := 2.0 // looks at all logs since this life began: the first may come before all are open
	harness.Eventually(c.t, clientLimit, "the topic is clean", func() error {
		m := c.broker.Metrics()
		dirty, passes := m.Sum(c.t, "kafka_log_logcleanermanager_max_dirty_percent"), m.Sum(c.t, "strata_log_cleaner_looks_total")
		if bad := m.Sum(c.t, "kafka_log_logcleanermanager_uncleanable_partitions_count"); bad > 0 {
			c.t.Fatalf("%.0f partitions cannot be cleaned", bad)
		}
		if passes < least || dirty > 5 {
			return fmt.Errorf("%.0f looks, %.1f %% dirty", passes, dirty)
		}
		return nil
	})
}

// bytes are those of the topic's log files.
func (c *compacted) bytes() (bytes int64) {
	files, err := filepath.Glob(filepath.Join(c.broker.DataDir, changes+"-*", "*.log"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil { // it may be replaced just now
			bytes += info.Size()
		}
	}
	return bytes
}

// check reads the whole topic and compares it with what was written and with the answer. It returns the number of records.
func (c *compacted) check() (records int) {
	t := c.t
	t.Helper()
	from := map[int32]kgo.Offset{}
	for p := range int32(partitions) {
		from[p] = kgo.NewOffset().AtStart()
	}
	client := c.broker.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{changes: from}))
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), clientLimit)
	defer cancel()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, changes)
	if err != nil || ends.Error() != nil {
		t.Fatal(errors.Join(err, ends.Error()))
	}
	var next [partitions]int64
	last := make(map[string][]byte, 2*answerCount)
	// The active segment is never cleaned, so that the last record of a partition is there.
	for left := partitions; left > 0; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("replay at offsets %d: %v", next, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			c.compare(r, next[r.Partition])
			records++
			next[r.Partition] = r.Offset + 1
			if end, _ := ends.Lookup(changes, r.Partition); next[r.Partition] == end.Offset {
				left--
			}
			last[string(r.Key)] = r.Value
		})
	}
	(&journey{t: t, data: c.data}).compareAnswer(last)
	return records
}

func (c *compacted) compare(r *kgo.Record, least int64) {
	c.t.Helper()
	i, known := c.acked[r.Partition][r.Offset]
	if r.Offset < least || !known {
		c.t.Fatalf("partition %d: a record at offset %d, acknowledged %t, expected from %d on", r.Partition, r.Offset, known, least)
	}
	want := &c.data.events[i]
	if string(r.Key) != want.key || !bytes.Equal(r.Value, want.value) || (r.Value == nil) != (want.value == nil) || r.Timestamp.UnixMilli() != want.ms {
		c.t.Fatalf("partition %d, offset %d: %q=%q at %d, want %q=%q at %d",
			r.Partition, r.Offset, r.Key, r.Value, r.Timestamp.UnixMilli(), want.key, want.value, want.ms)
	}
}
