package admin

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// maxPartitions is how many partitions one request may make, as in Kafka.
const maxPartitions = 10_000

// checkCount refuses a request that would make too large a command.
func checkCount(partitions int) error {
	if partitions > maxPartitions {
		return protocol.Errorf(kerr.PolicyViolation, "Unable to perform excessively large batch operation: %d partitions, at most %d at a time.", partitions, maxPartitions)
	}
	return nil
}

// OffsetsTopic is where groups keep their state.
const OffsetsTopic = "__consumer_offsets"

// Internal tells whether clients may not create or delete a topic of this name
// as they like (Kafka's Topic.isInternal).
func Internal(topic string) bool {
	return topic == OffsetsTopic || topic == "__transaction_state" || topic == "__share_group_state"
}

// NewTopic is what a client wants of a topic. Partitions and Replication are -1
// for the broker's default; Assignment, if set, decides both.
type NewTopic struct {
	Name        string
	Partitions  int32
	Replication int16
	Assignment  map[int32][]protocol.BrokerID
	Configs     map[string]string
}

// CreateTopic checks and, unless validateOnly, creates a topic. It returns the
// topic with its replication factor once this broker serves it.
func (a *Admin) CreateTopic(ctx context.Context, t NewTopic, validateOnly bool) (metadata.Topic, int16, error) {
	img := a.Image()
	if err := errors.Join(checkName(img, t.Name), a.checkReserve()); err != nil {
		return metadata.Topic{}, 0, err
	}
	if err := a.cfg.Static.CheckTopicConfig(img, nil, t.Configs); err != nil {
		return metadata.Topic{}, 0, protocol.Errorf(kerr.InvalidConfig, "%v", err)
	}
	assignments, err := a.place(img, t)
	if err != nil {
		return metadata.Topic{}, 0, err
	}
	cmd := &metadatapb.CreateTopic{Name: t.Name, Partitions: assignments, CreatedMs: nowMs()}
	id := newTopicID()
	cmd.Id = id[:]
	for name, value := range t.Configs {
		cmd.Configs = append(cmd.Configs, &metadatapb.Config{Name: name, Value: &value})
	}
	topic := metadata.Topic{Name: t.Name, ID: id, Partitions: int32(len(assignments)), CreatedMs: protocol.Timestamp(cmd.CreatedMs)}
	factor := int16(len(assignments[0].Replicas))
	if validateOnly {
		return topic, factor, nil
	}
	err = a.propose(ctx, &metadata.Command{Kind: &metadatapb.Command_CreateTopic{CreateTopic: cmd}})
	return topic, factor, err
}

func checkName(img *metadata.Image, name string) error {
	if err := metadata.CheckTopicName(name); err != nil {
		return protocol.Errorf(kerr.InvalidTopicException, "%v", err)
	}
	if _, ok := img.Topic(name); ok {
		return protocol.Errorf(kerr.TopicAlreadyExists, "Topic '%s' already exists.", name)
	}
	return checkCollision(img, name)
}

// checkCollision refuses a name that differs from another topic's in '.' and
// '_' only: Kafka's metric names cannot tell them apart.
func checkCollision(img *metadata.Image, name string) error {
	if !strings.ContainsAny(name, "._") {
		return nil
	}
	folded := strings.ReplaceAll(name, ".", "_")
	for t := range img.Topics() {
		if len(t.Name) == len(name) && strings.ReplaceAll(t.Name, ".", "_") == folded {
			return protocol.Errorf(kerr.InvalidTopicException, "Topic '%s' collides with existing topic: %s", name, t.Name)
		}
	}
	return nil
}

