package metadata_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// chooser makes commands from small id spaces, so that they meet each other; most
// have the preconditions of the image as it is.
type chooser struct {
	rnd *rand.Rand
	img *metadata.Image
	seq int
}

func (c *chooser) small() int32 { return c.rnd.Int32N(4) }

func (c *chooser) near(v int64) int64 {
	if c.rnd.IntN(5) == 0 {
		return v + c.rnd.Int64N(5) - 2
	}
	return v
}

func (c *chooser) name() string { return string('a' + c.small()) }

func (c *chooser) topic() []byte {
	if t, ok := c.img.Topic(c.name()); ok {
		return t.ID[:]
	}
	return id(byte(c.small()))
}

func (c *chooser) broker() (int32, int64) {
	n := c.small()
	b, _ := c.img.Broker(protocol.BrokerID(n))
	return n, c.near(int64(b.Epoch))
}

func (c *chooser) partition() metadata.Partition {
	t := protocol.TopicID(c.topic())
	n := int32(0)
	if topic, ok := c.img.TopicByID(t); ok && topic.Partitions > 0 {
		n = c.rnd.Int32N(topic.Partitions)
	}
	p, ok := c.img.Partition(protocol.PartitionKey{Topic: t, Partition: n})
	if !ok {
		p.Key = protocol.PartitionKey{Topic: t, Partition: n}
	}
	return p
}

func (c *chooser) assignments() []*metadatapb.PartitionAssignment {
	if a, err := metadata.PlaceReplicas(c.img, 1+c.small(), int16(c.small()), c.rnd.Uint64()); err == nil {
		return a
	}
	return []*metadatapb.PartitionAssignment{assignment(c.small()), assignment(c.small(), c.small())}
}

func (c *chooser) configs() []*metadatapb.Config {
	value := fmt.Sprint(c.small())
	cfg := &metadatapb.Config{Name: []string{"min.insync.replicas", "x", "y", ""}[c.small()], Value: &value}
	if c.rnd.IntN(3) == 0 {
		cfg.Value = nil
	}
	return []*metadatapb.Config{cfg}
}

func (c *chooser) attempt() *metadatapb.Attempt {
	b := c.img.Bucket()
	return &metadatapb.Attempt{Generation: uint64(c.near(int64(b.Generation))), Index: uint64(max(0, int64(c.img.Index())-c.rnd.Int64N(40)))}
}

func (c *chooser) place() *metadatapb.PagePlace {
	c.seq++
	return &metadatapb.PagePlace{Key: fmt.Sprint("page", c.seq), Length: 1}
}

func (c *chooser) command() *metadata.Command {
	switch c.rnd.IntN(10) {
	case 0:
		n, epoch := c.broker()
		r := registration(n, byte(c.rnd.IntN(200)), epoch, c.rnd.IntN(3) == 0)
		if c.rnd.IntN(10) == 0 {
			r.GetRegisterBroker().Directories = [][]byte{id(byte(90 + c.small()))}
		}
		return r
	case 1, 2:
		n, epoch := c.broker()
		return command(&metadatapb.SetBrokerFencing{Broker: n, BrokerEpoch: epoch, Fenced: c.rnd.IntN(2) == 0})
	case 3:
		return c.topicCommand()
	case 4:
		return c.alterPartitions()
	case 5:
		n, epoch := c.broker()
		return command(&metadatapb.AllocateProducerIDs{Broker: n, BrokerEpoch: epoch, ExpectedNext: c.near(int64(c.img.NextProducerID())), Count: c.small()})
	case 6:
		var rows []*metadatapb.LogStart
		for range c.small() {
			p := c.partition()
			rows = append(rows, &metadatapb.LogStart{
				TopicId: p.Key.Topic[:], Partition: p.Key.Partition, LeaderEpoch: int32(c.near(int64(p.LeaderEpoch))), Offset: int64(p.LogStart) + c.rnd.Int64N(100) - 20,
			})
		}
		return command(&metadatapb.AdvanceLogStarts{Rows: rows})
	case 7, 8:
		p := c.partition()
		end := c.near(int64(p.Manifest.TieredEnd))
		return command(&metadatapb.CommitManifest{
			TopicId: p.Key.Topic[:], Partition: p.Key.Partition,
			ParentVersion: uint64(c.near(int64(p.Manifest.Version))), Version: p.Manifest.Version + 1, Root: c.place(),
			Attempt: c.attempt(), From: end, TieredEnd: end + c.rnd.Int64N(100) - 5, LeaderEpoch: int32(c.near(int64(p.LeaderEpoch))),
		})
	}
	return c.bucketCommand()
}

func (c *chooser) topicCommand() *metadata.Command {
	switch c.rnd.IntN(5) {
	case 0, 1:
		return command(&metadatapb.CreateTopic{Name: c.name(), Id: id(byte(c.rnd.IntN(100))), Partitions: c.assignments(), Configs: c.configs()})
	case 2:
		return command(&metadatapb.DeleteTopic{Id: c.topic()})
	case 3:
		id := c.topic()
		t, _ := c.img.TopicByID(protocol.TopicID(id))
		return command(&metadatapb.AddPartitions{TopicId: id, From: int32(c.near(int64(t.Partitions))), Partitions: c.assignments()})
	}
	name := c.name()
	t, _ := c.img.Topic(name)
	return command(&metadatapb.AlterConfigs{Type: 2 * (1 + c.small()%2), Name: []string{name, ""}[c.small()%2], TopicId: t.ID[:], Changes: c.configs()})
}

