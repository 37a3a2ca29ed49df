package recovery_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object/mem"
)

// world is a bucket and the image that writes it.
type world struct {
	t     *testing.T
	store *mem.Store
	img   *metadata.Image
	index uint64
	rand  uint64
	topic protocol.TopicID
	texts map[int32][]string // of partition: the value of each offset
}

const topicName = "events"

var testTime = time.UnixMilli(1)

// newWorld has a cluster, a bound bucket and a topic of some partitions, without a root.
func newWorld(t *testing.T, partitions int) *world {
	t.Helper()
	w := &world{t: t, store: mem.New(), img: metadata.EmptyImage(), topic: protocol.TopicID{7}, texts: map[int32][]string{}}
	w.apply(&metadata.Command{Kind: &metadatapb.Command_InitCluster{InitCluster: &metadatapb.InitCluster{ClusterId: "c1", StrataVersion: 1}}})
	id := make([]byte, 16)
	id[0] = 1
	w.apply(&metadata.Command{Kind: &metadatapb.Command_RegisterBroker{RegisterBroker: &metadatapb.RegisterBroker{
		Broker: 1, Incarnation: id, Directories: [][]byte{id}, MinVersion: 1, MaxVersion: 1, PreviousEpoch: -1,
	}}})
	broker, _ := w.img.Broker(1)
	w.apply(&metadata.Command{Kind: &metadatapb.Command_SetBrokerFencing{SetBrokerFencing: &metadatapb.SetBrokerFencing{Broker: 1, BrokerEpoch: int64(broker.Epoch)}}})
	w.apply(&metadata.Command{Kind: &metadatapb.Command_BindBucket{BindBucket: &metadatapb.BindBucket{Url: "mem://", Generation: 1}}})
	c := &metadatapb.CreateTopic{Name: topicName, Id: w.topic[:], CreatedMs: 1}
	for range partitions {
		c.Partitions = append(c.Partitions, &metadatapb.PartitionAssignment{Replicas: []int32{1}, Directories: [][]byte{id}})
	}
	w.apply(&metadata.Command{Kind: &metadatapb.Command_CreateTopic{CreateTopic: c}})
	w.put(format.ClusterKey, format.Cluster{ClusterID: "c1", CreatedMs: 1}.Encode())
	w.put(format.OwnerKey, format.Owner{Generation: 1, ClusterID: "c1", SinceMs: 1}.Encode())
	return w
}

func (w *world) apply(c *metadata.Command) {
	w.t.Helper()
	w.index++
	img, _, _, err := metadata.Apply(w.img, c, w.index)
	if err != nil {
		w.t.Fatalf("%v: %v", c, err)
	}
	w.img = img
}

func (w *world) put(key string, b []byte) {
	w.t.Helper()
	if err := w.store.Put(w.t.Context(), key, bytes.NewReader(b), int64(len(b))); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) get(key string) []byte {
	w.t.Helper()
	b, _, err := w.store.GetAll(w.t.Context(), key, 1<<30)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) remove(keys ...string) {
	w.t.Helper()
	if err := w.store.Delete(w.t.Context(), keys); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) attempt() metadata.Attempt { return metadata.Attempt{Generation: 1, Index: w.index} }

func (w *world) row(partition int32) metadata.Partition {
	w.t.Helper()
	p, ok := w.img.Partition(protocol.PartitionKey{Topic: w.topic, Partition: partition})
	if !ok {
		w.t.Fatalf("no partition %d", partition)
	}
	return p
}

func (w *world) load(p metadata.PagePlace) ([]byte, error) {
	return w.store.Get(context.Background(), p.Key, int64(p.Offset), int64(p.Length))
}

// segment uploads one object of batches of three records, some of them in transactions.
func (w *world) segment(partition int32, base protocol.Offset, batches int) format.Entry {
	w.t.Helper()
	var data []byte
	meta := format.SegmentMeta{
		Key: protocol.PartitionKey{Topic: w.topic, Partition: partition}, TopicName: topicName, Base: base, Epoch: 0,
		Epochs: []protocol.EpochStart{{Epoch: 0, Start: base}}, Attempt: w.attempt(), Rand: w.fresh(), ChunkSize: 4 << 10,
	}
	next := base
	for i := range batches {
		b := record.NewBuilder(next)
		texts := make([]string, 3)
		for j := range texts {
			texts[j] = fmt.Sprintf("record %d of partition %d %s", next+protocol.Offset(j), partition, bytes.Repeat([]byte{'.'}, 200))
			b.Add(record.Record{Timestamp: protocol.Timestamp(1_700_000_000_000 + int64(next)*1000 + int64(j)), Key: []byte("k"), Value: []byte(texts[j])})
		}
		b.Transactional = i%5 == 2
		if i%10 == 2 { // aborted
			b.ProducerID, b.ProducerEpoch, b.BaseSequence = 9, 0, 0
			meta.Aborted = append(meta.Aborted, protocol.AbortedTxn{Producer: 9, First: next, Last: next + 3, LastStable: next})
			clear(texts)
		}
		b.Control = i%7 == 6
		if b.Control {
			clear(texts)
		}
		w.texts[partition] = append(w.texts[partition], texts...)
		data = append(data, b.Bytes()...)
		next += 3
	}
	meta.End = next
	s, err := format.BuildSegment(meta, bytes.NewReader(data), int64(len(data)))
	if err != nil {
		w.t.Fatal(err)
	}
	object, err := io.ReadAll(s.Body())
	if err != nil {
		w.t.Fatal(err)
	}
	w.put(meta.ObjectKey(), object)
	return s.Entry(meta.ObjectKey())
}

