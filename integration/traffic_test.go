package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/stratabroker/strata/integration/checker"
	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/protocol"
)

// trafficLimit bounds each wait for clients to get through.
const trafficLimit = time.Minute

// stream is one topic of a traffic.
type stream struct {
	topic      string
	partitions int32
	settings   map[string]string
}

// traffic is idempotent producers and a reader that go on through the deaths
// of a broker, and the history of what they saw.
type traffic struct {
	*checker.History
	t         *testing.T
	addr      string
	streams   []stream
	producers []*kgo.Client
	bytes     atomic.Int64 // acknowledged
	answers   atomic.Int64 // to questions for a topic's bounds

	load   sync.WaitGroup // goroutines that produce
	watch  sync.WaitGroup // goroutines that read and ask
	stop   context.CancelFunc
	unload context.CancelFunc

	mu       sync.Mutex
	position map[int32]int64 // of the live reader in the first stream; guarded by mu
}

// group commits the positions of the live reader.
const group = "watchers"

// newTraffic creates the topics.
func newTraffic(t *testing.T, addr string, streams ...stream) *traffic {
	t.Helper()
	tr := &traffic{History: checker.NewHistory(), t: t, addr: addr, streams: streams, position: map[int32]int64{}}
	admin := kadm.NewClient(tr.client())
	for _, s := range streams {
		settings := map[string]*string{}
		for name, value := range s.settings {
			settings[name] = &value
		}
		if _, err := admin.CreateTopic(t.Context(), s.partitions, 1, settings, s.topic); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

// client makes one that asks again soon: the broker is away for moments only.
func (tr *traffic) client(opts ...kgo.Opt) *kgo.Client {
	tr.t.Helper()
	opts = append([]kgo.Opt{
		kgo.SeedBrokers(tr.addr),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.MetadataMinAge(20 * time.Millisecond),
	}, opts...)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(client.Close)
	return client
}

// start produces with so many producers, each at about bytesPerSecond, and
// reads meanwhile, until finish.
func (tr *traffic) start(producers int, seed uint64, bytesPerSecond int) {
	loading, unload := context.WithCancel(tr.t.Context())
	watching, stop := context.WithCancel(tr.t.Context())
	tr.unload, tr.stop = unload, stop
	tr.t.Cleanup(func() { unload(); stop(); tr.load.Wait(); tr.watch.Wait() })
	lanes := 0
	for _, s := range tr.streams {
		lanes += int(s.partitions)
	}
	pause := time.Second * largestBody / 2 * time.Duration(lanes) / time.Duration(bytesPerSecond)
	for n := range producers {
		client := tr.producer()
		for _, s := range tr.streams {
			for p := range s.partitions {
				rng := rand.New(rand.NewPCG(seed, uint64(len(s.topic))<<32+uint64(n)<<16+uint64(p)))
				tr.load.Go(func() { tr.produce(loading, client, n, s.topic, p, rng, pause) })
			}
		}
	}
	tr.watch.Go(func() { tr.follow(watching) })
	tr.watch.Go(func() { tr.ask(watching) })
}

func (tr *traffic) producer() *kgo.Client {
	client := tr.client(
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.StopProducerOnDataLossDetected(), kgo.MaxBufferedRecords(256),
	)
	tr.producers = append(tr.producers, client)
	return client
}

// produce is one producer's values for one partition, in order.
func (tr *traffic) produce(ctx context.Context, client *kgo.Client, producer int, topic string, p int32, rng *rand.Rand, pause time.Duration) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for sequence := 0; ; sequence++ {
		tr.send(client, producer, topic, p, fmt.Sprintf("%s/%d/%d/%d", topic, p, producer, sequence), 1+rng.IntN(largestBody))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// send gives one value to the client, which sends it until it has an answer.
func (tr *traffic) send(client *kgo.Client, producer int, topic string, p int32, name string, size int) {
	at := checker.Partition{Topic: topic, Number: p}
	tr.Sent(producer, at, name)
	record := &kgo.Record{Topic: topic, Partition: p, Key: []byte(name), Value: bodyOf(name, size)}
	client.Produce(context.WithoutCancel(tr.t.Context()), record, func(r *kgo.Record, err error) {
		switch {
		case err == nil:
			tr.bytes.Add(int64(len(r.Value)))
			tr.Acked(at, name, protocol.Offset(r.Offset))
		case errors.Is(err, kgo.ErrClientClosed):
		default:
			tr.t.Errorf("producer %d gave up on %s: %v", producer, name, err)
		}
	})
}

// largestBody bounds the bytes of a value; the mean is half of it.
const largestBody = 32 << 10

// bodyOf is bytes that only this name has.
func bodyOf(name string, size int) []byte {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(name)) // it never fails
	source := rand.NewPCG(sum.Sum64(), uint64(size))
	body := make([]byte, size)
	for i := 0; i < size; i += 8 {
		word := source.Uint64()
		for k := i; k < min(i+8, size); k++ {
			body[k] = byte(word >> (8 * (k - i)))
		}
	}
	return body
}

// nameOf is the name of what was read, which must have its bytes.
func nameOf(r *kgo.Record) string {
	name := string(r.Key)
	if !bytes.Equal(r.Value, bodyOf(name, len(r.Value))) {
		return name + " with other bytes"
	}
	return name
}

// follow is the live reader: it reads the first stream from its start, through everything.
func (tr *traffic) follow(ctx context.Context) {
	s := tr.streams[0]
	from := map[int32]kgo.Offset{}
	for p := range s.partitions {
		from[p] = kgo.NewOffset().At(0)
	}
	client := tr.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.topic: from}), kgo.FetchMaxWait(100*time.Millisecond))
	defer client.Close()
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		fetches.EachError(func(topic string, p int32, err error) {
			if kafka := (*kerr.Error)(nil); errors.As(err, &kafka) && !kafka.Retriable {
				tr.t.Errorf("live reader, %s/%d: %v", topic, p, err)
			}
		})
		fetches.EachRecord(func(r *kgo.Record) {
			tr.Polled("live", checker.Partition{Topic: r.Topic, Number: r.Partition}, protocol.Offset(r.Offset), nameOf(r))
			tr.mu.Lock()
			tr.position[r.Partition] = r.Offset + 1
			tr.mu.Unlock()
		})
	}
}