func (c *chooser) alterPartitions() *metadata.Command {
	n, epoch := c.broker()
	cmd := &metadatapb.AlterPartitions{Broker: n, BrokerEpoch: epoch}
	for range 1 + c.small() {
		p := c.partition()
		if p.Leader != protocol.BrokerID(n) && c.rnd.IntN(4) > 0 {
			continue
		}
		change := &metadatapb.PartitionChange{
			TopicId: p.Key.Topic[:], Partition: p.Key.Partition,
			ExpectedLeaderEpoch: int32(c.near(int64(p.LeaderEpoch))), ExpectedPartitionEpoch: int32(c.near(int64(p.PartitionEpoch))),
		}
		for _, r := range p.Replicas {
			if r == p.Leader || c.rnd.IntN(2) == 0 {
				change.Isr = append(change.Isr, int32(r))
			}
		}
		cmd.Changes = append(cmd.Changes, change)
	}
	return command(cmd)
}

func (c *chooser) bucketCommand() *metadata.Command {
	b := c.img.Bucket()
	newest := uint64(0)
	if n := len(b.Roots); n > 0 {
		newest = b.Roots[n-1].Seq
	}
	switch c.rnd.IntN(8) {
	case 0:
		return command(&metadatapb.SetSweepFloor{Floor: c.attempt(), Expected: &metadatapb.Attempt{Generation: b.Floor.Generation, Index: uint64(c.near(int64(b.Floor.Index)))}, AtMs: 1})
	case 1, 2, 3:
		return command(&metadatapb.RetainRoot{Seq: uint64(c.near(int64(newest + 1))), Place: c.place(), Cut: c.attempt()})
	case 4:
		return command(&metadatapb.ReleaseRoots{Seqs: []uint64{newest - uint64(c.small()), newest - 2}})
	case 5:
		return command(&metadatapb.BindBucket{Url: "mem://", Generation: uint64(c.near(int64(b.Generation + 1)))})
	}
	return command(&metadatapb.InitCluster{ClusterId: c.name(), StrataVersion: uint32(c.small())})
}

// both applies a command to an image twice over, through its encoded form, and
// checks that the outcomes agree and that a repeat changes nothing.
func both(t *testing.T, img *metadata.Image, cmd *metadata.Command, index uint64) (*metadata.Image, metadata.Delta, error) {
	t.Helper()
	raw, err := proto.Marshal(cmd)
	if err != nil {
		t.Fatal(err)
	}
	var copied metadata.Command
	if err := proto.Unmarshal(raw, &copied); err != nil {
		t.Fatal(err)
	}
	before := img.Hash()
	a, delta, ra, errA := metadata.Apply(img, cmd, index)
	b, _, rb, errB := metadata.Apply(img, &copied, index)
	if a.Hash() != b.Hash() || fmt.Sprint(errA) != fmt.Sprint(errB) || fmt.Sprint(ra) != fmt.Sprint(rb) {
		t.Fatalf("%v gave two outcomes: %v %v, %+v %+v", cmd, errA, errB, ra, rb)
	}
	if img.Hash() != before {
		t.Fatalf("%v changed the image it was applied to", cmd)
	}
	if errA != nil && metadata.AtIndex(a, 0).Hash() != metadata.AtIndex(img, 0).Hash() {
		t.Fatalf("%v was refused and changed the image", cmd)
	}
	again, _, _, _ := metadata.Apply(a, cmd, index+1)
	if metadata.AtIndex(again, 0).Hash() != metadata.AtIndex(a, 0).Hash() {
		t.Fatalf("a repeat of %v changed the image", cmd)
	}
	return a, delta, errA
}

func TestRandomCommandsKeepTheRules(t *testing.T) {
	accepted := map[string]int{}
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, 3)
			c := &chooser{rnd: rand.New(rand.NewPCG(seed, 1))}
			from, union := w.img, metadata.Delta{}
			for index := w.index + 2; index < 1000; index += 2 {
				c.img = w.img
				cmd := c.command()
				before := w.img
				img, delta, err := both(t, before, cmd, index)
				if err == nil {
					accepted[fmt.Sprintf("%T", cmd.GetKind())]++
				}
				if d := metadata.Diff(before, img); !covers(delta, d) {
					t.Fatalf("%v: delta %+v, difference %+v", cmd, delta, d)
				}
				forward(t, before, img)
				w.img = img
				union = joined(union, delta)
				if index%50 == 0 {
					checkSnapshot(t, img)
					if d := metadata.Diff(from, img); !covers(union, d) {
						t.Fatalf("deltas %+v, difference %+v", union, d)
					}
					from, union = img, metadata.Delta{}
				}
			}
		})
	}
	if kinds := new(metadata.Command).ProtoReflect().Descriptor().Fields().Len(); len(accepted) != kinds-1 { // all but InitCluster
		t.Errorf("of %d kinds only these were ever accepted: %v", kinds, accepted)
	}
}

