package metadata_test

import (
	"fmt"
	"testing"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
)

// manifest is a first version of a partition's manifest, changed by edit.
func manifest(topic byte, partition int32, edit func(*metadatapb.CommitManifest)) *metadata.Command {
	c := &metadatapb.CommitManifest{
		TopicId: id(topic), Partition: partition, Version: 1, Attempt: &metadatapb.Attempt{Generation: 1, Index: 1},
	}
	if edit != nil {
		edit(c)
	}
	if c.Root == nil {
		c.Root = &metadatapb.PagePlace{Key: fmt.Sprintf("m%d-%d", c.Version, c.Attempt.GetIndex()), Length: 1}
	}
	return command(c)
}

// next is the version after the current one, up to end.
func (w *world) next(end int64, edit func(*metadatapb.CommitManifest)) *metadata.Command {
	p := w.partition(1, 0)
	return manifest(1, 0, func(c *metadatapb.CommitManifest) {
		c.ParentVersion, c.Version = p.Manifest.Version, p.Manifest.Version+1
		c.From, c.TieredEnd, c.LeaderEpoch = int64(p.Manifest.TieredEnd), end, int32(p.LeaderEpoch)
		if edit != nil {
			edit(c)
		}
	})
}

func tiered(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 1)
	w.topic("a", 1, assignment(1))
	w.ok(w.next(100, nil))
	w.ok(command(&metadatapb.SetSweepFloor{Floor: &metadatapb.Attempt{Generation: 1, Index: 3}, AtMs: 9}))
	return w
}

func TestCommitManifest(t *testing.T) {
	fresh := func(c *metadatapb.CommitManifest) { c.Attempt.Index = 3 }
	for name, c := range map[string]struct {
		want error
		edit func(*metadatapb.CommitManifest)
	}{
		"next version":         {nil, fresh},
		"nothing added":        {nil, func(c *metadatapb.CommitManifest) { fresh(c); c.TieredEnd = c.From }},
		"stale leader":         {metadata.ErrStaleLeaderEpoch, func(c *metadatapb.CommitManifest) { fresh(c); c.LeaderEpoch-- }},
		"leader of the future": {metadata.ErrStaleLeaderEpoch, func(c *metadatapb.CommitManifest) { fresh(c); c.LeaderEpoch++ }},
		"parent replaced":      {metadata.ErrStaleManifest, func(c *metadatapb.CommitManifest) { fresh(c); c.ParentVersion-- }},
		"parent of the future": {metadata.ErrStaleManifest, func(c *metadatapb.CommitManifest) { fresh(c); c.ParentVersion++; c.Version++ }},
		"slept through round":  {metadata.ErrBelowSweepFloor, func(c *metadatapb.CommitManifest) { c.Attempt.Index = 2 }},
		"older generation":     {metadata.ErrBelowSweepFloor, func(c *metadatapb.CommitManifest) { c.Attempt = &metadatapb.Attempt{Index: 99} }},
		"newer generation":     {metadata.ErrStaleGeneration, func(c *metadatapb.CommitManifest) { c.Attempt.Generation = 2 }},
		"attempt of to-morrow": {metadata.ErrInvalidCommand, func(c *metadatapb.CommitManifest) { c.Attempt.Index = 1000 }},
		"gap":                  {metadata.ErrManifestGap, func(c *metadatapb.CommitManifest) { fresh(c); c.From++ }},
		"overlap":              {metadata.ErrManifestGap, func(c *metadatapb.CommitManifest) { fresh(c); c.From-- }},
		"tiered end goes back": {metadata.ErrManifestGap, func(c *metadatapb.CommitManifest) { fresh(c); c.TieredEnd = c.From - 1 }},
		"no root":              {metadata.ErrInvalidCommand, func(c *metadatapb.CommitManifest) { fresh(c); c.Root = new(metadatapb.PagePlace) }},
		"version not raised":   {metadata.ErrInvalidCommand, func(c *metadatapb.CommitManifest) { fresh(c); c.Version = c.ParentVersion }},
		"unknown partition":    {metadata.ErrUnknownPartition, func(c *metadatapb.CommitManifest) { fresh(c); c.Partition = 1 }},
		"negative partition":   {metadata.ErrUnknownPartition, func(c *metadatapb.CommitManifest) { fresh(c); c.Partition = -1 }},
	} {
		t.Run(name, func(t *testing.T) {
			w := tiered(t)
			cmd := w.next(200, c.edit)
			if c.want != nil {
				w.refused(c.want, cmd)
				return
			}
			w.ok(cmd)
			p := w.partition(1, 0)
			if p.Manifest.Version != 2 || int64(p.Manifest.TieredEnd) != cmd.GetCommitManifest().TieredEnd || p.PartitionEpoch != 0 {
				t.Fatalf("%+v", p)
			}
		})
	}
}

