package metadata_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

func isErr(err, want error) bool { return errors.Is(err, want) }

func TestCreateTopic(t *testing.T) {
	w := newWorld(t, 2)
	value := "compact"
	create := command(&metadatapb.CreateTopic{
		Name: "a", Id: id(1), CreatedMs: 7, Partitions: []*metadatapb.PartitionAssignment{assignment(1, 2), assignment(2, 1)},
		Configs: []*metadatapb.Config{{Name: "cleanup.policy", Value: &value}},
	})
	w.ok(create)
	topic, ok := w.img.Topic("a")
	if !ok || topic.ID != topicID(1) || topic.Partitions != 2 || topic.CreatedMs != 7 {
		t.Fatalf("%+v", topic)
	}
	if p := w.partition(1, 1); p.Leader != 2 || !slices.Equal(p.ISR, []protocol.BrokerID{2, 1}) || p.LeaderEpoch != 0 {
		t.Fatalf("%+v", p)
	}
	if v, _ := w.img.Config(metadata.Resource{Type: metadata.TopicResource, Name: "a"}, "cleanup.policy"); v != value {
		t.Fatalf("cleanup.policy is %q", v)
	}
	want := metadata.Delta{
		Topics:     []protocol.TopicID{topicID(1)},
		Partitions: []protocol.PartitionKey{key(1, 0), key(1, 1)},
		Configs:    []metadata.Resource{{Type: metadata.TopicResource, Name: "a"}},
	}
	if !sameDelta(w.delta, want) {
		t.Fatalf("delta %+v", w.delta)
	}
	before := w.img
	w.ok(create)
	w.same(before)
}

func sameDelta(a, b metadata.Delta) bool {
	return slices.Equal(a.Brokers, b.Brokers) && slices.Equal(a.Topics, b.Topics) && slices.Equal(a.Removed, b.Removed) &&
		slices.Equal(a.Partitions, b.Partitions) && slices.Equal(a.Configs, b.Configs) && a.Bucket == b.Bucket
}

func TestFencedReplicasAreNotInTheFirstISR(t *testing.T) {
	w := newWorld(t, 2)
	w.fence(1, true)
	w.topic("a", 1, assignment(1, 2))
	if p := w.partition(1, 0); p.Leader != 2 || !slices.Equal(p.ISR, []protocol.BrokerID{2}) {
		t.Fatalf("%+v", p)
	}
	w.refused(metadata.ErrAllReplicasFenced, command(&metadatapb.CreateTopic{
		Name: "b", Id: id(2), Partitions: []*metadatapb.PartitionAssignment{assignment(2), assignment(1)},
	}))
}