// ask asks for bounds and group offsets again and again, as one client does
// whose view must never go back.
func (tr *traffic) ask(ctx context.Context) {
	client := tr.client()
	defer client.Close()
	admin := kadm.NewClient(client)
	committed := map[int32]int64{}
	for ctx.Err() == nil {
		for _, s := range tr.streams {
			if err := tr.askBounds(ctx, admin, s); err == nil { // else the broker is away
				tr.answers.Add(1)
			}
		}
		tr.commit(ctx, admin, committed)
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond): // some twenty rounds a life
		}
	}
}

func (tr *traffic) askBounds(ctx context.Context, admin *kadm.Client, s stream) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answers := map[int32]func(start, end protocol.Offset){}
	for p := range s.partitions {
		answers[p] = tr.Ask(checker.Partition{Topic: s.topic, Number: p})
	}
	starts, err1 := admin.ListStartOffsets(ctx, s.topic)
	ends, err2 := admin.ListEndOffsets(ctx, s.topic)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if err := errors.Join(starts.Error(), ends.Error()); err != nil {
		return err
	}
	for p, answer := range answers {
		start, ok1 := starts.Lookup(s.topic, p)
		end, ok2 := ends.Lookup(s.topic, p)
		if !ok1 || !ok2 {
			return fmt.Errorf("no answer for partition %d", p)
		}
		answer(protocol.Offset(start.Offset), protocol.Offset(end.Offset))
	}
	return nil
}

// commit commits the live reader's position and looks whether what was committed is there.
func (tr *traffic) commit(ctx context.Context, admin *kadm.Client, committed map[int32]int64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	topic := tr.streams[0].topic
	// A topic without a name is one whose id the client could not look up, as the broker was gone by then: no answer.
	if fetched, err := admin.FetchOffsets(ctx, group); err == nil && fetched[""] == nil {
		for p, want := range committed {
			got, ok := fetched.Lookup(topic, p)
			if (ok && got.Err == nil || !ok) && got.At < want {
				tr.t.Errorf("partition %d: the group's offset is %d, %d was committed", p, got.At, want)
			}
		}
	}
	offsets := kadm.Offsets{}
	tr.mu.Lock()
	for p, at := range tr.position {
		offsets.AddOffset(topic, p, at, -1)
	}
	tr.mu.Unlock()
	if answers, err := admin.CommitOffsets(ctx, group, offsets); err == nil {
		answers.Each(func(r kadm.OffsetResponse) {
			if r.Err == nil {
				committed[r.Partition] = r.At
			}
		})
	}
}

