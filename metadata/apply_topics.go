package metadata

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

const maxTopicName = 249 // so that "<topic>-<partition>.<suffix>" is a file name

// CheckTopicName says why a name is not legal as a topic's (Kafka's rule: it
// names directories). It wraps ErrInvalidCommand.
func CheckTopicName(name string) error {
	legal := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
	}
	switch {
	case name == "" || name == "." || name == ".." || len(name) > maxTopicName:
		return invalid("topic name %q is empty, '.', '..' or longer than %d", name, maxTopicName)
	case strings.ContainsFunc(name, func(r rune) bool { return !legal(r) }):
		return invalid("topic name %q has a character other than ASCII letters, digits, '.', '_' and '-'", name)
	}
	return nil
}

// createTopic makes a topic with its partitions and overrides, all or nothing.
func (d *draft) createTopic(c *metadatapb.CreateTopic) error {
	raw, ok := id16(c.GetId())
	if !ok {
		return invalid("topic id %x", c.GetId())
	}
	id := protocol.TopicID(raw)
	if err := CheckTopicName(c.GetName()); err != nil {
		return err
	}
	if old, ok := d.img.Topic(c.GetName()); ok && old.ID == id {
		return nil // ids are random: this is a repeat
	} else if ok {
		return fmt.Errorf("%w: %s has the id %s", ErrTopicExists, c.GetName(), old.ID)
	}
	if old, ok := d.img.TopicByID(id); ok {
		return fmt.Errorf("%w: %s is %s", ErrTopicIDExists, id, old.Name)
	}
	t := Topic{Name: c.GetName(), ID: id, CreatedMs: protocol.Timestamp(c.GetCreatedMs())}
	if err := d.growTopic(t, c.GetPartitions()); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, cfg := range c.GetConfigs() {
		if cfg.GetName() == "" || cfg.Value == nil || seen[cfg.GetName()] {
			return invalid("config %q of new topic %s is unnamed, without value or given twice", cfg.GetName(), t.Name)
		}
		seen[cfg.GetName()] = true
		d.setConfig(Resource{Type: TopicResource, Name: t.Name}, cfg.GetName(), cfg.Value)
	}
	return nil
}

func (d *draft) addPartitions(c *metadatapb.AddPartitions) error {
	t, err := d.topicOf(c.GetTopicId())
	if err != nil {
		return err
	}
	if c.GetFrom() != t.Partitions {
		return fmt.Errorf("%w: %s has %d, expected %d", ErrPartitionCount, t.Name, t.Partitions, c.GetFrom())
	}
	return d.growTopic(t, c.GetPartitions())
}

// growTopic appends partitions to a topic. The first ISR is whoever is
// unfenced: an empty replica that may be down must not count for the high watermark.
func (d *draft) growTopic(t Topic, assignments []*metadatapb.PartitionAssignment) error {
	if len(assignments) == 0 || len(assignments) > math.MaxInt32-int(t.Partitions) {
		return invalid("%d partitions more for topic %s of %d", len(assignments), t.Name, t.Partitions)
	}
	for _, a := range assignments {
		p := Partition{Key: protocol.PartitionKey{Topic: t.ID, Partition: t.Partitions}, Leader: protocol.NoBroker}
		if err := d.assign(&p, a); err != nil {
			return fmt.Errorf("%s-%d: %w", t.Name, p.Key.Partition, err)
		}
		d.setPartition(p)
		t.Partitions++
	}
	d.setTopic(t)
	return nil
}

