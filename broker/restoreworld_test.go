package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/stratabroker/strata/broker"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/mem"
	"github.com/stratabroker/strata/tiering/recovery"
)

// sealing makes everything sealed, and so tiered, soon after it was written.
var sealing = []string{
	"log.roll.ms", "100", "log.retention.check.interval.ms", "50", "offsets.topic.num.partitions", "2", "num.partitions", "2",
}

// lost is a broker that lost its disk: its bucket, and what its clients saw.
type lost struct {
	store   *mem.Store
	records map[string][]string // by topic: "partition/offset key=value"
	ends    map[string]map[int32]int64
	ids     map[string]kadm.TopicID
	configs map[string]string // of the topic events
	offsets map[string]int64  // by group, of events-0
}

const groupsLost = 3

// loseDisk writes a cluster's life into a new bucket and loses the disk.
func loseDisk(t *testing.T) *lost {
	t.Helper()
	l := &lost{store: mem.New(), offsets: map[string]int64{}}
	n, err := start(t, filepath.Join(t.TempDir(), "first"), l.store, sealing...)
	if err != nil {
		t.Fatal(err)
	}
	defer n.stop()
	c := n.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	adm := kadm.NewClient(c)
	keep, off, compact := "86400001", "false", "compact"
	for name, configs := range map[string]map[string]*string{
		"events": {"delete.retention.ms": &keep}, "hot": {"remote.storage.enable": &off}, "last": {"cleanup.policy": &compact, "min.compaction.lag.ms": &keep}, // what came back is compared record by record
	} {
		if _, err := adm.CreateTopic(t.Context(), 2, 1, configs, name); err != nil {
			t.Fatal(err)
		}
	}
	write := func(topic string, count int) {
		var records []*kgo.Record
		for i := range count {
			records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % 2), Key: fmt.Appendf(nil, "k%d", i%7), Value: fmt.Appendf(nil, "%s %d", topic, i)})
		}
		if err := c.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	write("events", 200)
	write("hot", 20)
	write("last", 50)
	for i := range groupsLost {
		l.commit(t, adm, fmt.Sprint("group-", i), int64(30+i))
	}
	var beyond kadm.Offsets
	beyond.AddOffset("hot", 0, 10, -1) // of which nothing comes back
	if err := adm.CommitAllOffsets(t.Context(), "beyond", beyond); err != nil {
		t.Fatal(err)
	}
	n.awaitTiered(t, l.store, "events", "last", "__consumer_offsets")
	l.look(t, c)
	return l
}

func (l *lost) commit(t *testing.T, adm *kadm.Client, group string, at int64) {
	t.Helper()
	var offsets kadm.Offsets
	offsets.AddOffset("events", 0, at, -1)
	if err := adm.CommitAllOffsets(t.Context(), group, offsets); err != nil {
		t.Fatal(err)
	}
	l.offsets[group] = at
}

// look notes what there is to read.
func (l *lost) look(t *testing.T, c *kgo.Client) {
	t.Helper()
	adm := kadm.NewClient(c)
	topics, err := adm.ListTopicsWithInternal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.ids, l.records, l.ends = map[string]kadm.TopicID{}, map[string][]string{}, map[string]map[int32]int64{}
	for name, d := range topics {
		l.ids[name] = d.ID
		l.records[name], l.ends[name] = read(t, c, name)
	}
	l.configs = configsOf(t, adm)
}

func configsOf(t *testing.T, adm *kadm.Client) map[string]string {
	t.Helper()
	got, err := adm.DescribeTopicConfigs(t.Context(), "events")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range got[0].Configs {
		out[e.Key] = e.MaybeValue()
	}
	return out
}

// read gives all records of a topic, and its ends.
func read(t *testing.T, c *kgo.Client, topic string) ([]string, map[int32]int64) {
	t.Helper()
	adm := kadm.NewClient(c)
	starts, err := adm.ListStartOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	listed, err := adm.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	ends, from, left := map[int32]int64{}, map[int32]kgo.Offset{}, 0
	listed.Each(func(o kadm.ListedOffset) {
		ends[o.Partition] = o.Offset
		if first, _ := starts.Lookup(topic, o.Partition); first.Offset < o.Offset {
			from[o.Partition] = kgo.NewOffset().At(first.Offset)
			left++
		}
	})
	if left == 0 {
		return nil, ends
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.OptValue("SeedBrokers").([]string)...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	byPartition := map[int32][]string{}
	done := map[int32]bool{}
	for len(done) < left {
		fetches := reader.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			byPartition[r.Partition] = append(byPartition[r.Partition], fmt.Sprintf("%d/%d %s=%x", r.Partition, r.Offset, r.Key, r.Value))
			if r.Offset+1 >= ends[r.Partition] {
				done[r.Partition] = true
			}
		})
	}
	var all []string
	for p := range int32(len(ends)) {
		all = append(all, byPartition[p]...)
	}
	return all, ends
}

// awaitTiered waits until the newest root has all of the topics.
func (n node) awaitTiered(t *testing.T, store object.Store, topics ...string) {
	t.Helper()
	adm := kadm.NewClient(n.client(t))
	await(t, "all is in the bucket", func() error {
		ends, err := adm.ListEndOffsets(t.Context(), topics...)
		if err != nil {
			return err
		}
		b, err := recovery.Open(t.Context(), store)
		if err != nil {
			return err
		}
		var behind error
		ends.Each(func(o kadm.ListedOffset) {
			topic, _ := b.Image.Topic(o.Topic)
			for p := range b.Image.Partitions(topic.ID) {
				if p.Key.Partition == o.Partition && int64(p.Manifest.TieredEnd) != o.Offset {
					behind = fmt.Errorf("%s-%d is tiered up to %d of %d", o.Topic, o.Partition, p.Manifest.TieredEnd, o.Offset)
				}
			}
		})
		return behind
	})
}