// unloaded stops the producers once all that they have sent is acknowledged.
func (tr *traffic) unloaded() {
	tr.t.Helper()
	tr.unload()
	tr.load.Wait()
	ctx, cancel := context.WithTimeout(tr.t.Context(), trafficLimit)
	defer cancel()
	for _, p := range tr.producers {
		if err := p.Flush(ctx); err != nil {
			tr.t.Fatalf("a producer still waits for answers: %v", err)
		}
	}
}

// finish stops the reader too, once it has all.
func (tr *traffic) finish() {
	tr.t.Helper()
	ends := tr.ends()[tr.streams[0].topic]
	harness.Eventually(tr.t, trafficLimit, "the live reader has all", func() error {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		for p, end := range ends {
			if tr.position[p] < end {
				return fmt.Errorf("partition %d: at %d of %d", p, tr.position[p], end)
			}
		}
		return nil
	})
	tr.stop()
	tr.watch.Wait()
}

// bounds asks once more, now that the broker stays.
func (tr *traffic) bounds() {
	tr.t.Helper()
	client := tr.client()
	defer client.Close()
	for _, s := range tr.streams {
		if err := tr.askBounds(tr.t.Context(), kadm.NewClient(client), s); err != nil {
			tr.t.Fatal(err)
		}
	}
}

// ends are the high watermarks.
func (tr *traffic) ends() map[string]map[int32]int64 {
	tr.t.Helper()
	client := tr.client()
	defer client.Close()
	out := map[string]map[int32]int64{}
	for _, s := range tr.streams {
		ends, err := kadm.NewClient(client).ListEndOffsets(tr.t.Context(), s.topic)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			tr.t.Fatal(err)
		}
		out[s.topic] = map[int32]int64{}
		ends.Each(func(o kadm.ListedOffset) { out[o.Topic][o.Partition] = o.Offset })
	}
	return out
}

// replay reads everything from the log starts to the ends as a new reader, and judges the whole history.
func (tr *traffic) replay(reader string) {
	tr.t.Helper()
	ends := tr.ends()
	from := map[string]map[int32]kgo.Offset{}
	left := 0
	for topic, parts := range ends {
		from[topic] = map[int32]kgo.Offset{}
		for p, end := range parts {
			from[topic][p] = kgo.NewOffset().AtStart()
			if end > 0 {
				left++
			}
		}
	}
	client := tr.client(kgo.ConsumePartitions(from), kgo.FetchMaxWait(100*time.Millisecond))
	defer client.Close()
	ctx, cancel := context.WithTimeout(tr.t.Context(), trafficLimit)
	defer cancel()
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			tr.t.Fatalf("%s: %d partitions were not read to their end", reader, left)
		}
		fetches.EachError(func(topic string, p int32, err error) {
			if kafka := (*kerr.Error)(nil); errors.As(err, &kafka) && !kafka.Retriable {
				tr.t.Errorf("%s, %s/%d: %v", reader, topic, p, err)
			}
		})
		fetches.EachRecord(func(r *kgo.Record) {
			tr.Polled(reader, checker.Partition{Topic: r.Topic, Number: r.Partition}, protocol.Offset(r.Offset), nameOf(r))
			if r.Offset+1 == ends[r.Topic][r.Partition] {
				left--
			}
		})
	}
	tr.bounds() // the log start may have moved on since the reader began
	for topic, parts := range ends {
		for p := range parts {
			tr.Final(reader, checker.Partition{Topic: topic, Number: p})
		}
	}
	if found := tr.Check(); len(found) > 0 {
		tr.t.Errorf("%s: %d anomalies\n%s", reader, len(found), strings.TrimSpace(checker.Lines(found)))
	}
}