// assign fills in the replicas of a new partition and its first leader.
func (d *draft) assign(p *Partition, a *metadatapb.PartitionAssignment) error {
	if len(a.GetReplicas()) == 0 || len(a.GetDirectories()) != len(a.GetReplicas()) {
		return invalid("%d replicas in %d directories", len(a.GetReplicas()), len(a.GetDirectories()))
	}
	for i, raw := range a.GetReplicas() {
		id := protocol.BrokerID(raw)
		b, ok := d.img.Broker(id)
		if !ok {
			return fmt.Errorf("%w: %d", ErrUnknownBroker, id)
		}
		if slices.Contains(p.Replicas, id) {
			return invalid("broker %d holds two replicas", id)
		}
		dir, assigned := id16(a.GetDirectories()[i])
		if len(a.GetDirectories()[i]) != len(dir) {
			return invalid("directory id %x", a.GetDirectories()[i])
		}
		if assigned && !slices.Contains(b.Directories, dir) {
			return fmt.Errorf("%w: %x of broker %d", ErrUnknownDirectory, dir, id)
		}
		p.Replicas = append(p.Replicas, id)
		p.Directories = append(p.Directories, dir)
		if !b.Fenced {
			p.ISR = append(p.ISR, id)
		}
	}
	if len(p.ISR) == 0 {
		return fmt.Errorf("%w: %v", ErrAllReplicasFenced, p.Replicas)
	}
	p.Leader = p.ISR[0]
	return nil
}

func (d *draft) topicOf(raw []byte) (Topic, error) {
	id, ok := id16(raw)
	if !ok {
		return Topic{}, invalid("topic id %x", raw)
	}
	t, ok := d.img.TopicByID(id)
	if !ok {
		return Topic{}, fmt.Errorf("%w: id %s", ErrUnknownTopic, protocol.TopicID(id))
	}
	return t, nil
}

// deleteTopic removes a topic, its partitions and its overrides. Its objects in
// the bucket are then unreachable and go with the sweeper's rounds.
func (d *draft) deleteTopic(c *metadatapb.DeleteTopic) error {
	t, err := d.topicOf(c.GetId())
	if err != nil {
		return err
	}
	for p := range d.base.Partitions(t.ID) {
		d.dropPartition(p)
	}
	r := Resource{Type: TopicResource, Name: t.Name}
	for name := range d.base.Configs(r) {
		d.setConfig(r, name, nil)
	}
	d.dropTopic(t)
	return nil
}

// alterConfigs changes the overrides of one resource, all or none. That values
// make sense is checked by the proposer, against the tables of its own binary.
func (d *draft) alterConfigs(c *metadatapb.AlterConfigs) error {
	r := Resource{Type: ResourceType(c.GetType()), Name: c.GetName()}
	switch {
	case int32(r.Type) != c.GetType():
		return invalid("config resource type %d", c.GetType())
	case r.Type == TopicResource:
		t, err := d.topicOf(c.GetTopicId())
		if err != nil {
			return err
		}
		if t.Name != r.Name {
			return fmt.Errorf("%w: %s has not the id %s", ErrUnknownTopic, r.Name, t.ID)
		}
	case r.Type == BrokerResource:
		if id, err := strconv.ParseInt(r.Name, 10, 32); r.Name != "" && (err != nil || strconv.FormatInt(id, 10) != r.Name) {
			return invalid("config resource %q is not a broker id", r.Name)
		}
	default:
		return invalid("config resource type %d", c.GetType())
	}
	for _, change := range c.GetChanges() {
		if change.GetName() == "" {
			return invalid("config without a name")
		}
		d.setConfig(r, change.GetName(), change.Value)
	}
	d.forgetELR(r)
	return nil
}

// forgetELR empties the ELR of partitions whose min ISR changed: it was kept
// under another rule for when the high watermark may advance (KIP-966).
func (d *draft) forgetELR(r Resource) {
	if r.Type == BrokerResource && r.Name != "" {
		return
	}
	before, hadBefore := d.base.Config(r, minISRConfig)
	after, hasAfter := d.img.Config(r, minISRConfig)
	if before == after && hadBefore == hasAfter {
		return
	}
	topics := d.img.Topics()
	if t, ok := d.img.Topic(r.Name); ok && r.Type == TopicResource {
		topics = func(yield func(Topic) bool) { yield(t) }
	}
	var stale []Partition
	for t := range topics {
		if d.base.minISR(t.ID) == d.img.minISR(t.ID) {
			continue
		}
		for p := range d.img.Partitions(t.ID) {
			if len(p.ELR) > 0 {
				stale = append(stale, p)
			}
		}
	}
	for _, p := range stale {
		q := p
		q.ELR = nil
		d.changeReplicaState(p, q)
	}
}
