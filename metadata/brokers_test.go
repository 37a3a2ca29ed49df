package metadata_test

import (
	"fmt"
	"testing"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

func TestRegistrationGivesTheIndexAsEpochAndFences(t *testing.T) {
	w := newWorld(t, 0)
	r := w.ok(registration(1, 1, -1, false))
	b, _ := w.img.Broker(1)
	if uint64(r.BrokerEpoch) != w.index || b.Epoch != r.BrokerEpoch || !b.Fenced {
		t.Fatalf("index %d, result %+v, broker %+v", w.index, r, b)
	}
	before := w.img
	if again := w.ok(registration(1, 1, -1, true)); again.BrokerEpoch != r.BrokerEpoch {
		t.Fatalf("a repeat of the incarnation got epoch %d after %d", again.BrokerEpoch, r.BrokerEpoch)
	}
	w.same(before)
}

func TestRegistrationRefusals(t *testing.T) {
	w := newWorld(t, 0)
	bad := func(want error, change func(*metadatapb.RegisterBroker)) {
		t.Helper()
		c := registration(1, 1, -1, false)
		change(c.GetRegisterBroker())
		w.refused(want, c)
	}
	bad(metadata.ErrInvalidCommand, func(c *metadatapb.RegisterBroker) { c.Broker = -1 })
	bad(metadata.ErrInvalidCommand, func(c *metadatapb.RegisterBroker) { c.Incarnation = nil })
	bad(metadata.ErrInvalidCommand, func(c *metadatapb.RegisterBroker) { c.Directories = nil })
	bad(metadata.ErrInvalidCommand, func(c *metadatapb.RegisterBroker) { c.Directories = [][]byte{id(1), id(1)} })
	bad(metadata.ErrInvalidCommand, func(c *metadatapb.RegisterBroker) { c.Listeners = []*metadatapb.Listener{{Port: 1 << 16}} })
	bad(metadata.ErrUnsupportedVersion, func(c *metadatapb.RegisterBroker) { c.MinVersion, c.MaxVersion = 2, 3 })
}

func TestCleanRestartOfALoneBrokerRewritesNoRow(t *testing.T) {
	w := newWorld(t, 1)
	w.topic("a", 1, assignment(1), assignment(1))
	before := w.partition(1, 0)
	w.fence(1, true)
	if n := len(w.delta.Partitions); n != 0 {
		t.Fatalf("fencing rewrote %d rows", n)
	}
	w.register(1, 9, w.epoch(1), false)
	if n := len(w.delta.Partitions); n != 0 {
		t.Fatalf("registration rewrote %d rows", n)
	}
	w.fence(1, false)
	if p := w.partition(1, 0); fmt.Sprint(p) != fmt.Sprint(before) || len(w.delta.Partitions) != 0 {
		t.Fatalf("got %+v, want %+v", p, before)
	}
}

func TestUncleanRegistrationRaisesTheLeaderEpochOfAllItLeads(t *testing.T) {
	for name, start := range map[string]func(w *world){
		"said so":            func(w *world) { w.register(1, 9, w.epoch(1), true) },
		"older epoch":        func(w *world) { w.register(1, 9, w.epoch(1)-1, false) },
		"no epoch":           func(w *world) { w.register(1, 9, -1, false) },
		"epoch never given":  func(w *world) { w.register(1, 9, w.epoch(1)+1, false) },
		"directory replaced": func(w *world) { w.replaceDirectory(1, 9) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			w.topic("a", 1, assignment(1), assignment(1), assignment(2))
			start(w)
			for i := range int32(2) {
				if p := w.partition(1, i); p.Leader != 1 || p.LeaderEpoch != 1 || p.PartitionEpoch != 1 {
					t.Errorf("%+v", p)
				}
			}
			if p := w.partition(1, 2); p.LeaderEpoch != 0 || p.PartitionEpoch != 0 {
				t.Errorf("a partition of another broker was touched: %+v", p)
			}
		})
	}
}

// replaceDirectory registers a broker, clean by its own word, with a new disk.
func (w *world) replaceDirectory(broker int32, incarnation byte) {
	w.t.Helper()
	c := registration(broker, incarnation, w.epoch(broker), false)
	c.GetRegisterBroker().Directories = [][]byte{id(99)}
	w.ok(c)
}

func TestReplacedDirectoryIsWrittenToTheRowsOnce(t *testing.T) {
	w := newWorld(t, 1)
	w.topic("a", 1, assignment(1))
	w.replaceDirectory(1, 9)
	p := w.partition(1, 0)
	if p.Directories[0] != metadata.DirectoryID(id(99)) {
		t.Fatalf("%+v", p)
	}
	w.replaceDirectory(1, 10)
	if q := w.partition(1, 0); q.LeaderEpoch != p.LeaderEpoch || len(w.delta.Partitions) != 0 {
		t.Fatalf("the next clean start counts as a replacement again: %+v", q)
	}
}