func await(t *testing.T, what string, ok func() error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		<-tick.C
	}
}

// restored starts on dir with Restore as given.
func restored(t *testing.T, dir, target string, store object.Store, logger *slog.Logger, pairs ...string) (node, error) {
	t.Helper()
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	b, err := broker.New(t.Context(), broker.Config{
		Static: settings(t, dir, append(pairs, sealing...)...), Logger: logger, Store: store, Restore: target, Fatal: func(err error) { t.Error(err) },
	})
	if err != nil {
		return node{}, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	return node{Broker: b, stop: func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}}, nil
}

// check compares a restored broker with what was lost.
func (l *lost) check(t *testing.T, n node) {
	t.Helper()
	c := n.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	adm := kadm.NewClient(c)
	now := &lost{}
	now.look(t, c)
	for name, want := range l.records {
		if now.ids[name] != l.ids[name] {
			t.Errorf("topic %s has id %v, it had %v", name, now.ids[name], l.ids[name])
		}
		if name == "hot" {
			want = nil // it was never in the bucket
		} else if fmt.Sprint(now.ends[name]) != fmt.Sprint(l.ends[name]) && name != "__consumer_offsets" { // which gets what is set back
			t.Errorf("%s ends at %v, it ended at %v", name, now.ends[name], l.ends[name])
		}
		got := now.records[name]
		if name == "__consumer_offsets" && len(got) > len(want) {
			continue // its records come back through the groups, see below
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: %d records, want %d:\n%v\n%v", name, len(got), len(want), got, want)
		}
	}
	if fmt.Sprint(now.configs) != fmt.Sprint(l.configs) {
		t.Errorf("settings %v, they were %v", now.configs, l.configs)
	}
	for group, want := range l.offsets {
		await(t, "offsets of "+group, func() error {
			got, err := adm.FetchOffsets(t.Context(), group)
			if err != nil {
				return err
			}
			if o, _ := got.Lookup("events", 0); o.At != want {
				return fmt.Errorf("%d, want %d", o.At, want)
			}
			return nil
		})
	}
	if got, err := adm.FetchOffsets(t.Context(), "beyond"); err != nil {
		t.Error(err)
	} else if o, _ := got.Lookup("hot", 0); o.At != 0 {
		t.Errorf("the offset beyond the end of hot-0 is %d: the records from 0 to there would be missed", o.At)
	}
	if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Partition: 0, Value: []byte("after")}, &kgo.Record{Topic: "hot", Partition: 1, Value: []byte("after")}).FirstErr(); err != nil {
		t.Errorf("produce after the restore: %v", err)
	}
	if _, ends := read(t, c, "events"); ends[0] != l.ends["events"][0]+1 {
		t.Errorf("events-0 ends at %d after one more record, it ended at %d", ends[0], l.ends["events"][0])
	}
}

func verifyClean(t *testing.T, store object.Store) {
	t.Helper()
	report, err := recovery.Verify(t.Context(), store, recovery.Options{Parallel: 2, Found: func(a recovery.Anomaly) { t.Error(a) }})
	if err != nil || !report.Clean() {
		t.Errorf("bucket verify: %v, %v", report, err)
	}
}

// copyOf is the bucket as it is now.
func copyOf(t *testing.T, store object.Store) *mem.Store {
	t.Helper()
	out := mem.New()
	for info, err := range store.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		body, _, err := store.GetAll(t.Context(), info.Key, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Put(t.Context(), info.Key, strings.NewReader(string(body)), info.Size); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// dying is a store that ends with its process: after left calls nothing works any more. Where the last one
// is a write it lands, and its answer is lost.
type dying struct {
	object.Store
	left atomic.Int64
}

// errDied is of a kind that nobody asks again for.
var errDied = fmt.Errorf("the process has died: %w", object.ErrInvalidKey)

func (d *dying) call(ctx context.Context) (context.Context, func() error, error) {
	switch left := d.left.Add(-1); {
	case left < 0:
		return ctx, nil, errDied
	case left == 0:
		return ctx, func() error { return errDied }, nil
	}
	return ctx, func() error { return nil }, nil
}

func (d *dying) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	_, after, err := d.call(ctx)
	if err != nil {
		return err
	}
	return errors.Join(d.Store.Put(ctx, key, body, size), after())
}

func (d *dying) PutIf(ctx context.Context, key string, body []byte, match string) (string, error) {
	_, after, err := d.call(ctx)
	if err != nil {
		return "", err
	}
	version, err := d.Store.PutIf(ctx, key, body, match)
	return version, errors.Join(err, after())
}

func (d *dying) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	_, after, err := d.call(ctx)
	if err != nil {
		return nil, err
	}
	b, err := d.Store.Get(ctx, key, offset, length)
	return b, errors.Join(err, after())
}

func (d *dying) GetAll(ctx context.Context, key string, limit int64) ([]byte, string, error) {
	_, after, err := d.call(ctx)
	if err != nil {
		return nil, "", err
	}
	b, version, err := d.Store.GetAll(ctx, key, limit)
	return b, version, errors.Join(err, after())
}

func (d *dying) Delete(ctx context.Context, keys []string) error {
	_, after, err := d.call(ctx)
	if err != nil {
		return err
	}
	return errors.Join(d.Store.Delete(ctx, keys), after())
}

func (d *dying) List(ctx context.Context, prefix, after string) iter.Seq2[object.Info, error] {
	if _, _, err := d.call(ctx); err != nil {
		return func(yield func(object.Info, error) bool) { yield(object.Info{}, err) }
	}
	return d.Store.List(ctx, prefix, after)
}
