package metadata_test

import (
	"errors"
	"testing"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

func TestAnAdoptedImageKeepsWhatIsTheClustersAndRaisesWhatMayHaveBeenGivenOut(t *testing.T) {
	w := newWorld(t, 2)
	w.topic("t", 9, assignment(1, 2), assignment(2), assignment(1))
	w.ok(command(&metadatapb.BindBucket{Url: "s3://old", Generation: 4}))
	id := topicID(9)
	old := w.img
	a := metadata.Adoption{
		Broker: 7, Directory: metadata.DirectoryID{7}, URL: "s3://new", Generation: 5,
		Root: metadata.Root{Seq: 9, Place: metadata.PagePlace{Key: "root", Length: 1}, Cut: metadata.Attempt{Generation: 4, Index: old.Index()}},
	}
	img, err := metadata.Adopt(old, a)
	if err != nil {
		t.Fatal(err)
	}
	if img.ClusterID() != old.ClusterID() || img.Index() != old.Index() || img.TopicCount() != old.TopicCount() {
		t.Errorf("cluster %q at %d with %d topics", img.ClusterID(), img.Index(), img.TopicCount())
	}
	if b := img.Bucket(); b.Generation != 5 || b.URL != "s3://new" || len(b.Roots) != 1 || b.Roots[0].Seq != 9 {
		t.Errorf("bucket %+v", b)
	}
	if img.NextProducerID() < old.NextProducerID()+1<<32 {
		t.Errorf("next producer id %d, it was %d", img.NextProducerID(), old.NextProducerID())
	}
	for range img.Brokers() {
		t.Error("a broker is there before it registered")
	}
	for p := range img.Partitions(id) {
		was, _ := old.Partition(p.Key)
		if p.Leader != 7 || len(p.Replicas) != 1 || p.Directories[0] != a.Directory || p.LeaderEpoch < was.LeaderEpoch+1<<16 || p.PartitionEpoch <= was.PartitionEpoch || p.Manifest != was.Manifest || p.LogStart != was.LogStart {
			t.Errorf("partition %+v of %+v", p, was)
		}
	}
	// It is an image like any other: it is written, read and gone on with.
	again, err := metadata.UnmarshalImage(metadata.MarshalImage(img))
	if err != nil {
		t.Fatal(err)
	}
	w.img = again
	w.register(7, 7, -1, true)
	w.fence(7, false)
	for p := range w.img.Partitions(id) {
		if p.Leader != 7 {
			t.Errorf("after registration led by %d", p.Leader)
		}
	}
	if old.Bucket().Generation != 4 {
		t.Error("the old image changed")
	}
}

func TestWhatCannotBeAdoptedIsRefused(t *testing.T) {
	w := newWorld(t, 1)
	w.ok(command(&metadatapb.BindBucket{Url: "s3://old", Generation: 4}))
	good := metadata.Adoption{Broker: 1, Directory: metadata.DirectoryID{1}, URL: "s3://new", Generation: 5}
	for name, change := range map[string]func(*metadata.Adoption){
		"a generation that was": func(a *metadata.Adoption) { a.Generation = 4 },
		"no directory":          func(a *metadata.Adoption) { a.Directory = metadata.DirectoryID{} },
		"no broker":             func(a *metadata.Adoption) { a.Broker = protocol.NoBroker },
		"no bucket":             func(a *metadata.Adoption) { a.URL = "" },
	} {
		a := good
		change(&a)
		if _, err := metadata.Adopt(w.img, a); err == nil {
			t.Errorf("%s: adopted", name)
		}
	}
	if _, err := metadata.Adopt(metadata.EmptyImage(), good); !errors.Is(err, metadata.ErrInvalidCommand) {
		t.Errorf("an empty image: %v", err)
	}
}

func TestTwoRestoresOfOneRootShareNoEpochAndNoProducerID(t *testing.T) {
	w := newWorld(t, 2)
	w.topic("t", 9, assignment(1, 2), assignment(2))
	w.ok(command(&metadatapb.BindBucket{Url: "s3://old", Generation: 4}))
	adopt := func(generation uint64) *metadata.Image {
		img, err := metadata.Adopt(w.img, metadata.Adoption{Broker: 1, Directory: metadata.DirectoryID{1}, URL: "s3://new", Generation: generation})
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	first, second := adopt(5), adopt(6)
	if second.NextProducerID() < first.NextProducerID()+1<<32 {
		t.Errorf("producer ids from %d and from %d", first.NextProducerID(), second.NextProducerID())
	}
	for p := range first.AllPartitions() {
		if q, _ := second.Partition(p.Key); q.LeaderEpoch < p.LeaderEpoch+1<<16 {
			t.Errorf("%v: leader epochs from %d and from %d", p.Key, p.LeaderEpoch, q.LeaderEpoch)
		}
	}
}