func TestFencingGoesByBrokerEpoch(t *testing.T) {
	w := newWorld(t, 1)
	w.refused(metadata.ErrStaleBrokerEpoch, command(&metadatapb.SetBrokerFencing{Broker: 1, BrokerEpoch: w.epoch(1) + 1, Fenced: true}))
	w.refused(metadata.ErrUnknownBroker, command(&metadatapb.SetBrokerFencing{Broker: 7, Fenced: true}))
	before := w.img
	w.fence(1, false)
	w.same(before)
}

// state prints what the election decided.
func state(p metadata.Partition) string {
	return fmt.Sprintf("leader %d epoch %d isr %v elr %v", p.Leader, p.LeaderEpoch, p.ISR, p.ELR)
}

func TestElection(t *testing.T) {
	type step struct {
		do   func(w *world)
		want string
	}
	fence := func(b int32) func(*world) { return func(w *world) { w.fence(b, true) } }
	unfence := func(b int32) func(*world) { return func(w *world) { w.fence(b, false) } }
	clean := func(b int32) func(*world) { return func(w *world) { w.register(b, byte(w.index), w.epoch(b), false) } }
	unclean := func(b int32) func(*world) { return func(w *world) { w.register(b, byte(w.index), w.epoch(b), true) } }
	for name, c := range map[string]struct {
		minISR string
		steps  []step
	}{
		"the next replica of the ISR leads": {"1", []step{
			{fence(2), "leader 1 epoch 0 isr [1 3] elr []"},
			{fence(1), "leader 3 epoch 1 isr [3] elr []"},
			{unfence(1), "leader 3 epoch 1 isr [3] elr []"},
		}},
		"the last member stays leader and nobody outside follows it": {"1", []step{
			{fence(1), "leader 2 epoch 1 isr [2 3] elr []"},
			{fence(2), "leader 3 epoch 2 isr [3] elr []"},
			{fence(3), "leader 3 epoch 2 isr [3] elr []"},
			{unfence(1), "leader 3 epoch 2 isr [3] elr []"},
			{clean(3), "leader 3 epoch 2 isr [3] elr []"},
			{unclean(3), "leader 3 epoch 3 isr [3] elr []"},
		}},
		"below min ISR who leaves stays eligible": {"2", []step{
			{fence(1), "leader 2 epoch 1 isr [2 3] elr []"},
			{fence(2), "leader 3 epoch 2 isr [3] elr [2]"},
			{fence(3), "leader 3 epoch 2 isr [3] elr [2]"},
			{unfence(1), "leader 3 epoch 2 isr [3] elr [2]"},
			{unfence(2), "leader 2 epoch 3 isr [2] elr [3]"},
			{unfence(3), "leader 2 epoch 3 isr [2] elr [3]"},
		}},
		"who started unclean is not eligible while the ELR has somebody": {"3", []step{
			{fence(1), "leader 2 epoch 1 isr [2 3] elr [1]"},
			{fence(2), "leader 3 epoch 2 isr [3] elr [1 2]"},
			{fence(3), "leader 3 epoch 2 isr [3] elr [1 2]"},
			{unclean(1), "leader 3 epoch 2 isr [3] elr [2]"},
			{unclean(3), "leader 2 epoch 3 isr [2] elr []"},
			{unfence(3), "leader 2 epoch 3 isr [2] elr []"},
			{unfence(1), "leader 2 epoch 3 isr [2] elr []"},
			{unfence(2), "leader 2 epoch 3 isr [2] elr []"},
		}},
		"a clean start leaves the ISR to the others": {"1", []step{
			{clean(1), "leader 2 epoch 1 isr [2 3] elr []"},
			{unclean(3), "leader 2 epoch 1 isr [2] elr []"},
		}},
		"several eligible ones wait without a leader": {"3", []step{
			{fence(1), "leader 2 epoch 1 isr [2 3] elr [1]"},
			{fence(2), "leader 3 epoch 2 isr [3] elr [1 2]"},
			{unclean(3), "leader -1 epoch 3 isr [1 2] elr []"},
			{unfence(2), "leader 2 epoch 4 isr [1 2] elr []"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3)
			w.topic("a", 1, assignment(1, 2, 3))
			w.ok(topicConfig("a", 1, "min.insync.replicas", c.minISR))
			for i, s := range c.steps {
				before := w.partition(1, 0)
				s.do(w)
				p := w.partition(1, 0)
				if got := state(p); got != s.want {
					t.Fatalf("step %d: got %s, want %s", i, got, s.want)
				}
				if moved := p.PartitionEpoch != before.PartitionEpoch; moved != (state(p) != state(before)) {
					t.Fatalf("step %d: partition epoch %d after %d: %s after %s", i, p.PartitionEpoch, before.PartitionEpoch, state(p), state(before))
				}
			}
		})
	}
}

func topicConfig(topic string, topicID byte, name, value string) *metadata.Command {
	return command(&metadatapb.AlterConfigs{
		Type: 2, Name: topic, TopicId: id(topicID), Changes: []*metadatapb.Config{{Name: name, Value: &value}},
	})
}

