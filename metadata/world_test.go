package metadata_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// world is an image in a test, and the index of its last command.
type world struct {
	t     testing.TB
	img   *metadata.Image
	index uint64
	delta metadata.Delta
}

// newWorld has a cluster with unfenced brokers 1 to n and a bound bucket.
func newWorld(tb testing.TB, brokers int32) *world {
	tb.Helper()
	w := &world{t: tb, img: metadata.EmptyImage()}
	w.ok(command(&metadatapb.InitCluster{ClusterId: "cluster", StrataVersion: 1}))
	for id := int32(1); id <= brokers; id++ {
		w.register(id, byte(id), -1, false)
		w.fence(id, false)
	}
	w.ok(command(&metadatapb.BindBucket{Url: "mem://", Generation: 1}))
	return w
}

// command wraps one kind.
func command(kind proto.Message) *metadata.Command {
	cmd := new(metadata.Command)
	fields := cmd.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if fields.Get(i).Message().FullName() == kind.ProtoReflect().Descriptor().FullName() {
			cmd.ProtoReflect().Set(fields.Get(i), protoreflect.ValueOfMessage(kind.ProtoReflect()))
		}
	}
	return cmd
}

func (w *world) apply(cmd *metadata.Command) (metadata.Result, error) {
	w.t.Helper()
	w.index++
	var r metadata.Result
	var err error
	w.img, w.delta, r, err = metadata.Apply(w.img, cmd, w.index)
	if r.Index != w.index || w.img.Index() != w.index {
		w.t.Fatalf("command at %d gave index %d, image %d", w.index, r.Index, w.img.Index())
	}
	return r, err
}

func (w *world) ok(cmd *metadata.Command) metadata.Result {
	w.t.Helper()
	r, err := w.apply(cmd)
	if err != nil {
		w.t.Fatalf("%v: %v", cmd, err)
	}
	return r
}

// refused applies a command that must change nothing.
func (w *world) refused(want error, cmd *metadata.Command) {
	w.t.Helper()
	before := w.img
	_, err := w.apply(cmd)
	if !errors.Is(err, want) {
		w.t.Fatalf("%v: got %v, want %v", cmd, err, want)
	}
	w.same(before)
}

// same checks that the image is what it was, but for the index.
func (w *world) same(before *metadata.Image) {
	w.t.Helper()
	if metadata.AtIndex(before, 0).Hash() != metadata.AtIndex(w.img, 0).Hash() {
		w.t.Fatal("the image has changed")
	}
}

// row applies a command of one row and returns what it said to it.
func (w *world) row(cmd *metadata.Command) error {
	w.t.Helper()
	r := w.ok(cmd)
	if len(r.Rows) != 1 {
		w.t.Fatalf("%v: %d answers", cmd, len(r.Rows))
	}
	return r.Rows[0]
}

func id(b byte) []byte { return append([]byte{b}, make([]byte, 15)...) }

func topicID(b byte) protocol.TopicID { return protocol.TopicID(id(b)) }

func key(topic byte, partition int32) protocol.PartitionKey {
	return protocol.PartitionKey{Topic: topicID(topic), Partition: partition}
}

// register starts a process of a broker; its one directory has the broker's id.
func (w *world) register(broker int32, incarnation byte, previous int64, unclean bool) int64 {
	w.t.Helper()
	return int64(w.ok(registration(broker, incarnation, previous, unclean)).BrokerEpoch)
}

func registration(broker int32, incarnation byte, previous int64, unclean bool) *metadata.Command {
	return command(&metadatapb.RegisterBroker{
		Broker: broker, Incarnation: id(incarnation), Directories: [][]byte{id(byte(broker))},
		MinVersion: 1, MaxVersion: 1, PreviousEpoch: previous, Unclean: unclean,
	})
}

func (w *world) epoch(broker int32) int64 {
	w.t.Helper()
	b, ok := w.img.Broker(protocol.BrokerID(broker))
	if !ok {
		w.t.Fatalf("no broker %d", broker)
	}
	return int64(b.Epoch)
}

func (w *world) fence(broker int32, fenced bool) {
	w.t.Helper()
	w.ok(command(&metadatapb.SetBrokerFencing{Broker: broker, BrokerEpoch: w.epoch(broker), Fenced: fenced}))
}

// assignment puts one replica on each broker.
func assignment(brokers ...int32) *metadatapb.PartitionAssignment {
	a := &metadatapb.PartitionAssignment{Replicas: brokers}
	for _, b := range brokers {
		a.Directories = append(a.Directories, id(byte(b)))
	}
	return a
}

func (w *world) topic(name string, topic byte, partitions ...*metadatapb.PartitionAssignment) {
	w.t.Helper()
	w.ok(command(&metadatapb.CreateTopic{Name: name, Id: id(topic), Partitions: partitions}))
}

func (w *world) partition(topic byte, partition int32) metadata.Partition {
	w.t.Helper()
	p, ok := w.img.Partition(key(topic, partition))
	if !ok {
		w.t.Fatalf("no partition %v", key(topic, partition))
	}
	return p
}