func (w *world) fresh() uint64 {
	w.rand++
	return w.rand * 0x9e3779b97f4a7c15
}

// upload appends segments to a partition, one manifest version each.
func (w *world) upload(partition int32, segments, batches int) {
	w.t.Helper()
	for range segments {
		e := w.segment(partition, w.row(partition).Manifest.TieredEnd, batches)
		w.commit(partition, format.Edit{Append: []format.Entry{e}})
	}
}

func (w *world) commit(partition int32, e format.Edit) {
	w.t.Helper()
	row := w.row(partition)
	m := format.Manifest{Version: row.Manifest.Version, Root: row.Manifest.Root, Fanout: 4}
	v, err := m.Apply(w.load, e, format.ManifestKey(row.Key, m.Version+1, w.attempt(), w.fresh()), m.Version+1)
	if err != nil {
		w.t.Fatal(err)
	}
	w.put(v.Root.Key, v.Object)
	w.apply(&metadata.Command{Kind: &metadatapb.Command_CommitManifest{CommitManifest: &metadatapb.CommitManifest{
		TopicId: row.Key.Topic[:], Partition: partition, ParentVersion: row.Manifest.Version, Version: v.Version,
		Root:    &metadatapb.PagePlace{Key: v.Root.Key, Offset: v.Root.Offset, Length: v.Root.Length, Crc: v.Root.CRC},
		Attempt: &metadatapb.Attempt{Generation: v.Attempt.Generation, Index: v.Attempt.Index},
		From:    int64(row.Manifest.TieredEnd), TieredEnd: int64(max(row.Manifest.TieredEnd, v.Summary.End)), LeaderEpoch: int32(row.LeaderEpoch),
		Bytes: uint64(v.Summary.ObjectBytes), Segments: uint64(v.Summary.Segments),
	}}})
}

func (w *world) moveLogStart(partition int32, to protocol.Offset) {
	w.t.Helper()
	row := w.row(partition)
	w.apply(&metadata.Command{Kind: &metadatapb.Command_AdvanceLogStarts{AdvanceLogStarts: &metadatapb.AdvanceLogStarts{Rows: []*metadatapb.LogStart{
		{TopicId: row.Key.Topic[:], Partition: partition, Offset: int64(to), LeaderEpoch: int32(row.LeaderEpoch)},
	}}}})
}

// root writes and retains a root and gives its key.
func (w *world) root(at time.Time) string {
	w.t.Helper()
	seq := uint64(1)
	if roots := w.img.Bucket().Roots; len(roots) > 0 {
		seq = roots[len(roots)-1].Seq + 1
	}
	key := format.RootKey(1, seq, w.fresh())
	object, place := format.EncodeRoot(format.Root{
		Generation: 1, Seq: seq, Cut: w.attempt(), AtMs: protocol.Timestamp(at.UnixMilli()), ClusterID: "c1", Image: metadata.MarshalImage(w.img),
	}, key)
	w.put(key, object)
	w.apply(&metadata.Command{Kind: &metadatapb.Command_RetainRoot{RetainRoot: &metadatapb.RetainRoot{
		Seq: seq, Place: &metadatapb.PagePlace{Key: key, Length: place.Length, Crc: place.CRC},
		Cut: &metadatapb.Attempt{Generation: 1, Index: w.index}, AtMs: at.UnixMilli(),
	}}})
	return key
}

// entries gives what a partition's manifest lists.
func (w *world) entries(partition int32) []format.Entry {
	w.t.Helper()
	row := w.row(partition)
	var out []format.Entry
	for e, err := range (format.Manifest{Version: row.Manifest.Version, Root: row.Manifest.Root}).Scan(w.load, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// pages gives the pages of a partition's manifest, the root page first.
func (w *world) pages(partition int32) []metadata.PagePlace {
	w.t.Helper()
	row := w.row(partition)
	var out []metadata.PagePlace
	for p, err := range (format.Manifest{Version: row.Manifest.Version, Root: row.Manifest.Root}).Pages(w.load) {
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// archive is a world with three partitions: one with many segments, one whose beginning has expired, one that is empty.
func archive(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 3)
	w.upload(0, 23, 20)
	w.upload(1, 9, 40)
	w.moveLogStart(1, w.entries(1)[3].Base+5)
	w.commit(1, format.Edit{DropBelow: w.row(1).LogStart})
	w.root(testTime)
	return w
}

func (w *world) flip(key string, at int) {
	w.t.Helper()
	b := slices.Clone(w.get(key))
	b[at] ^= 0x10
	w.put(key, b)
}
