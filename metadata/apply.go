package metadata

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// Apply gives the image after cmd, which is the entry of the log at index. It
// is total and deterministic: every broker computes the same image, delta,
// result and error. With an error (one of the refusals, wrapped with the values
// that decided) nothing but the index of the image has changed. ErrUnknownCommand
// means that a newer binary wrote this log: the caller must stop, since its
// image would part from the others'.
//
// Only the goroutine that applies may call it (see Image). An index that does
// not grow is a broken log and panics, as does an image that breaks its invariants.
func Apply(img *Image, cmd *Command, index uint64) (*Image, Delta, Result, error) {
	if index <= img.index {
		panic(fmt.Sprintf("metadata: command at index %d applied to an image at %d", index, img.index))
	}
	d := newDraft(img, index)
	err := d.apply(cmd)
	if err != nil {
		d = newDraft(img, index)
		return d.img, Delta{}, Result{Index: index}, err
	}
	d.result.Index = index
	return d.img, d.finish(), d.result, nil
}

// draft is an image in the making. Tables are copied when first written. A
// refusal may come after writes to the draft, which is then thrown away.
type draft struct {
	img    *Image
	base   *Image
	delta  Delta
	result Result
	owned  struct{ brokers, topics, partitions, configs bool }
}

func newDraft(base *Image, index uint64) *draft {
	img := *base
	img.index = index
	return &draft{img: &img, base: base}
}

func (d *draft) apply(cmd *Command) error {
	switch k := cmd.GetKind().(type) {
	case *metadatapb.Command_InitCluster:
		return d.initCluster(k.InitCluster)
	case *metadatapb.Command_RegisterBroker:
		return d.registerBroker(k.RegisterBroker)
	case *metadatapb.Command_SetBrokerFencing:
		return d.setBrokerFencing(k.SetBrokerFencing)
	case *metadatapb.Command_CreateTopic:
		return d.createTopic(k.CreateTopic)
	case *metadatapb.Command_DeleteTopic:
		return d.deleteTopic(k.DeleteTopic)
	case *metadatapb.Command_AddPartitions:
		return d.addPartitions(k.AddPartitions)
	case *metadatapb.Command_AlterConfigs:
		return d.alterConfigs(k.AlterConfigs)
	case *metadatapb.Command_AlterPartitions:
		return d.alterPartitions(k.AlterPartitions)
	case *metadatapb.Command_AllocateProducerIds:
		return d.allocateProducerIDs(k.AllocateProducerIds)
	case *metadatapb.Command_AdvanceLogStarts:
		return d.advanceLogStarts(k.AdvanceLogStarts)
	case *metadatapb.Command_CommitManifest:
		return d.commitManifest(k.CommitManifest)
	}
	return d.applyBucket(cmd)
}

// applyBucket applies the kinds that change the bond with the bucket.
func (d *draft) applyBucket(cmd *Command) error {
	switch k := cmd.GetKind().(type) {
	case *metadatapb.Command_SetSweepFloor:
		return d.setSweepFloor(k.SetSweepFloor)
	case *metadatapb.Command_RetainRoot:
		return d.retainRoot(k.RetainRoot)
	case *metadatapb.Command_ReleaseRoots:
		return d.releaseRoots(k.ReleaseRoots)
	case *metadatapb.Command_BindBucket:
		return d.bindBucket(k.BindBucket)
	}
	return ErrUnknownCommand
}

// finish orders the delta, each key once.
func (d *draft) finish() Delta {
	slices.Sort(d.delta.Brokers)
	d.delta.Brokers = slices.Compact(d.delta.Brokers)
	slices.SortFunc(d.delta.Topics, func(a, b protocol.TopicID) int { return bytes.Compare(a[:], b[:]) })
	d.delta.Topics = slices.Compact(d.delta.Topics)
	slices.SortFunc(d.delta.Partitions, compareKeys)
	d.delta.Partitions = slices.Compact(d.delta.Partitions)
	slices.SortFunc(d.delta.Configs, compareResources)
	d.delta.Configs = slices.Compact(d.delta.Configs)
	return d.delta
}

func compareResources(a, b Resource) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
}

func (d *draft) setBroker(b Broker) {
	if !d.owned.brokers {
		d.img.brokers, d.owned.brokers = d.img.brokers.Copy(), true
	}
	d.img.brokers.Set(b)
	d.delta.Brokers = append(d.delta.Brokers, b.ID)
}

func (d *draft) ownTopics() {
	if !d.owned.topics {
		d.img.topics, d.img.names, d.owned.topics = d.img.topics.Copy(), d.img.names.Copy(), true
	}
}