func TestRepeatedCommitIsAcceptedWhateverHappenedSince(t *testing.T) {
	w := tiered(t)
	cmd := w.next(200, func(c *metadatapb.CommitManifest) { c.Attempt.Index = 3 })
	w.ok(cmd)
	w.ok(logStart(150, 0))
	w.ok(command(&metadatapb.SetSweepFloor{Floor: &metadatapb.Attempt{Generation: 1, Index: 5}, Expected: &metadatapb.Attempt{Generation: 1, Index: 3}}))
	w.register(1, 9, w.epoch(1), true)
	before := w.img
	w.ok(cmd)
	w.same(before)
	lost := w.next(200, func(c *metadatapb.CommitManifest) {
		c.ParentVersion, c.Version, c.Root = 1, 2, &metadatapb.PagePlace{Key: "another", Length: 1}
	})
	w.refused(metadata.ErrStaleManifest, withIndex(lost, 6))
}

func withIndex(cmd *metadata.Command, index uint64) *metadata.Command {
	cmd.GetCommitManifest().Attempt.Index = index
	return cmd
}

func logStart(offset int64, epoch int32) *metadata.Command {
	return command(&metadatapb.AdvanceLogStarts{Rows: []*metadatapb.LogStart{{TopicId: id(1), Offset: offset, LeaderEpoch: epoch}}})
}

func TestLogStartMovesForwardOnlyAndLiftsTheTieredEnd(t *testing.T) {
	w := tiered(t)
	check := func(start, end int64) {
		t.Helper()
		p := w.partition(1, 0)
		if int64(p.LogStart) != start || int64(p.Manifest.TieredEnd) != end || p.Manifest.Version != 1 || p.PartitionEpoch != 0 {
			t.Fatalf("%+v", p)
		}
	}
	for _, s := range []struct{ to, start, end int64 }{
		{50, 50, 100}, {40, 50, 100}, {-1, 50, 100}, {100, 100, 100}, {150, 150, 150}, {150, 150, 150},
	} {
		if err := w.row(logStart(s.to, 0)); err != nil {
			t.Fatal(err)
		}
		check(s.start, s.end)
	}
	if err := w.row(logStart(200, 1)); !isErr(err, metadata.ErrStaleLeaderEpoch) {
		t.Fatal(err)
	}
	check(150, 150)
	w.refused(metadata.ErrManifestGap, withIndex(w.next(200, func(c *metadatapb.CommitManifest) { c.From = 100 }), 3))
	w.ok(withIndex(w.next(200, nil), 3))
}

