package replica_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// world is one broker's replicas over a file system in memory and a metadata
// log that applies at once.
type world struct {
	t    testing.TB
	fs   *vfs.Mem
	dir  *log.Dir
	m    *replica.Manager
	cold replica.Cold

	static *metadata.Static
	broken bool // a log is offline, so that the directory cannot be closed cleanly

	mu    sync.Mutex
	img   *metadata.Image
	epoch int64
}

const self = protocol.BrokerID(1)

func newWorld(tb testing.TB, settings ...string) *world {
	tb.Helper()
	values := map[string]string{"node.id": "1", "strata.bucket.url": "mem://test", "strata.disk.reserve.bytes": "0"}
	for i := 0; i < len(settings); i += 2 {
		values[settings[i]] = settings[i+1]
	}
	static, _, err := metadata.NewStatic(values)
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{t: tb, fs: vfs.NewMem(), static: static, img: metadata.EmptyImage(), cold: noBucket{}}
	if err := w.fs.MkdirAll("/d"); err != nil {
		tb.Fatal(err)
	}
	w.open()
	dirID := make([]byte, 16)
	dirID[0] = 1
	w.do(&metadatapb.Command_InitCluster{InitCluster: &metadatapb.InitCluster{ClusterId: "c", StrataVersion: 1}})
	r := w.do(&metadatapb.Command_RegisterBroker{RegisterBroker: &metadatapb.RegisterBroker{
		Broker: 1, Incarnation: dirID, Directories: [][]byte{dirID}, PreviousEpoch: -1, MinVersion: 1, MaxVersion: 1,
		Listeners: []*metadatapb.Listener{{Name: "PLAINTEXT", Protocol: "PLAINTEXT", Host: "h", Port: 1}},
	}})
	w.epoch = int64(r.BrokerEpoch)
	w.do(&metadatapb.Command_SetBrokerFencing{SetBrokerFencing: &metadatapb.SetBrokerFencing{Broker: 1, BrokerEpoch: w.epoch}})
	tb.Cleanup(w.close)
	return w
}

