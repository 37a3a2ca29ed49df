package tiering_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object/mem"
	"github.com/stratabroker/strata/tiering/object/objecttest"
	"github.com/stratabroker/strata/tiering/plan"
)

// world is a cluster of one broker with everything in memory.
type world struct {
	t      testing.TB
	bucket *mem.Store
	faulty *objecttest.Faulty
	store  *tracer
	log    *fakeLog
	hot    *fakeHot
	topic  protocol.TopicID
	rand   uint64
}

const testGrace, testInterval = time.Minute, time.Minute

// newWorld makes a bound cluster with one topic of so many partitions, all led by broker 1.
func newWorld(tb testing.TB, partitions int) *world {
	tb.Helper()
	w := unboundWorld(tb, partitions)
	if _, err := tiering.Bind(tb.Context(), tiering.BindConfig{Store: w.store, Metadata: w.log, URL: "mem://", NewDataFolder: true}); err != nil {
		tb.Fatal(err)
	}
	w.store.lines = nil
	return w
}

func unboundWorld(tb testing.TB, partitions int) *world {
	tb.Helper()
	w := &world{t: tb, bucket: mem.New(), log: &fakeLog{img: metadata.EmptyImage()}, hot: &fakeHot{logs: map[protocol.PartitionKey]*hotLog{}}}
	w.faulty = objecttest.NewFaulty(w.bucket)
	tb.Cleanup(func() { _ = w.faulty.Close() })
	w.store = &tracer{Store: w.faulty}
	w.log.traced = w.store.trace
	w.propose(&metadata.Command{Kind: &metadatapb.Command_InitCluster{InitCluster: &metadatapb.InitCluster{ClusterId: "test-cluster", StrataVersion: 1}}})
	w.register(1, false)
	w.topic = w.createTopic("events", partitions)
	return w
}

