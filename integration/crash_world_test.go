package integration_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/integration/checker"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// crashWorld is the replicas of one broker over a file system in memory that
// can crash, and around them what a crash of it does not take: the metadata (Raft's
// own crash tests are elsewhere), the bucket, the clients and what they saw.
type crashWorld struct {
	*checker.History
	static *metadata.Static
	rng    *rand.Rand
	clock  int64 // ms
	starts int64

	mu  sync.Mutex
	img *metadata.Image // guarded by mu

	cold   sync.Mutex                            // taken after mu
	bucket map[protocol.PartitionKey][]coldRange // guarded by cold

	lanes  []*lane        // one for each producer and partition
	topics map[string]int // how often each name was created
	fs     *vfs.Mem
	dir    *log.Dir
	m      *replica.Manager // nil while the broker does not run
	broken chan struct{}    // closed when a sync has failed
	epoch  protocol.BrokerEpoch
}

// coldRange is one uploaded range.
type coldRange struct {
	base, end protocol.Offset
	batches   []byte
	epochs    []protocol.EpochStart
	producers []byte
}

// lane is one producer's way to one partition.
type lane struct {
	topic    string
	part     checker.Partition // with the topic's incarnation in its name
	key      protocol.PartitionKey
	producer int
	sequence int32

	mu         sync.Mutex
	last       record.Batch    // the acknowledged one of the highest sequence; guarded by mu
	lastFirst  protocol.Offset // where it lies; guarded by mu
	unanswered []record.Batch  // in order of sequence; guarded by mu
}

const crashSelf = protocol.BrokerID(1)

// crashTopics are small logs: one that is tiered and evicted, one that expires
// on disk, one that is deleted and made anew.
var crashTopics = map[string][]string{
	"tiered": {"segment.bytes", "1500", "index.interval.bytes", "200", "segment.ms", "3600000", "local.retention.bytes", "1", "retention.ms", "-1"},
	"plain":  {"segment.bytes", "1200", "index.interval.bytes", "200", "segment.ms", "3600000", "remote.storage.enable", "false", "retention.bytes", "4000", "retention.ms", "-1"},
	"gone":   {"segment.bytes", "1200", "index.interval.bytes", "200", "segment.ms", "3600000", "remote.storage.enable", "false"},
}

