package metadata

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// PlaceReplicas assigns replicas to new partitions, as Kafka does it: leaders
// go round the unfenced brokers, one rack after the other, and the replicas of
// a partition lie on as many racks as there are. start is where to begin; the
// caller draws it at random, so that small topics do not pile up on one
// broker. It refuses with ErrReplicationFactor.
func PlaceReplicas(img *Image, partitions int32, rf int16, start uint64) ([]*metadatapb.PartitionAssignment, error) {
	ring := brokerRing(img)
	if rf <= 0 || int(rf) > len(ring) {
		return nil, fmt.Errorf("%w: %d of %d", ErrReplicationFactor, rf, len(ring))
	}
	if partitions <= 0 {
		return nil, invalid("%d partitions", partitions)
	}
	out := make([]*metadatapb.PartitionAssignment, partitions)
	first := start % uint64(len(ring))
	for i := range out {
		at := first + uint64(i)
		// Each time round, followers are looked for one step further from their
		// leader: else one broker's followers would all be its neighbour.
		out[i] = placeOne(ring, int(rf), int(at%uint64(len(ring))), int(at/uint64(len(ring))))
	}
	return out, nil
}

// placeOne takes the leader at position at, and each follower from a rack that
// holds the fewest replicas so far.
func placeOne(ring []Broker, rf, at, shift int) *metadatapb.PartitionAssignment {
	a := new(metadatapb.PartitionAssignment)
	inRack, taken := map[string]int{}, map[protocol.BrokerID]bool{}
	take := func(b Broker) {
		dir := b.Directories[(at+shift)%len(b.Directories)]
		a.Replicas = append(a.Replicas, int32(b.ID))
		a.Directories = append(a.Directories, dir[:])
		inRack[b.Rack]++
		taken[b.ID] = true
	}
	take(ring[at])
	for len(a.Replicas) < rf {
		best, fewest := 0, math.MaxInt
		for i := range ring {
			b := ring[(at+1+shift+i)%len(ring)]
			if n := inRack[b.Rack]; !taken[b.ID] && n < fewest {
				best, fewest = (at+1+shift+i)%len(ring), n
			}
		}
		take(ring[best])
	}
	return a
}

// brokerRing orders the unfenced brokers so that neighbours are on different
// racks for as long as there are racks left: the first of each rack, the second of each, and so on.
func brokerRing(img *Image) []Broker {
	type place struct {
		turn int
		Broker
	}
	var places []place
	turns := map[string]int{}
	for b := range img.Brokers() {
		if !b.Fenced {
			places = append(places, place{turns[b.Rack], b})
			turns[b.Rack]++
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.turn, b.turn), cmp.Compare(a.Rack, b.Rack), cmp.Compare(a.ID, b.ID))
	})
	ring := make([]Broker, len(places))
	for i, p := range places {
		ring[i] = p.Broker
	}
	return ring
}