func TestLogStartRowsAreRefusedForThemselves(t *testing.T) {
	w := tiered(t)
	r := w.ok(command(&metadatapb.AdvanceLogStarts{Rows: []*metadatapb.LogStart{
		{TopicId: id(1), Offset: 10}, {TopicId: id(2), Offset: 10}, {Offset: 1}, {TopicId: id(1), Offset: 20}, {TopicId: id(1), Offset: 15},
	}}))
	if r.Rows[0] != nil || !isErr(r.Rows[1], metadata.ErrUnknownPartition) || !isErr(r.Rows[2], metadata.ErrInvalidCommand) || r.Rows[3] != nil || r.Rows[4] != nil {
		t.Fatal(r.Rows)
	}
	if p := w.partition(1, 0); p.LogStart != 20 || len(w.delta.Partitions) != 1 {
		t.Fatalf("%+v, delta %+v", p, w.delta)
	}
}

func TestSweepFloorNeverGoesBack(t *testing.T) {
	w := tiered(t)
	floor := func(index, expected uint64) *metadata.Command {
		return command(&metadatapb.SetSweepFloor{
			Floor: &metadatapb.Attempt{Generation: 1, Index: index}, Expected: &metadatapb.Attempt{Generation: 1, Index: expected}, AtMs: 10,
		})
	}
	w.refused(metadata.ErrStaleSweepFloor, floor(5, 2))
	w.refused(metadata.ErrStaleSweepFloor, floor(2, 3))
	w.refused(metadata.ErrInvalidCommand, floor(1000, 3))
	w.ok(floor(5, 3))
	before := w.img
	w.ok(floor(5, 3))
	w.same(before)
	if b := w.img.Bucket(); b.Floor != (metadata.Attempt{Generation: 1, Index: 5}) || b.FloorAtMs != 10 {
		t.Fatalf("%+v", b)
	}
}

func TestRoots(t *testing.T) {
	w := tiered(t)
	retain := func(seq, cut uint64, key string) *metadata.Command {
		return command(&metadatapb.RetainRoot{
			Seq: seq, Place: &metadatapb.PagePlace{Key: key, Length: 1}, Cut: &metadatapb.Attempt{Generation: 1, Index: cut}, AtMs: int64(seq),
		})
	}
	w.ok(retain(1, 3, "r1"))
	w.ok(retain(2, 3, "r2"))
	before := w.img
	w.ok(retain(2, 3, "r2"))
	w.ok(retain(1, 3, "r1"))
	w.same(before)
	w.refused(metadata.ErrStaleRoot, retain(2, 3, "other"))
	w.refused(metadata.ErrStaleRoot, retain(1, 3, "other"))
	w.refused(metadata.ErrStaleRoot, retain(3, 2, "below the floor"))
	w.refused(metadata.ErrInvalidCommand, retain(3, 1000, "from the future"))
	w.refused(metadata.ErrInvalidCommand, retain(3, 3, ""))
	w.ok(retain(7, 3, "r7"))
	w.refused(metadata.ErrInvalidCommand, command(&metadatapb.ReleaseRoots{Seqs: []uint64{1, 7}}))
	w.ok(command(&metadatapb.ReleaseRoots{Seqs: []uint64{1, 2, 5}}))
	if b := w.img.Bucket(); len(b.Roots) != 1 || b.Roots[0].Seq != 7 || !w.delta.Bucket {
		t.Fatalf("%+v", b)
	}
	before = w.img
	w.ok(command(&metadatapb.ReleaseRoots{Seqs: []uint64{1, 2, 5}}))
	w.same(before)
}

func TestBindBucketRaisesTheGeneration(t *testing.T) {
	w := newWorld(t, 0)
	bind := func(url string, generation uint64) *metadata.Command {
		return command(&metadatapb.BindBucket{Url: url, Generation: generation})
	}
	before := w.img
	w.ok(bind("mem://", 1))
	w.same(before)
	w.refused(metadata.ErrStaleGeneration, bind("s3://other", 1))
	w.refused(metadata.ErrInvalidCommand, bind("", 2))
	w.refused(metadata.ErrInvalidCommand, bind("x", 0))
	w.ok(bind("s3://other", 2))
	if b := w.img.Bucket(); b.URL != "s3://other" || b.Generation != 2 {
		t.Fatalf("%+v", b)
	}
}
