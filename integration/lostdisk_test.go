package integration_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/recovery"
)

const (
	lostTopic      = "events"
	lostPartitions = 2
	lostGroup      = "readers"
	lostLimit      = time.Minute
)

// lostDisks is a broker whose disk is lost again and again, and what its clients were told.
type lostDisks struct {
	t      *testing.T
	bucket *harness.Bucket
	broker *harness.Broker
	rng    *rand.Rand

	id      kadm.TopicID
	values  [lostPartitions][]string // acknowledged, by offset
	safe    [lostPartitions]int64    // below it all was in the bucket before the disk was lost
	commits int64                    // of partition 0, in the bucket
	sent    int
	early   int // restores that were killed
	lost    int // acknowledged records that were not in the bucket
}

// TestLostDisksComeBackFromTheBucket kills a broker with -9 under load, removes its data folder and restores
// it from MinIO by MinIO's own client: everything up to the tiered end is there and equal. Half of the restores are
// killed on their way. STRATA_TEST_LOST_DISKS says how many disks, STRATA_TEST_SEED repeats the moments.
func TestLostDisksComeBackFromTheBucket(t *testing.T) {
	rounds := int(numberOf(t, "STRATA_TEST_LOST_DISKS", 3))
	seed := numberOf(t, "STRATA_TEST_SEED", rand.Uint64())
	bucket := harness.MinIOBucket(t)
	w := &lostDisks{t: t, bucket: bucket, rng: rand.New(rand.NewPCG(seed, 0))}
	w.broker = harness.Start(t, harness.Options{Server: true, Bucket: bucket.ByMinIO(), Env: bucket.Env, Set: map[string]string{
		"log.roll.ms": "300", "log.retention.check.interval.ms": "100", "remote.log.manager.task.interval.ms": "200",
		"offsets.topic.num.partitions": "4", "strata.sweep.grace.ms": "2000", "strata.sweep.interval.ms": "1000",
	}})
	w.create()
	begun := time.Now()
	for round := range rounds {
		w.write(100 + w.rng.IntN(400))
		w.commit()
		w.awaitTiered()
		w.write(1 + w.rng.IntN(300)) // of which some may be in the bucket when the disk is lost
		<-time.After(time.Duration(w.rng.Int64N(int64(500 * time.Millisecond))))
		w.lose()
		w.check()
		bucket.VerifyClean()
		if t.Failed() {
			t.Fatalf("disk %d of %d (seed %d)", round+1, rounds, seed)
		}
	}
	report(t, "%d lost disks (seed %d, %d restores killed on their way) in %s: %d records written, all up to the tiered end came back; %d acknowledged ones beyond it were lost",
		rounds, seed, w.early, time.Since(begun).Round(time.Second), w.sent, w.lost)
}

func (w *lostDisks) client() (*kgo.Client, *kadm.Client) {
	c := w.broker.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	return c, kadm.NewClient(c)
}

func (w *lostDisks) create() {
	w.t.Helper()
	c, admin := w.client()
	defer c.Close()
	forever := "-1"
	created, err := admin.CreateTopic(w.t.Context(), lostPartitions, 1, map[string]*string{"retention.ms": &forever}, lostTopic)
	if err != nil {
		w.t.Fatal(err)
	}
	w.id = created.ID
}

// write produces records and notes where they were acknowledged.
func (w *lostDisks) write(count int) {
	w.t.Helper()
	c, _ := w.client()
	defer c.Close()
	var records []*kgo.Record
	for range count {
		records = append(records, &kgo.Record{Topic: lostTopic, Partition: int32(w.rng.IntN(lostPartitions)), Value: fmt.Appendf(nil, "record %d %x", w.sent, w.rng.Uint64())})
		w.sent++
	}
	for _, r := range c.ProduceSync(w.t.Context(), records...) {
		if r.Err != nil {
			w.t.Fatal(r.Err)
		}
		if at := int64(len(w.values[r.Record.Partition])); r.Record.Offset != at {
			w.t.Fatalf("%s-%d: acknowledged at %d, the log should end at %d", lostTopic, r.Record.Partition, r.Record.Offset, at)
		}
		w.values[r.Record.Partition] = append(w.values[r.Record.Partition], string(r.Record.Value))
	}
}

func (w *lostDisks) commit() {
	w.t.Helper()
	c, admin := w.client()
	defer c.Close()
	w.commits = int64(len(w.values[0]))
	var offsets kadm.Offsets
	offsets.AddOffset(lostTopic, 0, w.commits, -1)
	if err := admin.CommitAllOffsets(w.t.Context(), lostGroup, offsets); err != nil {
		w.t.Fatal(err)
	}
}