func (w *world) propose(c *metadata.Command) {
	w.t.Helper()
	if _, err := w.log.Propose(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
}

// register starts broker 1 anew; an unclean start raises the leader epochs.
func (w *world) register(incarnation byte, unclean bool) {
	w.t.Helper()
	old, _ := w.log.Image().Broker(1)
	w.propose(&metadata.Command{Kind: &metadatapb.Command_RegisterBroker{RegisterBroker: &metadatapb.RegisterBroker{
		Broker: 1, Incarnation: bytes.Repeat([]byte{incarnation}, 16), Directories: [][]byte{bytes.Repeat([]byte{7}, 16)},
		MinVersion: 1, MaxVersion: 1, PreviousEpoch: int64(old.Epoch), Unclean: unclean,
	}}})
	now, _ := w.log.Image().Broker(1)
	w.propose(&metadata.Command{Kind: &metadatapb.Command_SetBrokerFencing{SetBrokerFencing: &metadatapb.SetBrokerFencing{
		Broker: 1, BrokerEpoch: int64(now.Epoch), Fenced: false,
	}}})
}

func (w *world) createTopic(name string, partitions int) protocol.TopicID {
	w.t.Helper()
	w.rand++
	id := protocol.TopicID(bytes.Repeat([]byte{byte(w.rand) + 1}, 16))
	c := &metadatapb.CreateTopic{Name: name, Id: id[:]}
	for range partitions {
		c.Partitions = append(c.Partitions, &metadatapb.PartitionAssignment{Replicas: []int32{1}, Directories: [][]byte{bytes.Repeat([]byte{7}, 16)}})
	}
	w.propose(&metadata.Command{Kind: &metadatapb.Command_CreateTopic{CreateTopic: c}})
	w.hot.mu.Lock()
	defer w.hot.mu.Unlock()
	for p := range partitions {
		k := protocol.PartitionKey{Topic: id, Partition: int32(p)}
		w.hot.logs[k] = &hotLog{leading: true, led: tiering.Led{
			Key: k, Topic: name, Epoch: w.row(k).LeaderEpoch, Policy: plan.Policy{RetentionMs: -1, RetentionBytes: -1},
		}}
	}
	return id
}

func (w *world) deleteTopic(id protocol.TopicID) {
	w.t.Helper()
	w.propose(&metadata.Command{Kind: &metadatapb.Command_DeleteTopic{DeleteTopic: &metadatapb.DeleteTopic{Id: id[:]}}})
	w.hot.mu.Lock()
	defer w.hot.mu.Unlock()
	maps.DeleteFunc(w.hot.logs, func(k protocol.PartitionKey, _ *hotLog) bool { return k.Topic == id })
}

func (w *world) key(p int) protocol.PartitionKey {
	return protocol.PartitionKey{Topic: w.topic, Partition: int32(p)}
}

func (w *world) row(k protocol.PartitionKey) metadata.Partition {
	p, _ := w.log.Image().Partition(k)
	return p
}

// seal appends and seals one segment of so many one-record batches of size
// bytes of value, with timestamps from ts on, one apart.
func (w *world) seal(k protocol.PartitionKey, records, size int, ts protocol.Timestamp) {
	w.t.Helper()
	w.hot.mu.Lock()
	defer w.hot.mu.Unlock()
	l := w.hot.logs[k]
	s := hotSegment{r: tiering.SealedRange{Base: l.led.HW, End: l.led.HW + protocol.Offset(records), MaxTimestamp: ts + protocol.Timestamp(records) - 1, Sealed: time.Now()}}
	for i := range records {
		b := record.NewBuilder(l.led.HW + protocol.Offset(i))
		b.LeaderEpoch = l.led.Epoch
		value := bytes.Repeat([]byte{byte(i), byte(k.Partition), byte(l.led.HW)}, size/3+1)[:size]
		b.Add(record.Record{Timestamp: ts + protocol.Timestamp(i), Key: fmt.Appendf(nil, "key %d", l.led.HW+protocol.Offset(i)), Value: value})
		s.batches = append(s.batches, b.Bytes()...)
	}
	s.r.Bytes = int64(len(s.batches))
	s.epochs = []protocol.EpochStart{{Epoch: l.led.Epoch, Start: s.r.Base}}
	l.segments = append(l.segments, s)
	l.led.HW, l.led.LEO = s.r.End, s.r.End
}

func (w *world) setPolicy(k protocol.PartitionKey, p plan.Policy) {
	w.hot.mu.Lock()
	defer w.hot.mu.Unlock()
	w.hot.logs[k].led.Policy = p
}

// source is a deterministic source of name bits, apart for each user.
func (w *world) source() func() uint64 {
	w.rand += 1 << 32
	var n atomic.Uint64
	n.Store(w.rand)
	return func() uint64 { return n.Add(1) * 0x9e3779b97f4a7c15 }
}

func (w *world) archiver() *tiering.Archiver {
	return tiering.NewArchiver(tiering.ArchiverConfig{
		Store: w.store, Metadata: w.log, Hot: w.hot, Fanout: 4, Rand: w.source(), Interval: 30 * time.Second,
	})
}

func (w *world) sweeper() *tiering.Sweeper {
	return tiering.NewSweeper(tiering.SweeperConfig{
		Store: w.store, Metadata: w.log, Grace: testGrace, Interval: testInterval, ListPerSecond: -1,
	})
}

func (w *world) reader() *tiering.Reader {
	r := tiering.NewReader(tiering.ReaderConfig{Store: w.store, Metadata: w.log, Rand: w.source()})
	w.t.Cleanup(r.Close)
	return r
}

// start runs f until the returned stop, or the end of the test.
func (w *world) start(f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f(ctx) })
	stop = func() { cancel(); wg.Wait() }
	w.t.Cleanup(stop)
	return stop
}

// manifest opens the current manifest of a partition.
func (w *world) manifest(img *metadata.Image, k protocol.PartitionKey) format.Manifest {
	p, _ := img.Partition(k)
	return format.Manifest{Version: p.Manifest.Version, Root: p.Manifest.Root}
}

func (w *world) load(p metadata.PagePlace) ([]byte, error) {
	return w.bucket.Get(context.Background(), p.Key, int64(p.Offset), int64(p.Length))
}

// checkBucket is P5 and half of P7: what the manifests name is in the bucket, whole, and holds the bytes of the hot log.
func (w *world) checkBucket() {
	w.t.Helper()
	img := w.log.Image()
	for row := range img.AllPartitions() {
		next := protocol.Offset(-1)
		for e, err := range w.manifest(img, row.Key).Scan(w.load, row.LogStart) {
			if err != nil {
				w.t.Fatalf("%s: %v", row.Key, err)
			}
			if next >= 0 && e.Base != next {
				w.t.Errorf("%s: entry [%d, %d) after %d", row.Key, e.Base, e.End, next)
			}
			next = e.End
			w.checkObject(row.Key, e)
		}
		if next >= 0 && next != row.Manifest.TieredEnd {
			w.t.Errorf("%s: entries end at %d, the tiered end is %d", row.Key, next, row.Manifest.TieredEnd)
		}
		if next < 0 && row.Manifest.TieredEnd != row.LogStart {
			w.t.Errorf("%s: no entries of [%d, %d)", row.Key, row.LogStart, row.Manifest.TieredEnd)
		}
	}
}