// forward checks what must never go back.
func forward(t *testing.T, before, after *metadata.Image) {
	t.Helper()
	for p := range before.AllPartitions() {
		q, ok := after.Partition(p.Key)
		if !ok {
			continue
		}
		if q.LeaderEpoch < p.LeaderEpoch || q.PartitionEpoch < p.PartitionEpoch || q.LogStart < p.LogStart ||
			q.Manifest.TieredEnd < p.Manifest.TieredEnd || q.Manifest.Version < p.Manifest.Version {
			t.Fatalf("%+v after %+v", q, p)
		}
		if q.Leader != p.Leader && q.LeaderEpoch == p.LeaderEpoch {
			t.Fatalf("two leaders in one epoch: %+v after %+v", q, p)
		}
	}
	for b := range before.Brokers() {
		if c, _ := after.Broker(b.ID); c.Epoch < b.Epoch {
			t.Fatalf("%+v after %+v", c, b)
		}
	}
	if after.Bucket().Floor.Compare(before.Bucket().Floor) < 0 || after.NextProducerID() < before.NextProducerID() {
		t.Fatal("sweep floor or producer ids went back")
	}
}

func checkSnapshot(t *testing.T, img *metadata.Image) {
	t.Helper()
	back, err := metadata.UnmarshalImage(metadata.MarshalImage(img))
	if err != nil {
		t.Fatal(err)
	}
	if back.Hash() != img.Hash() {
		t.Fatal("a snapshot came back as another image")
	}
	if d := metadata.Diff(img, back); !sameDelta(d, metadata.Delta{}) {
		t.Fatalf("difference to the snapshot: %+v", d)
	}
	all := metadata.Diff(metadata.EmptyImage(), back)
	if len(all.Partitions) != back.PartitionCount() || len(all.Topics) != back.TopicCount() {
		t.Fatalf("difference to nothing: %+v", all)
	}
}

func joined(a, b metadata.Delta) metadata.Delta {
	return metadata.Delta{
		Brokers: slices.Concat(a.Brokers, b.Brokers), Topics: slices.Concat(a.Topics, b.Topics),
		Removed: slices.Concat(a.Removed, b.Removed), Partitions: slices.Concat(a.Partitions, b.Partitions),
		Configs: slices.Concat(a.Configs, b.Configs), Bucket: a.Bucket || b.Bucket,
	}
}

// covers tells whether a holds all that b holds. Removed topics go by identity: they may have grown before.
func covers(a, b metadata.Delta) bool {
	removed := func(t metadata.Topic) bool {
		return slices.ContainsFunc(a.Removed, func(o metadata.Topic) bool { return o.ID == t.ID })
	}
	return holds(a.Brokers, b.Brokers) && holds(a.Topics, b.Topics) && holds(a.Partitions, b.Partitions) &&
		holds(a.Configs, b.Configs) && (a.Bucket || !b.Bucket) && !slices.ContainsFunc(b.Removed, func(t metadata.Topic) bool { return !removed(t) })
}

func holds[T comparable](a, b []T) bool {
	return !slices.ContainsFunc(b, func(v T) bool { return !slices.Contains(a, v) })
}

// FuzzApply applies any decodable command to an image with something of everything.
func FuzzApply(f *testing.F) {
	c := &chooser{rnd: rand.New(rand.NewPCG(1, 2)), img: newWorld(f, 3).img}
	for range 60 {
		raw, err := proto.Marshal(c.command())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	w := newWorld(f, 3)
	w.topic("a", 1, assignment(1, 2, 3), assignment(2))
	w.ok(w.next(100, nil))
	w.fence(2, true)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var cmd metadata.Command
		if proto.Unmarshal(raw, &cmd) != nil {
			return
		}
		img, delta, _ := both(t, w.img, &cmd, w.index+1)
		if !covers(delta, metadata.Diff(w.img, img)) {
			t.Fatalf("delta %+v", delta)
		}
		checkSnapshot(t, img)
	})
}

// BenchmarkApply shows that the cost of a command does not grow with the image.
func BenchmarkApply(b *testing.B) {
	for _, rows := range []int32{1_000, 100_000} {
		b.Run(fmt.Sprint("partitions=", rows), func(b *testing.B) {
			w := newWorld(b, 1)
			for topic := range byte(10) {
				w.topic(fmt.Sprint("t", topic), topic+1, slices.Repeat([]*metadatapb.PartitionAssignment{assignment(1)}, int(rows/10))...)
			}
			row := &metadatapb.LogStart{TopicId: id(1)}
			cmd := command(&metadatapb.AdvanceLogStarts{Rows: []*metadatapb.LogStart{row}})
			for b.Loop() {
				row.Partition = (row.Partition + 7919) % (rows / 10)
				row.Offset++
				w.ok(cmd)
			}
		})
	}
}