func TestProducerIDsComeInBlocks(t *testing.T) {
	w := newWorld(t, 1)
	ask := func(next int64, count int32) *metadata.Command {
		return command(&metadatapb.AllocateProducerIDs{Broker: 1, BrokerEpoch: w.epoch(1), ExpectedNext: next, Count: count})
	}
	if r := w.ok(ask(0, 1000)); r.FirstProducerID != 0 {
		t.Fatalf("%+v", r)
	}
	w.refused(metadata.ErrProducerIDBlock, ask(0, 1000))
	if r := w.ok(ask(1000, 1000)); r.FirstProducerID != 1000 || w.img.NextProducerID() != 2000 {
		t.Fatalf("%+v", r)
	}
	w.refused(metadata.ErrInvalidCommand, ask(2000, 0))
	w.refused(metadata.ErrStaleBrokerEpoch, command(&metadatapb.AllocateProducerIDs{Broker: 1, ExpectedNext: 2000, Count: 1}))
}

func TestInitClusterIsTheFirstAndOnly(t *testing.T) {
	w := newWorld(t, 0)
	w.refused(metadata.ErrClusterExists, command(&metadatapb.InitCluster{ClusterId: "other", StrataVersion: 1}))
	fresh := &world{t: t, img: metadata.EmptyImage()}
	fresh.refused(metadata.ErrInvalidCommand, command(&metadatapb.InitCluster{StrataVersion: 1}))
	fresh.refused(metadata.ErrInvalidCommand, command(&metadatapb.InitCluster{ClusterId: "c"}))
}

func TestEveryKindHasALevelAndIsApplied(t *testing.T) {
	kinds := new(metadata.Command).ProtoReflect().Descriptor().Fields()
	for i := range kinds.Len() {
		cmd := new(metadata.Command)
		cmd.ProtoReflect().Mutable(kinds.Get(i))
		if l := metadata.LevelOf(cmd); l > metadata.MaxVersion {
			t.Errorf("%s has level %d of %d", kinds.Get(i).Name(), l, metadata.MaxVersion)
		}
		w := &world{t: t, img: metadata.EmptyImage()}
		if _, err := w.apply(cmd); isErr(err, metadata.ErrUnknownCommand) {
			t.Errorf("%s is not applied", kinds.Get(i).Name())
		}
	}
	w := newWorld(t, 0)
	w.refused(metadata.ErrUnknownCommand, new(metadata.Command))
	if metadata.LevelOf(new(metadata.Command)) != metadata.UnknownLevel {
		t.Error("a command without kind has a level")
	}
}

func TestPlacement(t *testing.T) {
	w := newWorld(t, 0)
	for id, rack := range map[int32]string{1: "a", 2: "a", 3: "b", 4: "b", 5: "c", 6: "c"} {
		c := registration(id, byte(id), -1, false)
		c.GetRegisterBroker().Rack = rack
		w.ok(c)
		w.fence(id, false)
	}
	const partitions = 600
	got, err := metadata.PlaceReplicas(w.img, partitions, 3, 12345)
	if err != nil {
		t.Fatal(err)
	}
	leaders, replicas := map[int32]int{}, map[int32]int{}
	for _, a := range got {
		racks := map[string]bool{}
		for i, r := range a.GetReplicas() {
			b, _ := w.img.Broker(protocol.BrokerID(r))
			racks[b.Rack] = true
			replicas[r]++
			if b.Directories[0] != metadata.DirectoryID(a.GetDirectories()[i]) {
				t.Fatalf("directory %x of broker %d", a.GetDirectories()[i], r)
			}
		}
		if len(racks) != 3 {
			t.Fatalf("%v lies on %d racks", a.GetReplicas(), len(racks))
		}
		leaders[a.GetReplicas()[0]]++
	}
	for id := int32(1); id <= 6; id++ {
		if leaders[id] != partitions/6 {
			t.Errorf("broker %d leads %d", id, leaders[id])
		}
		if n := replicas[id]; n < partitions*3/6*8/10 || n > partitions*3/6*12/10 {
			t.Errorf("broker %d holds %d replicas", id, n)
		}
	}
	w.topic("a", 1, got...)
}

func TestPlacementRefusals(t *testing.T) {
	w := newWorld(t, 2)
	w.fence(2, true)
	for _, rf := range []int16{-1, 0, 2, 3} {
		if _, err := metadata.PlaceReplicas(w.img, 1, rf, 0); !isErr(err, metadata.ErrReplicationFactor) {
			t.Errorf("rf %d: %v", rf, err)
		}
	}
	if _, err := metadata.PlaceReplicas(w.img, 0, 1, 0); !isErr(err, metadata.ErrInvalidCommand) {
		t.Error(err)
	}
	a, err := metadata.PlaceReplicas(w.img, 3, 1, ^uint64(0))
	if err != nil || len(a) != 3 || a[2].GetReplicas()[0] != 1 {
		t.Errorf("%v %v", a, err)
	}
}