func newCrashWorld(seed uint64) (*crashWorld, error) {
	static, _, err := metadata.NewStatic(map[string]string{"node.id": "1", "strata.bucket.url": "dir:///bucket", "strata.disk.reserve.bytes": "0"})
	if err != nil {
		return nil, err
	}
	w := &crashWorld{
		History: checker.NewHistory(), static: static, rng: rand.New(rand.NewPCG(seed, 7)), clock: 1_700_000_000_000, epoch: -1,
		img: metadata.EmptyImage(), bucket: map[protocol.PartitionKey][]coldRange{}, topics: map[string]int{},
	}
	for _, cmd := range []*metadata.Command{
		{Kind: &metadatapb.Command_InitCluster{InitCluster: &metadatapb.InitCluster{ClusterId: "c", StrataVersion: 1}}},
		{Kind: &metadatapb.Command_BindBucket{BindBucket: &metadatapb.BindBucket{Url: "dir:///bucket", Generation: 1}}},
	} {
		if _, err := w.propose(context.Background(), cmd); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// propose is the metadata log: what it takes is durable, and applied before it
// returns. A machine that has stopped proposes nothing.
func (w *crashWorld) propose(_ context.Context, cmd *metadata.Command) (metadata.Result, error) {
	if w.fs != nil && w.fs.Stopped() {
		return metadata.Result{}, vfs.ErrCrashed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	img, delta, result, err := metadata.Apply(w.img, cmd, w.img.Index()+1)
	w.img = img
	if err == nil && w.m != nil {
		w.m.Apply(delta, img)
	}
	return result, err
}

func (w *crashWorld) image() *metadata.Image {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.img
}

func (w *crashWorld) now() time.Time { return time.UnixMilli(w.clock) }

// start is a broker's start on what lies in fs, in the order of package broker.
func (w *crashWorld) start(fs *vfs.Mem, boot string) error {
	w.fs, w.broken = fs, make(chan struct{})
	w.starts++
	broken, once := w.broken, new(sync.Once)
	if err := fs.MkdirAll("/d"); err != nil {
		return err
	}
	if err := fs.SyncDir("/"); err != nil {
		return err
	}
	var err error
	w.dir, err = log.OpenDir(log.DirConfig{
		FS: fs, Path: "/d", MaxOpenFiles: 8, Fsync: true, BootID: boot, Now: w.now, Logger: slog.New(slog.DiscardHandler),
		OnFatal: func(error) { once.Do(func() { close(broken) }) },
	})
	if err != nil {
		return err
	}
	manager := replica.NewManager(replica.Config{
		Self: crashSelf, Dir: w.dir, Static: w.static, Propose: w.propose, Cold: fakeBucket{w}, Now: w.now, Logger: slog.New(slog.DiscardHandler),
	})
	if err := w.register(); err != nil {
		return err
	}
	if err := manager.Load(context.Background(), w.image()); err != nil {
		return err
	}
	w.mu.Lock()
	w.m = manager
	w.m.Apply(metadata.Diff(metadata.EmptyImage(), w.img), w.img)
	w.mu.Unlock()
	_, err = w.propose(context.Background(), &metadata.Command{Kind: &metadatapb.Command_SetBrokerFencing{
		SetBrokerFencing: &metadatapb.SetBrokerFencing{Broker: int32(crashSelf), BrokerEpoch: int64(w.epoch)},
	}})
	return err
}

func (w *crashWorld) register() error {
	incarnation, directory := make([]byte, 16), make([]byte, 16)
	binary.BigEndian.PutUint64(incarnation, uint64(w.starts))
	directory[0] = 1
	result, err := w.propose(context.Background(), &metadata.Command{Kind: &metadatapb.Command_RegisterBroker{RegisterBroker: &metadatapb.RegisterBroker{
		Broker: int32(crashSelf), Incarnation: incarnation, Directories: [][]byte{directory}, PreviousEpoch: int64(w.epoch), MinVersion: 1, MaxVersion: 1,
		Unclean:   !w.dir.Clean() || w.dir.CleanBrokerEpoch() != w.epoch,
		Listeners: []*metadatapb.Listener{{Name: "PLAINTEXT", Protocol: "PLAINTEXT", Host: "h", Port: 1}},
	}}})
	if err != nil {
		return err
	}
	w.epoch = result.BrokerEpoch
	w.dir.SetBrokerEpoch(w.epoch)
	return nil
}

// end takes the broker down; clean as on SIGTERM, else nothing is written any more.
func (w *crashWorld) end(clean bool) error {
	w.mu.Lock()
	m := w.m
	w.m = nil
	w.mu.Unlock()
	if m != nil {
		m.Close()
	}
	if w.dir == nil {
		return nil
	}
	dir := w.dir
	w.dir = nil
	return dir.Close(clean)
}

// create makes a topic, with lanes of two producers for each partition.
func (w *crashWorld) create(name string, partitions int32) error {
	w.topics[name]++
	id := make([]byte, 16)
	copy(id, name)
	id[15] = byte(w.topics[name])
	cmd := &metadatapb.CreateTopic{Name: name, Id: id}
	var err error
	if cmd.Partitions, err = metadata.PlaceReplicas(w.image(), partitions, 1, 0); err != nil {
		return err
	}
	for i := 0; i < len(crashTopics[name]); i += 2 {
		cmd.Configs = append(cmd.Configs, &metadatapb.Config{Name: crashTopics[name][i], Value: &crashTopics[name][i+1]})
	}
	if _, err := w.propose(context.Background(), &metadata.Command{Kind: &metadatapb.Command_CreateTopic{CreateTopic: cmd}}); err != nil {
		return err
	}
	for p := range partitions {
		for producer := range 2 {
			w.lanes = append(w.lanes, &lane{
				topic: name, part: checker.Partition{Topic: fmt.Sprintf("%s#%d", name, w.topics[name]), Number: p},
				key: protocol.PartitionKey{Topic: protocol.TopicID(id), Partition: p}, producer: producer, lastFirst: protocol.NoOffset,
			})
		}
	}
	return nil
}

// remove deletes a topic, whose records nobody is promised any more.
func (w *crashWorld) remove(name string) error {
	t, ok := w.image().Topic(name)
	if !ok {
		return fmt.Errorf("no topic %s", name)
	}
	cmd := &metadata.Command{Kind: &metadatapb.Command_DeleteTopic{DeleteTopic: &metadatapb.DeleteTopic{Id: t.ID[:]}}}
	if _, err := w.propose(context.Background(), cmd); err != nil {
		return err
	}
	var kept []*lane
	for _, l := range w.lanes {
		if l.topic != name {
			kept = append(kept, l)
		}
	}
	w.lanes = kept
	return nil
}

// batch is the lane's next one.
func (w *crashWorld) batch(l *lane) record.Batch {
	b := record.NewBuilder(0)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = protocol.ProducerID(l.producer), 0, l.sequence
	for range 1 + w.rng.IntN(3) {
		name := fmt.Sprintf("%s/%d/%d", l.part, l.producer, l.sequence)
		w.Sent(l.producer, l.part, name)
		b.Add(record.Record{Timestamp: protocol.Timestamp(w.clock), Key: []byte(name), Value: []byte(strings.Repeat("x", w.rng.IntN(80)))})
		l.sequence++
	}
	return b.Bytes()
}

// send appends a batch and tells answered when there is an answer. What it says
// is in the history whenever it comes.
func (w *crashWorld) send(l *lane, b record.Batch, answered chan<- error) {
	leader, err := w.m.Get(l.key)
	if err != nil {
		answered <- err
		return
	}
	leader.Append(append(record.Batch(nil), b...), replica.AcksAll, w.now(), func(a replica.Appended, err error) {
		if err == nil {
			for r := range mustRecords(b) {
				w.Acked(l.part, string(r.Key), a.First+r.Offset)
			}
			l.answered(b, a.First)
		}
		answered <- err
	})
}

// answered notes an acknowledgement. Those of batches that were under way
// together may be told in any order.
func (l *lane) answered(b record.Batch, first protocol.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unanswered = slices.DeleteFunc(l.unanswered, func(o record.Batch) bool { return o.BaseSequence() == b.BaseSequence() })
	if l.last == nil || l.last.BaseSequence() < b.BaseSequence() {
		l.last, l.lastFirst = b, first
	}
}

// mustRecords yields the records of a batch that this test made.
func mustRecords(b record.Batch) func(func(record.Record) bool) {
	return func(yield func(record.Record) bool) {
		for r, err := range b.Records(1 << 20) {
			if err != nil {
				panic(err)
			}
			if !yield(r) {
				return
			}
		}
	}
}

var (
	errStopped = errors.New("the broker has stopped")
	errBroken  = errors.New("a promise is broken") // whether the disk has stopped or not
)

// await waits for n answers, or until the broker has met its end. Where its
// disk has stopped at something other than a sync, the answers just never come.
func (w *crashWorld) await(answered <-chan error, n int) error {
	limit, look := time.NewTimer(20*time.Second), time.NewTicker(time.Millisecond)
	defer limit.Stop()
	defer look.Stop()
	for n > 0 {
		select {
		case err := <-answered:
			if err != nil {
				return err
			}
			n--
		case <-w.broken:
			return errStopped
		case <-look.C:
			if w.fs.Stopped() {
				return errStopped
			}
		case <-limit.C:
			return fmt.Errorf("%w: neither an answer nor a failure", errBroken)
		}
	}
	return nil
}

// fakeBucket is the cold tier of a crashWorld.
type fakeBucket struct{ w *crashWorld }

func (b fakeBucket) ranges(key protocol.PartitionKey) []coldRange {
	b.w.cold.Lock()
	defer b.w.cold.Unlock()
	return b.w.bucket[key]
}

// Read implements replica.Cold.
func (b fakeBucket) Read(_ context.Context, key protocol.PartitionKey, from protocol.Offset, _ int, _ bool) (replica.ColdBatches, error) {
	for _, r := range b.ranges(key) {
		if r.base > from || from >= r.end {
			continue
		}
		rest := r.batches
		for len(rest) > 0 {
			batch, after, err := record.Split(rest)
			if err != nil {
				return replica.ColdBatches{}, err
			}
			if batch.NextOffset() > from {
				break
			}
			rest = after
		}
		return replica.ColdBatches{Bytes: rest, Next: r.end}, nil
	}
	return replica.ColdBatches{}, fmt.Errorf("offset %d of %v is not in the bucket", from, key)
}

// OffsetForTime implements replica.Cold.
func (b fakeBucket) OffsetForTime(context.Context, protocol.PartitionKey, protocol.Timestamp, protocol.Offset) (replica.Found, bool, error) {
	return replica.Found{}, false, replica.ErrNoCold
}

// MaxTimestamp implements replica.Cold.
func (b fakeBucket) MaxTimestamp(context.Context, protocol.PartitionKey) (replica.Found, bool, error) {
	return replica.Found{}, false, replica.ErrNoCold
}

// EpochEnd implements replica.Cold.
func (b fakeBucket) EpochEnd(context.Context, protocol.PartitionKey, protocol.Epoch) (protocol.EpochEnd, bool, error) {
	return protocol.EpochEnd{}, false, replica.ErrNoCold
}

// StateAt implements replica.Cold.
func (b fakeBucket) StateAt(_ context.Context, key protocol.PartitionKey, at protocol.Offset) ([]protocol.EpochStart, []byte, error) {
	for _, r := range b.ranges(key) {
		if r.end == at {
			return r.epochs, r.producers, nil
		}
	}
	return nil, nil, replica.ErrNoState
}

// upload moves the sealed ranges of a partition into the bucket, as the archiver does.
func (w *crashWorld) upload(l *replica.Leader) error {
	key, row := l.Key(), l.Row()
	sealed, err := l.Log().Sealed(row.Manifest.TieredEnd, l.UploadLimit())
	if err != nil || len(sealed) == 0 {
		return err
	}
	r := sealed[0]
	source, err := l.Log().OpenSealed(r)
	if err != nil {
		return err
	}
	cold := coldRange{base: r.Base, end: r.End, epochs: source.Epochs(), producers: source.Producers()}
	cold.batches, err = io.ReadAll(io.NewSectionReader(source, 0, r.Bytes))
	if err := errors.Join(err, source.Close()); err != nil {
		return err
	}
	if r.Base != row.Manifest.TieredEnd {
		return fmt.Errorf("%w: the sealed range [%d, %d) of %v does not begin at the tiered end %d", errBroken, r.Base, r.End, key, row.Manifest.TieredEnd)
	}
	w.cold.Lock()
	w.bucket[key] = append(w.bucket[key], cold)
	count := len(w.bucket[key])
	w.cold.Unlock()
	_, err = w.propose(context.Background(), &metadata.Command{Kind: &metadatapb.Command_CommitManifest{CommitManifest: &metadatapb.CommitManifest{
		TopicId: key.Topic[:], Partition: key.Partition, ParentVersion: row.Manifest.Version, Version: row.Manifest.Version + 1,
		Root:    &metadatapb.PagePlace{Key: fmt.Sprint("page-", row.Manifest.Version+1), Length: 1},
		Attempt: &metadatapb.Attempt{Generation: 1, Index: w.image().Index()}, From: int64(row.Manifest.TieredEnd), TieredEnd: int64(r.End),
		LeaderEpoch: int32(row.LeaderEpoch), Bytes: uint64(r.Bytes), Segments: uint64(count),
	}}})
	if err != nil { // what no manifest names is not there
		w.cold.Lock()
		w.bucket[key] = w.bucket[key][:count-1]
		w.cold.Unlock()
	}
	return err
}
