package broker_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/stratabroker/strata/broker"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/mem"
	"github.com/stratabroker/strata/tiering/object/objecttest"
)

// node is a broker in this process.
type node struct {
	*broker.Broker
	stop func()
}

func settings(t *testing.T, dir string, pairs ...string) *metadata.Static {
	t.Helper()
	values := map[string]string{
		"node.id": "1", "process.roles": "broker,controller", "listeners": "PLAINTEXT://127.0.0.1:0", "log.dirs": dir,
		"strata.http.listen": "127.0.0.1:0", "strata.bucket.url": "mem://test", "group.initial.rebalance.delay.ms": "0",
	}
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	s, _, err := metadata.NewStatic(values)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	return s
}

// start opens a broker over store and serves until stop.
func start(t *testing.T, dir string, store object.Store, pairs ...string) (node, error) {
	t.Helper()
	b, err := broker.New(t.Context(), broker.Config{
		Static: settings(t, dir, pairs...), Logger: slog.New(slog.DiscardHandler), Store: store, Fatal: func(err error) { t.Error(err) },
	})
	if err != nil {
		return node{}, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	n := node{Broker: b, stop: func() {
		cancel()
		if err, ok := <-done; ok && err != nil {
			t.Error(err)
		}
		close(done)
	}}
	return n, nil
}

func (n node) client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	address := strings.TrimPrefix(n.Listeners()[0], "PLAINTEXT://")
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(address), kgo.AllowAutoTopicCreation())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestABoundClusterDoesNotStartWithoutItsBucket(t *testing.T) {
	dir, store := filepath.Join(t.TempDir(), "d"), mem.New()
	n, err := start(t, dir, store)
	if err != nil {
		t.Fatal(err)
	}
	n.stop()
	if _, err := start(t, dir, nil, "strata.bucket.url", ""); err == nil || !strings.Contains(err.Error(), "strata.bucket.url") {
		t.Fatalf("started without its bucket: %v", err)
	}
	n, err = start(t, dir, store)
	if err != nil {
		t.Fatalf("with its bucket again: %v", err)
	}
	n.stop()
}

func TestABucketThatHangsStopsTheFirstStartAndNoLaterOne(t *testing.T) {
	dir, inner := filepath.Join(t.TempDir(), "d"), mem.New()
	hang := func() object.Store {
		f := objecttest.NewFaulty(inner)
		f.Add(objecttest.Rule{Delay: time.Hour})
		return f
	}
	fresh := filepath.Join(t.TempDir(), "fresh")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := broker.New(ctx, broker.Config{Static: settings(t, fresh), Logger: slog.New(slog.DiscardHandler), Store: hang()})
	if err == nil {
		t.Fatal("the first start went on without its bucket")
	}
	n, err := start(t, dir, inner)
	if err != nil {
		t.Fatal(err)
	}
	c := n.client(t)
	if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("before")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	n.stop()
	if n, err = start(t, dir, hang()); err != nil {
		t.Fatalf("a later start: %v", err)
	}
	defer n.stop()
	c = n.client(t, kgo.ConsumeTopics("t"))
	if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("during")}).FirstErr(); err != nil {
		t.Fatalf("produce while the bucket hangs: %v", err)
	}
	var got []string
	for len(got) < 2 {
		c.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	if got[0] != "before" || got[1] != "during" {
		t.Errorf("%q", got)
	}
}

func TestASecondBrokerOnTheSameFolderIsRefused(t *testing.T) {
	dir, store := filepath.Join(t.TempDir(), "d"), mem.New()
	n, err := start(t, dir, store)
	if err != nil {
		t.Fatal(err)
	}
	defer n.stop()
	if _, err := start(t, dir, store); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("second broker: %v", err)
	}
}

func TestGroupsResumeAfterARestart(t *testing.T) {
	dir, store := filepath.Join(t.TempDir(), "d"), mem.New()
	n, err := start(t, dir, store)
	if err != nil {
		t.Fatal(err)
	}
	c := n.client(t, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit())
	for _, v := range []string{"a", "b"} {
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	var first *kgo.Record
	for first == nil {
		c.PollRecords(t.Context(), 1).EachRecord(func(r *kgo.Record) { first = r })
	}
	if err := c.CommitRecords(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	c.Close()
	n.stop()
	if n, err = start(t, dir, store); err != nil {
		t.Fatal(err)
	}
	defer n.stop()
	c = n.client(t, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit())
	var next string
	for next == "" {
		c.PollRecords(t.Context(), 1).EachRecord(func(r *kgo.Record) { next = string(r.Value) })
	}
	if string(first.Value) != "a" || next != "b" {
		t.Errorf("read %q, then after the restart %q", first.Value, next)
	}
}