// open makes the directory and the replicas, with w.cold as it is then.
func (w *world) open() {
	w.t.Helper()
	var err error
	w.dir, err = log.OpenDir(log.DirConfig{
		FS: w.fs, Path: "/d", MaxOpenFiles: 64, Fsync: true, BootID: "b", Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.m = replica.NewManager(replica.Config{
		Self: self, Dir: w.dir, Static: w.static, Propose: w.propose, Cold: w.cold, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
}

func (w *world) close() {
	w.m.Close()
	if err := w.dir.Close(true); (err != nil) != w.broken {
		w.t.Errorf("close: %v, a broken log: %t", err, w.broken)
	}
}

// restart stops and starts the broker; between does what happens meanwhile.
func (w *world) restart(between func()) {
	w.t.Helper()
	w.close()
	between()
	w.open()
	if err := w.m.Load(w.t.Context(), w.img); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) propose(_ context.Context, cmd *metadata.Command) (metadata.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	img, delta, result, err := metadata.Apply(w.img, cmd, w.img.Index()+1)
	w.img = img
	if err == nil {
		w.m.Apply(delta, img)
	}
	return result, err
}

// do proposes what must be accepted. kind is one of metadatapb.Command_*.
func (w *world) do(kind any) metadata.Result {
	w.t.Helper()
	r, err := w.propose(w.t.Context(), command(w.t, kind))
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func command(tb testing.TB, kind any) *metadata.Command {
	tb.Helper()
	switch k := kind.(type) {
	case *metadatapb.Command_InitCluster:
		return &metadata.Command{Kind: k}
	case *metadatapb.Command_RegisterBroker:
		return &metadata.Command{Kind: k}
	case *metadatapb.Command_SetBrokerFencing:
		return &metadata.Command{Kind: k}
	case *metadatapb.Command_CreateTopic:
		return &metadata.Command{Kind: k}
	case *metadatapb.Command_DeleteTopic:
		return &metadata.Command{Kind: k}
	case *metadatapb.Command_AdvanceLogStarts:
		return &metadata.Command{Kind: k}
	case *metadatapb.Command_AlterConfigs:
		return &metadata.Command{Kind: k}
	case *metadatapb.Command_CommitManifest:
		return &metadata.Command{Kind: k}
	case *metadatapb.Command_BindBucket:
		return &metadata.Command{Kind: k}
	}
	tb.Fatalf("unknown kind %T", kind)
	return nil
}

// raiseEpochs registers the broker anew after an unclean stop, which raises the epochs of all it leads.
func (w *world) raiseEpochs() {
	w.t.Helper()
	incarnation, dirID := make([]byte, 16), make([]byte, 16)
	incarnation[0], dirID[0] = 9, 1
	w.do(&metadatapb.Command_RegisterBroker{RegisterBroker: &metadatapb.RegisterBroker{
		Broker: 1, Incarnation: incarnation, Directories: [][]byte{dirID}, PreviousEpoch: w.epoch, MinVersion: 1, MaxVersion: 1, Unclean: true,
	}})
}

// topic creates a topic and returns its leaders.
func (w *world) topic(name string, partitions int32, configs ...string) []*replica.Leader {
	w.t.Helper()
	id := make([]byte, 16)
	copy(id, name)
	id[15] = byte(w.img.Index())
	cmd := &metadatapb.CreateTopic{Name: name, Id: id}
	var err error
	if cmd.Partitions, err = metadata.PlaceReplicas(w.img, partitions, 1, 0); err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(configs); i += 2 {
		cmd.Configs = append(cmd.Configs, &metadatapb.Config{Name: configs[i], Value: &configs[i+1]})
	}
	w.do(&metadatapb.Command_CreateTopic{CreateTopic: cmd})
	out := make([]*replica.Leader, partitions)
	for i := range out {
		if out[i], err = w.m.Get(protocol.PartitionKey{Topic: protocol.TopicID(id), Partition: int32(i)}); err != nil {
			w.t.Fatal(err)
		}
	}
	return out
}

// batch is one uncompressed batch of n records with values of size bytes.
func batch(n, size int) record.Batch {
	b := record.NewBuilder(0)
	for range n {
		b.Add(record.Record{Timestamp: protocol.Timestamp(time.Now().UnixMilli()), Key: []byte("k"), Value: make([]byte, size)})
	}
	return b.Bytes()
}

// produce appends with acks=all and waits for the answer.
func produce(t *testing.T, l *replica.Leader, b record.Batch) (replica.Appended, error) {
	t.Helper()
	type answer struct {
		a   replica.Appended
		err error
	}
	done := make(chan answer, 1)
	l.Append(b, replica.AcksAll, time.Now(), func(a replica.Appended, err error) { done <- answer{a, err} })
	got := <-done
	return got.a, got.err
}

// fetch reads and gives what came, with the bytes of each partition.
func fetch(w *world, parts []replica.FetchPartition, o replica.FetchOptions) ([]replica.FetchResult, []int) {
	done := make(chan []replica.FetchResult, 1)
	w.fetchAll(parts, o, func(r []replica.FetchResult) { done <- r })
	results := <-done
	sizes := make([]int, len(results))
	for i, r := range results {
		if r.Records != nil {
			sizes[i] = r.Records.Len()
			r.Records.Release()
		}
	}
	return results, sizes
}

// fetchAll is a fetch without a session.
func (w *world) fetchAll(parts []replica.FetchPartition, o replica.FetchOptions, reply func([]replica.FetchResult)) {
	s := w.set()
	s.Fetch(replica.FetchRequest{FetchOptions: o, Put: parts, Full: true, Reply: func(r []replica.FetchResult) {
		s.Close()
		reply(r)
	}})
}

// set is empty.
func (w *world) set() *replica.FetchSet {
	return w.m.NewFetchSet(w.cold, func(k replica.FetchKey) (*replica.Leader, error) {
		return w.m.Get(protocol.PartitionKey{Topic: k.Topic, Partition: k.Partition})
	})
}

// noBucket fails every read: these tests keep all in the hot tier.
type noBucket struct{}

func (noBucket) Read(context.Context, protocol.PartitionKey, protocol.Offset, int, bool) (replica.ColdBatches, error) {
	return replica.ColdBatches{}, replica.ErrNoCold
}

func (noBucket) OffsetForTime(context.Context, protocol.PartitionKey, protocol.Timestamp, protocol.Offset) (replica.Found, bool, error) {
	return replica.Found{}, false, replica.ErrNoCold
}

func (noBucket) MaxTimestamp(context.Context, protocol.PartitionKey) (replica.Found, bool, error) {
	return replica.Found{}, false, replica.ErrNoCold
}

func (noBucket) EpochEnd(context.Context, protocol.PartitionKey, protocol.Epoch) (protocol.EpochEnd, bool, error) {
	return protocol.EpochEnd{}, false, replica.ErrNoCold
}

func (noBucket) StateAt(context.Context, protocol.PartitionKey, protocol.Offset) ([]protocol.EpochStart, []byte, error) {
	return nil, nil, replica.ErrNoCold
}