func (d *draft) setTopic(t Topic) {
	d.ownTopics()
	d.img.topics.Set(t)
	d.img.names.Set(t.Name, t.ID)
	d.delta.Topics = append(d.delta.Topics, t.ID)
}

func (d *draft) dropTopic(t Topic) {
	d.ownTopics()
	d.img.topics.Delete(t)
	d.img.names.Delete(t.Name)
	d.delta.Topics = append(d.delta.Topics, t.ID)
	d.delta.Removed = append(d.delta.Removed, t)
}

func (d *draft) ownPartitions() {
	if !d.owned.partitions {
		d.img.partitions, d.owned.partitions = d.img.partitions.Copy(), true
	}
}

func (d *draft) setPartition(p Partition) {
	p.assertValid()
	d.ownPartitions()
	d.img.partitions.Set(p)
	d.delta.Partitions = append(d.delta.Partitions, p.Key)
}

func (d *draft) dropPartition(p Partition) {
	d.ownPartitions()
	d.img.partitions.Delete(p)
	d.delta.Partitions = append(d.delta.Partitions, p.Key)
}

// setConfig sets or, with a nil value, deletes one override.
func (d *draft) setConfig(r Resource, name string, value *string) {
	old, ok := d.img.Config(r, name)
	if value == nil && !ok || value != nil && ok && *value == old {
		return
	}
	if !d.owned.configs {
		d.img.configs, d.owned.configs = d.img.configs.Copy(), true
	}
	if value == nil {
		d.img.configs.Delete(configRow{Resource: r, Name: name})
	} else {
		d.img.configs.Set(configRow{Resource: r, Name: name, Value: *value})
	}
	d.delta.Configs = append(d.delta.Configs, r)
}

// assertValid panics where a row breaks what everything rests on. Apply
// checks commands before it writes, so that no command can get here with such a row.
func (p *Partition) assertValid() {
	if err := p.check(); err != nil {
		panic(fmt.Sprintf("metadata: partition row breaks an invariant: %v: %+v", err, *p))
	}
}

// check says which invariant the row breaks.
func (p *Partition) check() error {
	switch {
	case p.Key.Topic.IsZero() || p.Key.Partition < 0:
		return fmt.Errorf("key %v is not one of a partition", p.Key)
	case p.LeaderEpoch < 0 || p.PartitionEpoch < 0:
		return fmt.Errorf("leader epoch %d, partition epoch %d", p.LeaderEpoch, p.PartitionEpoch)
	case p.LogStart < 0 || p.Manifest.TieredEnd < p.LogStart:
		return fmt.Errorf("log start %d, tiered end %d", p.LogStart, p.Manifest.TieredEnd)
	case (p.Manifest.Version == 0) != (p.Manifest.Root.Key == ""):
		return fmt.Errorf("manifest version %d with root %q", p.Manifest.Version, p.Manifest.Root.Key)
	}
	return p.checkReplicas()
}

func (p *Partition) checkReplicas() error {
	switch {
	case len(p.Replicas) == 0 || len(p.Directories) != len(p.Replicas) || !distinct(p.Replicas):
		return fmt.Errorf("replicas %v with %d directories", p.Replicas, len(p.Directories))
	case len(p.ISR) == 0 || !distinct(p.ISR) || !subset(p.ISR, p.Replicas):
		return fmt.Errorf("ISR %v of replicas %v", p.ISR, p.Replicas)
	case !distinct(p.ELR) || !subset(p.ELR, p.Replicas) || intersect(p.ELR, p.ISR):
		return fmt.Errorf("ELR %v beside ISR %v of replicas %v", p.ELR, p.ISR, p.Replicas)
	case p.Leader != protocol.NoBroker && !slices.Contains(p.ISR, p.Leader):
		return fmt.Errorf("leader %d is not in ISR %v", p.Leader, p.ISR)
	}
	return nil
}

func distinct(ids []protocol.BrokerID) bool {
	for i, id := range ids {
		if slices.Contains(ids[:i], id) {
			return false
		}
	}
	return true
}

func subset(of, set []protocol.BrokerID) bool {
	return !slices.ContainsFunc(of, func(id protocol.BrokerID) bool { return !slices.Contains(set, id) })
}

func intersect(a, b []protocol.BrokerID) bool {
	return slices.ContainsFunc(a, func(id protocol.BrokerID) bool { return slices.Contains(b, id) })
}

// id16 reads a 16-byte id; all zero is as good as absent.
func id16(b []byte) (id [16]byte, ok bool) {
	if len(b) != len(id) {
		return id, false
	}
	copy(id[:], b)
	return id, id != [16]byte{}
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidCommand, fmt.Sprintf(format, args...))
}
