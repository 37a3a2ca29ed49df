package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/recovery"
)

const (
	changes     = "changes" // the topic
	partitions  = 6
	lookups     = 200         // OffsetsForTimes at so many times
	clientLimit = time.Minute // for producing or replaying everything
)

// journey is the events' way through one broker, and what must come back.
type journey struct {
	t      *testing.T
	broker *harness.Broker
	bucket *harness.Bucket
	data   *dataset

	acked   [partitions][]int32 // indexes of events, by the offset that the broker acknowledged
	highest [partitions][]int64 // running maximum of their timestamps

	coldBytes int64   // of batches in segment objects, at rest
	hotStart  []int64 // by partition: first offset that is not in the bucket, at rest
}

// produce creates the topic and writes all events in order.
func (j *journey) produce() {
	t := j.t
	client := j.broker.Client(
		kgo.DefaultProduceTopic(changes),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(64<<10), // of many batches a segment is filled well
		kgo.MaxBufferedRecords(50_000),
	)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), clientLimit)
	defer cancel()
	createTopic(t, client, changes, partitions)
	at := map[int32]map[int64]int32{}
	for p := range int32(partitions) {
		at[p] = map[int64]int32{}
	}
	var mu sync.Mutex // guards at and failed
	var failed error
	for i, e := range j.data.events {
		r := &kgo.Record{Key: []byte(e.key), Value: e.value, Timestamp: time.UnixMilli(e.ms)}
		client.Produce(ctx, r, func(r *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = errors.Join(failed, err)
				cancel()
				return
			}
			if other, twice := at[r.Partition][r.Offset]; twice {
				failed = errors.Join(failed, fmt.Errorf("events %d and %d both at offset %d of partition %d", other, i, r.Offset, r.Partition))
			}
			at[r.Partition][r.Offset] = int32(i)
		})
	}
	if err := client.Flush(ctx); err != nil {
		failed = errors.Join(err, failed)
	}
	if failed != nil {
		t.Fatalf("produce: %v", failed)
	}
	for p := range int32(partitions) {
		j.remember(p, at[p])
	}
}

// remember checks that the acknowledged offsets are 0, 1, 2... in the order of producing.
func (j *journey) remember(p int32, at map[int64]int32) {
	highest := int64(-1)
	for offset := range int64(len(at)) {
		i, there := at[offset]
		if !there {
			j.t.Fatalf("partition %d: %d records, none at offset %d", p, len(at), offset)
		}
		if n := len(j.acked[p]); n > 0 && j.acked[p][n-1] >= i {
			j.t.Fatalf("partition %d: event %d before event %d", p, j.acked[p][n-1], i)
		}
		highest = max(highest, j.data.events[i].ms)
		j.acked[p] = append(j.acked[p], i)
		j.highest[p] = append(j.highest[p], highest)
	}
}

// settle waits until the broker is at rest, and checks where the bytes are then.
func (j *journey) settle() {
	j.t.Helper()
	var segments []recovery.SegmentInfo
	segments, j.hotStart = settle(j.t, j.broker, j.bucket, changes, partitions)
	j.footprint(segments)
}

// footprint checks where the topic's bytes are.
func (j *journey) footprint(segments []recovery.SegmentInfo) {
	j.t.Helper()
	j.coldBytes = 0
	for _, s := range segments {
		j.coldBytes += s.DataBytes
	}
	local := j.localBytes()
	share := float64(j.coldBytes) / float64(j.coldBytes+local)
	j.t.Logf("at rest: %d bytes in the bucket only, in %d segment objects; %d local: %.1f %% are cold", j.coldBytes, len(segments), local, 100*share)
	if share < 0.9 {
		j.t.Errorf("%.1f %% of the topic's bytes are in the bucket only, want 90 %%", 100*share)
	}
	if len(segments) > 100 {
		j.t.Errorf("%d segment objects, want at most 100", len(segments))
	}
}