func (a *Admin) place(img *metadata.Image, t NewTopic) ([]*metadatapb.PartitionAssignment, error) {
	if err := checkCount(max(int(t.Partitions), len(t.Assignment))); err != nil {
		return nil, err
	}
	if len(t.Assignment) > 0 {
		if t.Partitions != -1 || t.Replication != -1 {
			return nil, protocol.Errorf(kerr.InvalidRequest, "both a replica assignment and a partition count or replication factor were given")
		}
		return assigned(img, t.Assignment, 0)
	}
	partitions, factor := t.Partitions, t.Replication
	if partitions == -1 {
		partitions = int32(a.cfg.Static.BrokerInt(img, "num.partitions"))
	}
	if factor == -1 {
		factor = int16(a.cfg.Static.Int("default.replication.factor"))
	}
	if partitions < 1 {
		return nil, protocol.Errorf(kerr.InvalidPartitions, "Number of partitions was set to an invalid non-positive value.")
	}
	if factor < 1 {
		return nil, protocol.Errorf(kerr.InvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value.")
	}
	out, err := metadata.PlaceReplicas(img, partitions, factor, img.Index())
	return out, answer(err)
}

// assigned takes over a manual assignment of partitions from, from+1, ...
func assigned(img *metadata.Image, manual map[int32][]protocol.BrokerID, from int32) ([]*metadatapb.PartitionAssignment, error) {
	out := make([]*metadatapb.PartitionAssignment, len(manual))
	factor := len(manual[from])
	for i := range out {
		replicas, ok := manual[from+int32(i)]
		if !ok || len(replicas) == 0 || len(replicas) != factor {
			return nil, protocol.Errorf(kerr.InvalidReplicaAssignment, "partitions must be numbered without gaps from %d and have equally many replicas", from)
		}
		row := &metadatapb.PartitionAssignment{}
		seen := map[protocol.BrokerID]bool{}
		for _, id := range replicas {
			b, ok := img.Broker(id)
			if !ok || seen[id] || len(b.Directories) == 0 {
				return nil, protocol.Errorf(kerr.InvalidReplicaAssignment, "broker %d is not registered, or listed twice", id)
			}
			seen[id] = true
			row.Replicas = append(row.Replicas, int32(id))
			row.Directories = append(row.Directories, b.Directories[0][:])
		}
		out[i] = row
	}
	return out, nil
}

// Ensure creates a topic with the broker's defaults if it does not exist.
func (a *Admin) Ensure(ctx context.Context, name string) error {
	t := NewTopic{Name: name, Partitions: -1, Replication: -1}
	if name == OffsetsTopic {
		t = a.offsetsTopic()
	}
	_, _, err := a.CreateTopic(ctx, t, false)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	return err
}

// offsetsTopic is __consumer_offsets with Kafka's settings. Its replication
// factor is never above the number of brokers: with one broker it is one.
func (a *Admin) offsetsTopic() NewTopic {
	s, brokers := a.cfg.Static, 0
	for b := range a.Image().Brokers() {
		if !b.Fenced {
			brokers++
		}
	}
	return NewTopic{
		Name: OffsetsTopic, Partitions: int32(s.Int("offsets.topic.num.partitions")),
		Replication: int16(max(1, min(s.Int("offsets.topic.replication.factor"), int64(brokers)))),
		Configs: map[string]string{
			"cleanup.policy": "compact", "compression.type": "producer",
			"segment.bytes": strconv.FormatInt(s.Int("offsets.topic.segment.bytes"), 10),
		},
	}
}

// DeleteTopic deletes a topic by id.
func (a *Admin) DeleteTopic(ctx context.Context, id protocol.TopicID) error {
	if !a.cfg.Static.Bool("delete.topic.enable") {
		return protocol.Errorf(kerr.TopicDeletionDisabled, "delete.topic.enable is false")
	}
	err := a.propose(ctx, &metadata.Command{Kind: &metadatapb.Command_DeleteTopic{DeleteTopic: &metadatapb.DeleteTopic{Id: id[:]}}})
	return err
}

// AddPartitions grows a topic to count partitions; manual, if set, places the new ones.
func (a *Admin) AddPartitions(ctx context.Context, name string, count int32, manual [][]protocol.BrokerID, validateOnly bool) error {
	img := a.Image()
	t, ok := img.Topic(name)
	switch {
	case !ok:
		return protocol.Errorf(kerr.UnknownTopicOrPartition, "The topic '%s' does not exist.", name)
	case Internal(name):
		// The count says which partition holds a group: with another one, no group would find its offsets.
		return protocol.Errorf(kerr.InvalidPartitions, "The number of partitions of the internal topic %s cannot be changed.", name)
	case count == t.Partitions:
		return protocol.Errorf(kerr.InvalidPartitions, "Topic already has %d partition(s).", count)
	case count < t.Partitions:
		return protocol.Errorf(kerr.InvalidPartitions, "The topic %s currently has %d partition(s); %d would not be an increase.", name, t.Partitions, count)
	case manual != nil && len(manual) != int(count-t.Partitions):
		return protocol.Errorf(kerr.InvalidReplicaAssignment, "%d new partitions, but %d assignments", count-t.Partitions, len(manual))
	}
	if err := checkCount(int(count - t.Partitions)); err != nil {
		return err
	}
	assignments, err := a.placeMore(img, t, count, manual)
	if err != nil || validateOnly {
		return err
	}
	if err := a.checkReserve(); err != nil {
		return err
	}
	cmd := &metadatapb.AddPartitions{TopicId: t.ID[:], From: t.Partitions, Partitions: assignments}
	err = a.propose(ctx, &metadata.Command{Kind: &metadatapb.Command_AddPartitions{AddPartitions: cmd}})
	return err
}

func (a *Admin) placeMore(img *metadata.Image, t metadata.Topic, count int32, manual [][]protocol.BrokerID) ([]*metadatapb.PartitionAssignment, error) {
	if manual != nil {
		byNumber := map[int32][]protocol.BrokerID{}
		for i, replicas := range manual {
			byNumber[t.Partitions+int32(i)] = replicas
		}
		return assigned(img, byNumber, t.Partitions)
	}
	first, _ := img.Partition(protocol.PartitionKey{Topic: t.ID})
	factor := min(len(first.Replicas), math.MaxInt16)
	out, err := metadata.PlaceReplicas(img, count-t.Partitions, int16(factor), img.Index()+uint64(t.Partitions))
	return out, answer(err)
}