func (w *world) checkObject(k protocol.PartitionKey, e format.Entry) {
	w.t.Helper()
	body, _, err := w.bucket.GetAll(context.Background(), e.ObjectKey, 1<<30)
	if err != nil {
		w.t.Errorf("manifest of %s names what is not there: %v", k, err)
		return
	}
	_, x, err := format.OpenSegment(bytes.NewReader(body), int64(len(body)))
	if err == nil {
		err = x.Verify(bytes.NewReader(body))
	}
	if err != nil || !bytes.Equal(body[:e.DataBytes], w.written(k, e.Base, e.End)) {
		w.t.Errorf("object %s is not what the hot log held: %v", e.ObjectKey, err)
	}
}

// written gives the hot log's batches that hold [from, to).
func (w *world) written(k protocol.PartitionKey, from, to protocol.Offset) []byte {
	w.hot.mu.Lock()
	defer w.hot.mu.Unlock()
	var out []byte
	for _, s := range w.hot.logs[k].segments {
		for rest := s.batches; len(rest) > 0; {
			b, next, err := record.Split(rest)
			if err != nil {
				panic(err)
			}
			if b.NextOffset() > from && b.BaseOffset() < to {
				out = append(out, b...)
			}
			rest = next
		}
	}
	return out
}

// reachable lists every key that the image or a retained root reaches.
func (w *world) reachable() map[string]bool {
	w.t.Helper()
	keys := map[string]bool{format.ClusterKey: true, format.OwnerKey: true}
	images := []*metadata.Image{w.log.Image()}
	for _, r := range images[0].Bucket().Roots {
		keys[r.Place.Key] = true
		body, err := w.load(r.Place)
		if err != nil {
			w.t.Fatalf("retained root %d: %v", r.Seq, err)
		}
		root, err := format.DecodeRoot(body)
		if err != nil {
			w.t.Fatalf("retained root %d: %v", r.Seq, err)
		}
		img, err := metadata.UnmarshalImage(root.Image)
		if err != nil {
			w.t.Fatal(err)
		}
		images = append(images, img)
	}
	for _, img := range images {
		for row := range img.AllPartitions() {
			m := w.manifest(img, row.Key)
			for p, err := range m.Pages(w.load) {
				if err != nil {
					w.t.Fatalf("pages of %s at index %d: %v", row.Key, img.Index(), err)
				}
				keys[p.Key] = true
			}
			for e, err := range m.Scan(w.load, 0) {
				if err != nil {
					w.t.Fatalf("entries of %s at index %d: %v", row.Key, img.Index(), err)
				}
				keys[e.ObjectKey] = true
			}
		}
	}
	return keys
}

// orphans lists what nothing reaches.
func (w *world) orphans() []string {
	w.t.Helper()
	keys := w.reachable()
	for key := range keys {
		if !slices.Contains(w.bucket.Keys(), key) {
			w.t.Errorf("%s is reached and not there", key)
		}
	}
	return slices.DeleteFunc(w.bucket.Keys(), func(k string) bool { return keys[k] })
}

// checkReplay reads a partition from its log start to its tiered end in small steps and compares it with the hot log.
func (w *world) checkReplay(r *tiering.Reader, k protocol.PartitionKey) {
	w.t.Helper()
	row := w.row(k)
	var got []byte
	for from := row.LogStart; from < row.Manifest.TieredEnd; {
		f, err := r.Read(w.t.Context(), k, from, 2000, true)
		if err != nil {
			w.t.Fatalf("read %s from %d: %v", k, from, err)
		}
		if f.Next <= from {
			w.t.Fatalf("read %s from %d goes on at %d", k, from, f.Next)
		}
		got, from = append(got, f.Batches...), f.Next
	}
	if want := w.written(k, row.LogStart, row.Manifest.TieredEnd); !bytes.Equal(got, want) {
		w.t.Errorf("replay of %s gives %d bytes, written were %d", k, len(got), len(want))
	}
}

// rootWriter makes a root writer that follows the log.
func (w *world) rootWriter() *tiering.RootWriter {
	r := tiering.NewRootWriter(tiering.RootWriterConfig{Store: w.store, Metadata: w.log, Rand: w.source()})
	w.log.subscribe(r.Changed)
	r.Changed(metadata.Diff(metadata.EmptyImage(), w.log.Image()), w.log.Image())
	return r
}
