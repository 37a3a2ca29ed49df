package metadata

import (
	"fmt"
	"math"
	"slices"

	"github.com/stratabroker/strata/protocol"
)

// Adoption says who goes on with a cluster's image on an empty disk (DESIGN D21).
type Adoption struct {
	Broker     protocol.BrokerID
	Directory  DirectoryID
	URL        string // of the bucket
	Generation uint64 // of OWNER, taken for this; above the image's
	Root       Root   // what the image was read from
}

// Steps, one a generation, by which an adopted image lies beyond whatever the old cluster did after the cut: what it
// gave out since must not be given out again, nor what another restore of the same root gave out.
const (
	adoptedEpochs      = 1 << 16
	adoptedProducerIDs = 1 << 32
)

// Adopt gives the image that a restored cluster of one broker begins with. Topics, ids, settings, log starts
// and manifests stay; every partition is the broker's alone. Leader epochs and producer ids are raised far
// beyond the old cluster's, which may be alive: one epoch never has two histories. The root that was
// read stays retained, so that what it reaches is left alone for a grace. The index stays: the log goes on after it.
func Adopt(img *Image, a Adoption) (*Image, error) {
	if img.clusterID == "" || img.index == 0 {
		return nil, invalid("the image at index %d is of no cluster", img.index)
	}
	if a.Broker < 0 || a.Directory == (DirectoryID{}) || a.URL == "" {
		return nil, invalid("broker %d with directory %x on bucket %q", a.Broker, a.Directory, a.URL)
	}
	if a.Generation <= img.bucket.Generation {
		return nil, fmt.Errorf("%w: %d, asked for %d", ErrStaleGeneration, img.bucket.Generation, a.Generation)
	}
	steps := a.Generation - img.bucket.Generation
	if steps > math.MaxInt32/adoptedEpochs {
		return nil, invalid("generation %d is too far beyond %d", a.Generation, img.bucket.Generation)
	}
	ids, epochs := protocol.ProducerID(steps)*adoptedProducerIDs, protocol.Epoch(steps)*adoptedEpochs
	if img.nextProducerID > math.MaxInt64-ids {
		return nil, invalid("producer ids are used up at %d", img.nextProducerID)
	}
	next := *img
	next.nextProducerID += ids
	next.brokers = EmptyImage().brokers
	next.partitions = EmptyImage().partitions
	for p := range img.AllPartitions() {
		if p.LeaderEpoch > math.MaxInt32-epochs || p.PartitionEpoch == math.MaxInt32 {
			return nil, invalid("partition %v has leader epoch %d and partition epoch %d, there is none beyond", p.Key, p.LeaderEpoch, p.PartitionEpoch)
		}
		p.Replicas, p.Directories = []protocol.BrokerID{a.Broker}, []DirectoryID{a.Directory}
		p.ISR, p.ELR, p.Leader = []protocol.BrokerID{a.Broker}, nil, a.Broker
		p.LeaderEpoch += epochs
		p.PartitionEpoch++
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("%w: partition %v: %w", ErrInvalidCommand, p.Key, err)
		}
		next.partitions.Set(p)
	}
	roots := slices.Clone(img.bucket.Roots)
	if n := len(roots); n == 0 || roots[n-1].Seq < a.Root.Seq {
		roots = append(roots, a.Root)
	}
	next.bucket = Bucket{URL: a.URL, Generation: a.Generation, Floor: img.bucket.Floor, FloorAtMs: img.bucket.FloorAtMs, Roots: roots}
	return &next, nil
}