// tiered is how far the newest root has a topic.
func (w *lostDisks) tiered(topic string) (map[int32]int64, error) {
	b, err := recovery.Open(w.t.Context(), w.bucket.Store)
	if err != nil {
		return nil, err
	}
	t, ok := b.Image.Topic(topic)
	if !ok {
		return nil, fmt.Errorf("the root has no topic %s", topic)
	}
	ends := map[int32]int64{}
	for p := range b.Image.Partitions(t.ID) {
		ends[p.Key.Partition] = int64(p.Manifest.TieredEnd)
	}
	return ends, nil
}

// awaitTiered waits until the bucket has all there is.
func (w *lostDisks) awaitTiered() {
	w.t.Helper()
	c, admin := w.client()
	defer c.Close()
	for _, topic := range []string{lostTopic, "__consumer_offsets"} {
		harness.Eventually(w.t, lostLimit, topic+" is in the bucket", func() error {
			listed, err := admin.ListEndOffsets(w.t.Context(), topic)
			if err != nil {
				return err
			}
			ends, err := w.tiered(topic)
			if err != nil {
				return err
			}
			var behind error
			listed.Each(func(o kadm.ListedOffset) {
				if ends[o.Partition] != o.Offset {
					behind = fmt.Errorf("%s-%d is tiered up to %d of %d", topic, o.Partition, ends[o.Partition], o.Offset)
				}
			})
			return behind
		})
	}
	for p := range w.values {
		w.safe[p] = int64(len(w.values[p]))
	}
}

// lose kills the broker, removes its folder and restores it.
func (w *lostDisks) lose() {
	w.t.Helper()
	w.broker.Kill9()
	if err := os.RemoveAll(w.broker.DataDir); err != nil {
		w.t.Fatal(err)
	}
	w.broker.Args = []string{"--restore", w.broker.Bucket + "@latest"}
	for w.rng.IntN(2) == 0 {
		o := w.broker.Options
		o.Args = append([]string{"--set", "listeners=PLAINTEXT://" + w.broker.Addr, "--set", "strata.http.listen=" + w.broker.HTTP}, o.Args...)
		attempt := harness.Launch(w.t, o)
		<-time.After(time.Duration(w.rng.Int64N(int64(400 * time.Millisecond))))
		attempt.Kill9()
		w.early++
		if _, err := os.Stat(filepath.Join(w.broker.DataDir, "strata-restore")); err == nil && w.rng.IntN(2) == 0 {
			w.broker.Args = nil // a plain start goes on as well
		}
	}
	w.broker.Again()
}

// check compares what came back with what was acknowledged.
func (w *lostDisks) check() {
	w.t.Helper()
	c, admin := w.client()
	defer c.Close()
	topics, err := admin.ListTopics(w.t.Context(), lostTopic)
	if err != nil || topics[lostTopic].ID != w.id {
		w.t.Errorf("topic %s has id %v, it had %v, %v", lostTopic, topics[lostTopic].ID, w.id, err)
	}
	listed, err := admin.ListEndOffsets(w.t.Context(), lostTopic)
	if err != nil {
		w.t.Fatal(err)
	}
	for p := range int32(lostPartitions) {
		end, _ := listed.Lookup(lostTopic, p)
		switch {
		case end.Offset < w.safe[p]:
			w.t.Errorf("%s-%d ends at %d, all up to %d was in the bucket", lostTopic, p, end.Offset, w.safe[p])
			continue
		case end.Offset > int64(len(w.values[p])):
			w.t.Errorf("%s-%d ends at %d, written were %d", lostTopic, p, end.Offset, len(w.values[p]))
			continue
		}
		w.lost += len(w.values[p]) - int(end.Offset)
		w.values[p] = w.values[p][:end.Offset]
		w.compare(p)
	}
	got, err := admin.FetchOffsets(w.t.Context(), lostGroup)
	if err != nil {
		w.t.Fatal(err)
	}
	if o, _ := got.Lookup(lostTopic, 0); o.At != w.commits {
		w.t.Errorf("group %s is at %d, it committed %d", lostGroup, o.At, w.commits)
	}
}

// compare reads a partition from its first record on.
func (w *lostDisks) compare(p int32) {
	w.t.Helper()
	reader := w.broker.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{lostTopic: {p: kgo.NewOffset().At(0)}}))
	defer reader.Close()
	for next := protocol.Offset(0); int(next) < len(w.values[p]); {
		fetches := reader.PollFetches(w.t.Context())
		if err := fetches.Err(); err != nil {
			w.t.Fatal(err)
		}
		for _, r := range fetches.Records() {
			if r.Offset != int64(next) || string(r.Value) != w.values[p][next] {
				w.t.Fatalf("%s-%d at %d: got %q at %d, acknowledged was %q", lostTopic, p, next, r.Value, r.Offset, w.values[p][next])
			}
			next++
		}
	}
}