func TestCreateTopicRefusals(t *testing.T) {
	w := newWorld(t, 2)
	w.topic("a", 1, assignment(1))
	good := func() *metadatapb.CreateTopic {
		return &metadatapb.CreateTopic{Name: "b", Id: id(2), Partitions: []*metadatapb.PartitionAssignment{assignment(1)}}
	}
	value := "v"
	for name, c := range map[string]struct {
		want   error
		change func(*metadatapb.CreateTopic)
	}{
		"name taken":          {metadata.ErrTopicExists, func(c *metadatapb.CreateTopic) { c.Name = "a" }},
		"id taken":            {metadata.ErrTopicIDExists, func(c *metadatapb.CreateTopic) { c.Id = id(1) }},
		"id short":            {metadata.ErrInvalidCommand, func(c *metadatapb.CreateTopic) { c.Id = c.Id[:15] }},
		"id zero":             {metadata.ErrInvalidCommand, func(c *metadatapb.CreateTopic) { c.Id = id(0) }},
		"no name":             {metadata.ErrInvalidCommand, func(c *metadatapb.CreateTopic) { c.Name = "" }},
		"path":                {metadata.ErrInvalidCommand, func(c *metadatapb.CreateTopic) { c.Name = "../x" }},
		"dots":                {metadata.ErrInvalidCommand, func(c *metadatapb.CreateTopic) { c.Name = ".." }},
		"long":                {metadata.ErrInvalidCommand, func(c *metadatapb.CreateTopic) { c.Name = strings.Repeat("a", 250) }},
		"no partitions":       {metadata.ErrInvalidCommand, func(c *metadatapb.CreateTopic) { c.Partitions = nil }},
		"no replicas":         {metadata.ErrInvalidCommand, func(c *metadatapb.CreateTopic) { c.Partitions[0] = assignment() }},
		"replica twice":       {metadata.ErrInvalidCommand, func(c *metadatapb.CreateTopic) { c.Partitions[0] = assignment(1, 1) }},
		"unknown broker":      {metadata.ErrUnknownBroker, func(c *metadatapb.CreateTopic) { c.Partitions[0] = assignment(1, 3) }},
		"directories missing": {metadata.ErrInvalidCommand, func(c *metadatapb.CreateTopic) { c.Partitions[0].Directories = nil }},
		"other's directory":   {metadata.ErrUnknownDirectory, func(c *metadatapb.CreateTopic) { c.Partitions[0].Directories[0] = id(2) }},
		"second bad":          {metadata.ErrUnknownBroker, func(c *metadatapb.CreateTopic) { c.Partitions = append(c.Partitions, assignment(3)) }},
		"config unset":        {metadata.ErrInvalidCommand, func(c *metadatapb.CreateTopic) { c.Configs = []*metadatapb.Config{{Name: "x"}} }},
		"config twice": {metadata.ErrInvalidCommand, func(c *metadatapb.CreateTopic) {
			c.Configs = []*metadatapb.Config{{Name: "x", Value: &value}, {Name: "x", Value: &value}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{t: t, img: w.img, index: w.index}
			cmd := good()
			c.change(cmd)
			w.refused(c.want, command(cmd))
		})
	}
	w.ok(command(good()))
}

func TestDeleteTopicTakesPartitionsAndConfigsAlong(t *testing.T) {
	w := newWorld(t, 1)
	before := w.img
	w.topic("a", 1, assignment(1), assignment(1))
	w.ok(topicConfig("a", 1, "retention.ms", "5"))
	w.ok(command(&metadatapb.DeleteTopic{Id: id(1)}))
	w.same(before)
	if len(w.delta.Removed) != 1 || w.delta.Removed[0].Name != "a" || len(w.delta.Partitions) != 2 || len(w.delta.Configs) != 1 {
		t.Fatalf("%+v", w.delta)
	}
	w.refused(metadata.ErrUnknownTopic, command(&metadatapb.DeleteTopic{Id: id(1)}))
	w.topic("a", 2, assignment(1))
	w.refused(metadata.ErrUnknownTopic, topicConfig("a", 1, "retention.ms", "5"))
	w.refused(metadata.ErrUnknownPartition, manifest(1, 0, func(c *metadatapb.CommitManifest) { c.TieredEnd = 5 }))
}

func TestAddPartitionsGoesByTheCount(t *testing.T) {
	w := newWorld(t, 1)
	w.topic("a", 1, assignment(1))
	add := command(&metadatapb.AddPartitions{TopicId: id(1), From: 1, Partitions: []*metadatapb.PartitionAssignment{assignment(1), assignment(1)}})
	w.ok(add)
	if topic, _ := w.img.Topic("a"); topic.Partitions != 3 || w.img.PartitionCount() != 3 {
		t.Fatalf("%+v", topic)
	}
	w.refused(metadata.ErrPartitionCount, add)
	w.refused(metadata.ErrUnknownTopic, command(&metadatapb.AddPartitions{TopicId: id(9)}))
}

func TestAlterConfigsIsAllOrNothing(t *testing.T) {
	w := newWorld(t, 1)
	w.topic("a", 1, assignment(1))
	a, b := "1", "2"
	broker := metadata.Resource{Type: metadata.BrokerResource, Name: "1"}
	w.ok(command(&metadatapb.AlterConfigs{Type: 4, Name: "1", Changes: []*metadatapb.Config{{Name: "x", Value: &a}, {Name: "y", Value: &b}}}))
	w.refused(metadata.ErrInvalidCommand, command(&metadatapb.AlterConfigs{Type: 4, Name: "1", Changes: []*metadatapb.Config{{Name: "x"}, {}}}))
	w.ok(command(&metadatapb.AlterConfigs{Type: 4, Name: "1", Changes: []*metadatapb.Config{{Name: "x"}, {Name: "absent"}}}))
	var names []string
	for name := range w.img.Configs(broker) {
		names = append(names, name)
	}
	if !slices.Equal(names, []string{"y"}) || !slices.Equal(w.delta.Configs, []metadata.Resource{broker}) {
		t.Fatalf("%v, delta %+v", names, w.delta)
	}
	for _, bad := range []*metadatapb.AlterConfigs{{Type: 3}, {Type: 258}, {Type: 4, Name: "01"}, {Type: 4, Name: "x"}, {Type: 2, Name: "a"}} {
		w.refused(metadata.ErrInvalidCommand, command(bad))
	}
	w.refused(metadata.ErrUnknownTopic, command(&metadatapb.AlterConfigs{Type: 2, Name: "b", TopicId: id(1)}))
}

func TestChangedMinISREmptiesTheELR(t *testing.T) {
	two, one := "2", "1"
	for name, c := range map[string]*metadatapb.AlterConfigs{
		"topic":   {Type: 2, Name: "a", TopicId: id(1), Changes: []*metadatapb.Config{{Name: "min.insync.replicas", Value: &one}}},
		"default": {Type: 4, Changes: []*metadatapb.Config{{Name: "min.insync.replicas"}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			w.ok(command(&metadatapb.AlterConfigs{Type: 4, Changes: []*metadatapb.Config{{Name: "min.insync.replicas", Value: &two}}}))
			w.topic("a", 1, assignment(1, 2))
			w.fence(2, true)
			if got := state(w.partition(1, 0)); got != "leader 1 epoch 0 isr [1] elr [2]" {
				t.Fatal(got)
			}
			w.ok(command(c))
			if got := state(w.partition(1, 0)); got != "leader 1 epoch 0 isr [1] elr []" {
				t.Fatal(got)
			}
		})
	}
}

func TestAlterPartitions(t *testing.T) {
	w := newWorld(t, 3)
	w.topic("a", 1, assignment(1, 2, 3))
	w.ok(topicConfig("a", 1, "min.insync.replicas", "2"))
	alter := func(change func(*metadatapb.PartitionChange), isr ...int32) *metadata.Command {
		p := w.partition(1, 0)
		c := &metadatapb.PartitionChange{
			TopicId: id(1), ExpectedLeaderEpoch: int32(p.LeaderEpoch), ExpectedPartitionEpoch: int32(p.PartitionEpoch), Isr: isr,
		}
		if change != nil {
			change(c)
		}
		return command(&metadatapb.AlterPartitions{Broker: 1, BrokerEpoch: w.epoch(1), Changes: []*metadatapb.PartitionChange{c}})
	}
	refuse := func(want error, cmd *metadata.Command) {
		t.Helper()
		before := w.img
		if err := w.row(cmd); !isErr(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
		w.same(before)
	}
	shrink := alter(nil, 1, 2)
	if err := w.row(shrink); err != nil || state(w.partition(1, 0)) != "leader 1 epoch 0 isr [1 2] elr []" {
		t.Fatal(err, state(w.partition(1, 0)))
	}
	refuse(metadata.ErrStalePartition, shrink)
	if err := w.row(alter(nil, 1)); err != nil || state(w.partition(1, 0)) != "leader 1 epoch 0 isr [1] elr [2]" {
		t.Fatal(err, state(w.partition(1, 0)))
	}
	refuse(metadata.ErrStaleLeaderEpoch, alter(func(c *metadatapb.PartitionChange) { c.ExpectedLeaderEpoch++ }, 1, 2))
	refuse(metadata.ErrUnknownPartition, alter(func(c *metadatapb.PartitionChange) { c.Partition++ }, 1))
	refuse(metadata.ErrInvalidCommand, alter(nil, 2))
	refuse(metadata.ErrInvalidCommand, alter(nil, 1, 1))
	refuse(metadata.ErrIneligibleReplica, alter(nil, 1, 4))
	w.fence(3, true)
	refuse(metadata.ErrIneligibleReplica, alter(nil, 1, 3))
	if err := w.row(alter(nil, 1, 2)); err != nil || state(w.partition(1, 0)) != "leader 1 epoch 0 isr [1 2] elr []" {
		t.Fatal(err, state(w.partition(1, 0)))
	}
	other := alter(nil, 1, 2)
	other.GetAlterPartitions().Broker, other.GetAlterPartitions().BrokerEpoch = 2, w.epoch(2)
	refuse(metadata.ErrStaleLeaderEpoch, other)
	other.GetAlterPartitions().BrokerEpoch++
	w.refused(metadata.ErrStaleBrokerEpoch, other)
}