// localBytes are those of the topic's log files.
func (j *journey) localBytes() (bytes int64) {
	j.t.Helper()
	files, err := filepath.Glob(filepath.Join(j.broker.DataDir, changes+"-*", "*.log"))
	if err != nil {
		j.t.Fatal(err)
	}
	if len(files) != partitions {
		j.t.Errorf("%d local log files, want one for each partition: %q", len(files), files)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			j.t.Fatal(err)
		}
		bytes += info.Size()
	}
	return bytes
}

// check is everything that must hold of a broker at rest.
func (j *journey) check(what string) {
	j.t.Helper()
	begun := time.Now()
	before := j.broker.Metrics()
	j.replay()
	replayed := time.Since(begun)
	const fetched = "kafka_server_brokertopicmetrics_remotefetchbytes_total"
	if got := int64(j.broker.Metrics().Sum(j.t, fetched) - before.Sum(j.t, fetched)); got < j.coldBytes {
		j.t.Errorf("%s: the bucket served %d bytes of the replay, it holds %d", what, got, j.coldBytes)
	}
	j.lookUp()
	j.nibble()
	looked := time.Since(begun)
	j.bucket.VerifyClean()
	j.t.Logf("%s: ready in %s, replayed in %s, %d times looked up and nibbled at in %s, verified in %s", what,
		j.broker.ReadyIn, replayed, lookups, looked-replayed, time.Since(begun)-looked)
}

// replay reads everything from offset 0 and compares it.
func (j *journey) replay() {
	t := j.t
	t.Helper()
	from := map[int32]kgo.Offset{}
	for p := range int32(partitions) {
		from[p] = kgo.NewOffset().At(0)
	}
	client := j.broker.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{changes: from}))
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), clientLimit)
	defer cancel()
	var next [partitions]int
	last := make(map[string][]byte, 2*answerCount)
	for left := eventCount; left > 0; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("replay, with %d records to come, at offsets %d: %v", left, next, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			j.compare(r, next[r.Partition])
			next[r.Partition]++
			left--
			last[string(r.Key)] = r.Value
		})
	}
	j.compareAnswer(last)
}

func (j *journey) compare(r *kgo.Record, offset int) {
	j.t.Helper()
	if r.Offset != int64(offset) || offset >= len(j.acked[r.Partition]) {
		j.t.Fatalf("partition %d: a record at offset %d, want %d of %d", r.Partition, r.Offset, offset, len(j.acked[r.Partition]))
	}
	want := &j.data.events[j.acked[r.Partition][offset]]
	if string(r.Key) != want.key || !bytes.Equal(r.Value, want.value) || (r.Value == nil) != (want.value == nil) || r.Timestamp.UnixMilli() != want.ms {
		j.t.Fatalf("partition %d, offset %d: %q=%q at %d, want %q=%q at %d",
			r.Partition, r.Offset, r.Key, r.Value, r.Timestamp.UnixMilli(), want.key, want.value, want.ms)
	}
}

func (j *journey) compareAnswer(last map[string][]byte) {
	j.t.Helper()
	rows := 0
	for key, value := range last {
		if value == nil {
			continue
		}
		rows++
		if blob := blobOf(j.t, value); blob != j.data.answer[key] {
			j.t.Fatalf("the last value of %q names %s, want %s", key, blob, j.data.answer[key])
		}
	}
	if rows != answerCount {
		j.t.Fatalf("%d keys are left, want %d", rows, answerCount)
	}
}

