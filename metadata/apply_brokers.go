package metadata

import (
	"fmt"
	"math"
	"slices"

	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

func (d *draft) initCluster(c *metadatapb.InitCluster) error {
	switch {
	case d.img.clusterID != "":
		return fmt.Errorf("%w as %s", ErrClusterExists, d.img.clusterID)
	case c.GetClusterId() == "":
		return invalid("cluster id is empty")
	case c.GetStrataVersion() == 0:
		return invalid("strata.version 0 is not a level")
	}
	d.img.clusterID, d.img.version = c.GetClusterId(), c.GetStrataVersion()
	return nil
}

// brokerOf looks up a command's broker and checks the epoch it acts under.
func (d *draft) brokerOf(id int32, epoch int64) (Broker, error) {
	b, ok := d.img.Broker(protocol.BrokerID(id))
	if !ok {
		return Broker{}, fmt.Errorf("%w: %d", ErrUnknownBroker, id)
	}
	if int64(b.Epoch) != epoch {
		return Broker{}, fmt.Errorf("%w: broker %d has %d, the command %d", ErrStaleBrokerEpoch, id, b.Epoch, epoch)
	}
	return b, nil
}

// registerBroker gives a new process of a broker its epoch and leaves it fenced.
//
// A broker whose disk holds another epoch than the image is as good as
// unclean: it lost what it was told last (or its disk is an old copy), so that
// its log may end below what it acknowledged.
func (d *draft) registerBroker(c *metadatapb.RegisterBroker) error {
	next, err := d.brokerRow(c)
	if err != nil {
		return err
	}
	old, known := d.img.Broker(next.ID)
	if known && old.Incarnation == next.Incarnation {
		d.result.BrokerEpoch = old.Epoch
		return nil
	}
	unclean := c.GetUnclean() || known && c.GetPreviousEpoch() != int64(old.Epoch)
	d.setBroker(next)
	d.result.BrokerEpoch = next.Epoch
	for _, p := range d.partitionsOf(next.ID) {
		q, lost := rehome(p, next)
		unclean := unclean || lost
		q = elect(withoutReplica(q, next.ID, d.minISR(p), unclean), d.alive)
		if unclean && q.Leader == next.ID && q.LeaderEpoch == p.LeaderEpoch {
			q.LeaderEpoch++ // one epoch never has two histories
		}
		d.changeReplicaState(p, q)
	}
	return nil
}

// rehome tells whether the directory that held the replica is gone, and if so
// assigns the broker's only other one, or none, in its place.
func rehome(p Partition, b Broker) (_ Partition, lost bool) {
	i := slices.Index(p.Replicas, b.ID)
	if p.Directories[i] == (DirectoryID{}) || slices.Contains(b.Directories, p.Directories[i]) {
		return p, false
	}
	p.Directories = slices.Clone(p.Directories)
	p.Directories[i] = DirectoryID{}
	if len(b.Directories) == 1 {
		p.Directories[i] = b.Directories[0]
	}
	return p, true
}

// brokerRow checks a registration and makes the row that it asks for.
func (d *draft) brokerRow(c *metadatapb.RegisterBroker) (Broker, error) {
	incarnation, ok := id16(c.GetIncarnation())
	if !ok || c.GetBroker() < 0 {
		return Broker{}, invalid("broker %d with incarnation %x", c.GetBroker(), c.GetIncarnation())
	}
	b := Broker{
		ID:          protocol.BrokerID(c.GetBroker()),
		Epoch:       protocol.BrokerEpoch(d.img.index),
		Incarnation: incarnation,
		Rack:        c.GetRack(),
		Fenced:      true,
		MinVersion:  c.GetMinVersion(),
		MaxVersion:  c.GetMaxVersion(),
	}
	for _, raw := range c.GetDirectories() {
		dir, ok := id16(raw)
		if !ok || slices.Contains(b.Directories, dir) {
			return Broker{}, invalid("directory id %x of broker %d", raw, b.ID)
		}
		b.Directories = append(b.Directories, dir)
	}
	if len(b.Directories) == 0 {
		return Broker{}, invalid("broker %d has no log directory", b.ID)
	}
	for _, l := range c.GetListeners() {
		if l.GetPort() > math.MaxUint16 {
			return Broker{}, invalid("listener %s of broker %d has port %d", l.GetName(), b.ID, l.GetPort())
		}
		b.Listeners = append(b.Listeners, Listener{
			Name: l.GetName(), Protocol: l.GetProtocol(), Host: l.GetHost(), Port: uint16(l.GetPort()),
		})
	}
	if v := d.img.version; v != 0 && (v < b.MinVersion || v > b.MaxVersion) {
		return Broker{}, fmt.Errorf("%w %d: broker %d can apply %d to %d", ErrUnsupportedVersion, v, b.ID, b.MinVersion, b.MaxVersion)
	}
	return b, nil
}

// setBrokerFencing fences a broker that was not heard of, or lets one in that
// caught up. See elect for what it does to partitions.
func (d *draft) setBrokerFencing(c *metadatapb.SetBrokerFencing) error {
	b, err := d.brokerOf(c.GetBroker(), c.GetBrokerEpoch())
	if err != nil || b.Fenced == c.GetFenced() {
		return err
	}
	b.Fenced = c.GetFenced()
	d.setBroker(b)
	for _, p := range d.partitionsOf(b.ID) {
		q := p
		if b.Fenced {
			q = withoutReplica(p, b.ID, d.minISR(p), false)
		}
		d.changeReplicaState(p, elect(q, d.alive))
	}
	return nil
}

// allocateProducerIDs hands out a block. A proposer that lost its answer asks
// for another block: ids are plenty.
func (d *draft) allocateProducerIDs(c *metadatapb.AllocateProducerIDs) error {
	if _, err := d.brokerOf(c.GetBroker(), c.GetBrokerEpoch()); err != nil {
		return err
	}
	next := d.img.nextProducerID
	switch {
	case c.GetCount() <= 0 || int64(next) > math.MaxInt64-int64(c.GetCount()):
		return invalid("block of %d producer ids from %d", c.GetCount(), next)
	case c.GetExpectedNext() != int64(next):
		return fmt.Errorf("%w: %d, expected %d", ErrProducerIDBlock, next, c.GetExpectedNext())
	}
	d.result.FirstProducerID = next
	d.img.nextProducerID = next + protocol.ProducerID(c.GetCount())
	return nil
}