// lookUp asks for the offsets of times, in both tiers.
func (j *journey) lookUp() {
	j.t.Helper()
	client := j.broker.Client()
	defer client.Close()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	var cold, hot, none int
	for n := range lookups {
		ms := j.someTime(random, n)
		for p, got := range j.offsetsFor(client, ms) {
			want, ts := j.firstAtOrAfter(p, ms)
			if got.Offset != want || got.Timestamp != ts {
				j.t.Fatalf("time %d in partition %d: offset %d at %d, want %d at %d (seed %d)", ms, p, got.Offset, got.Timestamp, want, ts, seed)
			}
			switch {
			case want < 0:
				none++
			case want < j.hotStart[p]:
				cold++
			default:
				hot++
			}
		}
	}
	if min(cold, hot, none) == 0 {
		j.t.Errorf("look-ups by time: %d found in the bucket, %d on disk, %d nowhere; want some of each (seed %d)", cold, hot, none, seed)
	}
}

// someTime is a time near an event's, one in the span of all, or one of the last
// days, of which the hot tier is made. The first two lie before and after all events.
func (j *journey) someTime(random *rand.Rand, n int) int64 {
	events := j.data.events
	first, final := events[0].ms, int64(0)
	for _, highest := range j.highest {
		final = max(final, highest[len(highest)-1])
	}
	switch {
	case n == 0:
		return 0
	case n == 1:
		return final + 1
	case n%3 == 0:
		return events[random.IntN(len(events))].ms + random.Int64N(3) - 1
	case n%3 == 1:
		return first + random.Int64N(final-first)
	default:
		p := random.IntN(partitions)
		from := int(j.hotStart[p]) - 100
		return events[j.acked[p][from+random.IntN(len(j.acked[p])-from)]].ms + random.Int64N(3) - 1
	}
}

// firstAtOrAfter is the first record whose timestamp is not below ms; -1, -1 for none.
func (j *journey) firstAtOrAfter(p int32, ms int64) (offset, timestamp int64) {
	i := sort.Search(len(j.highest[p]), func(i int) bool { return j.highest[p][i] >= ms })
	if i == len(j.highest[p]) {
		return -1, -1
	}
	return int64(i), j.data.events[j.acked[p][i]].ms
}

func (j *journey) offsetsFor(client *kgo.Client, ms int64) map[int32]kmsg.ListOffsetsResponseTopicPartition {
	j.t.Helper()
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = changes
	for p := range int32(partitions) {
		partition := kmsg.NewListOffsetsRequestTopicPartition()
		partition.Partition, partition.Timestamp = p, ms
		topic.Partitions = append(topic.Partitions, partition)
	}
	request := kmsg.NewPtrListOffsetsRequest()
	request.Topics = append(request.Topics, topic)
	response, err := request.RequestWith(j.t.Context(), client)
	if err != nil {
		j.t.Fatal(err)
	}
	out := map[int32]kmsg.ListOffsetsResponseTopicPartition{}
	for _, topic := range response.Topics {
		for _, p := range topic.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				j.t.Fatalf("time %d in partition %d: %v", ms, p.Partition, err)
			}
			out[p.Partition] = p
		}
	}
	if len(out) != partitions {
		j.t.Fatalf("time %d: %d partitions are answered", ms, len(out))
	}
	return out
}

// deleteTopic deletes the topic and waits, no longer than promised, until nothing of it is left.
func (j *journey) deleteTopic(promised time.Duration) {
	t := j.t
	t.Helper()
	if len(j.bucket.List(format.DataPrefix)) == 0 {
		t.Fatal("there is nothing to sweep")
	}
	client := j.broker.Client()
	defer client.Close()
	if _, err := kadm.NewClient(client).DeleteTopic(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	harness.Eventually(t, promised, "the deleted topic's objects are gone", func() error {
		if left := j.bucket.List(format.DataPrefix); len(left) > 0 {
			return fmt.Errorf("%d objects are left, such as %s", len(left), left[0].Key)
		}
		return nil
	})
	t.Logf("the deleted topic's objects were gone after %s", time.Since(begun))
	harness.Eventually(t, promised, "the deleted topic's folders are gone", func() error {
		entries, err := os.ReadDir(j.broker.DataDir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), changes+"-") {
				return errors.New(e.Name() + " is left")
			}
		}
		return nil
	})
}
