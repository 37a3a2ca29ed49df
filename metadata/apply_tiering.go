package metadata

import (
	"fmt"
	"slices"

	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// commitManifest makes a manifest version current (DESIGN D14). A repeat of the
// commit that made the current version is accepted whatever else changed
// meanwhile: the key of its root is fresh, so that it can mean nothing else.
func (d *draft) commitManifest(c *metadatapb.CommitManifest) error {
	p, err := d.partitionOf(c.GetTopicId(), c.GetPartition())
	if err != nil {
		return err
	}
	next := ManifestRow{
		Version:   c.GetVersion(),
		Root:      placeOf(c.GetRoot()),
		Attempt:   attemptOf(c.GetAttempt()),
		TieredEnd: protocol.Offset(c.GetTieredEnd()),
		Bytes:     c.GetBytes(),
		Segments:  c.GetSegments(),
	}
	now := p.Manifest
	switch {
	case next.Root.Key == "" || next.Root.Length == 0 || next.Version <= c.GetParentVersion():
		return invalid("manifest version %d over %d with root %+v", next.Version, c.GetParentVersion(), next.Root)
	case next.Version == now.Version && next.Root == now.Root:
		return nil
	}
	if err := p.checkLeaderEpoch(c.GetLeaderEpoch()); err != nil {
		return err
	}
	if err := d.checkAttempt(next.Attempt); err != nil {
		return err
	}
	switch {
	case c.GetParentVersion() != now.Version:
		return fmt.Errorf("%w: %v is at version %d, the parent is %d", ErrStaleManifest, p.Key, now.Version, c.GetParentVersion())
	case next.Attempt.Compare(d.img.bucket.Floor) < 0:
		return fmt.Errorf("%w: attempt %v, floor %v", ErrBelowSweepFloor, next.Attempt, d.img.bucket.Floor)
	case protocol.Offset(c.GetFrom()) != now.TieredEnd || next.TieredEnd < now.TieredEnd:
		return fmt.Errorf("%w: %v is tiered up to %d, the manifest adds [%d, %d)", ErrManifestGap, p.Key, now.TieredEnd, c.GetFrom(), next.TieredEnd)
	}
	p.Manifest = next
	d.setPartition(p)
	return nil
}

// checkAttempt refuses an attempt from the future: it would pass any sweep
// floor, also one that was set while it slept.
func (d *draft) checkAttempt(a Attempt) error {
	if a.Generation > d.img.bucket.Generation {
		return fmt.Errorf("%w: %d, the command is of %d", ErrStaleGeneration, d.img.bucket.Generation, a.Generation)
	}
	if a.Generation == d.img.bucket.Generation && a.Index > d.img.index {
		return invalid("attempt %v began after index %d", a, d.img.index)
	}
	return nil
}

// setSweepFloor begins a round of the sweeper (DESIGN D16).
func (d *draft) setSweepFloor(c *metadatapb.SetSweepFloor) error {
	floor, now := attemptOf(c.GetFloor()), d.img.bucket.Floor
	if floor == now {
		return nil
	}
	if floor.Compare(now) < 0 || attemptOf(c.GetExpected()) != now {
		return fmt.Errorf("%w: it is %v, asked for %v over %v", ErrStaleSweepFloor, now, floor, attemptOf(c.GetExpected()))
	}
	if err := d.checkAttempt(floor); err != nil {
		return err
	}
	d.img.bucket.Floor, d.img.bucket.FloorAtMs = floor, protocol.Timestamp(c.GetAtMs())
	d.delta.Bucket = true
	return nil
}

// retainRoot records a root that was written to the bucket: from now on the
// sweeper keeps what it reaches.
func (d *draft) retainRoot(c *metadatapb.RetainRoot) error {
	root := Root{
		Seq:   c.GetSeq(),
		Place: placeOf(c.GetPlace()),
		Cut:   attemptOf(c.GetCut()),
		AtMs:  protocol.Timestamp(c.GetAtMs()),
	}
	if root.Seq == 0 || root.Place.Key == "" || root.Place.Length == 0 {
		return invalid("root %d at %+v", root.Seq, root.Place)
	}
	roots := d.img.bucket.Roots
	if slices.ContainsFunc(roots, func(r Root) bool { return r.Seq == root.Seq && r.Place == root.Place }) {
		return nil
	}
	if n := len(roots); n > 0 && root.Seq <= roots[n-1].Seq {
		return fmt.Errorf("%w: root %d, the newest is %d", ErrStaleRoot, root.Seq, roots[n-1].Seq)
	}
	if root.Cut.Compare(d.img.bucket.Floor) < 0 {
		return fmt.Errorf("%w: root %d was cut at %v, the floor is %v", ErrStaleRoot, root.Seq, root.Cut, d.img.bucket.Floor)
	}
	if err := d.checkAttempt(root.Cut); err != nil {
		return err
	}
	d.img.bucket.Roots = append(slices.Clone(roots), root)
	d.delta.Bucket = true
	return nil
}

// releaseRoots lets the sweeper have what only these roots reach. Unknown ones
// are ignored; the newest is never let go, so that a bucket always has a root
// to start from, and sequence numbers never go back.
func (d *draft) releaseRoots(c *metadatapb.ReleaseRoots) error {
	roots := d.img.bucket.Roots
	if n := len(roots); n > 0 && slices.Contains(c.GetSeqs(), roots[n-1].Seq) {
		return invalid("root %d is the newest and stays", roots[n-1].Seq)
	}
	kept := slices.DeleteFunc(slices.Clone(roots), func(r Root) bool { return slices.Contains(c.GetSeqs(), r.Seq) })
	if len(kept) < len(roots) {
		d.img.bucket.Roots = kept
		d.delta.Bucket = true
	}
	return nil
}

func (d *draft) bindBucket(c *metadatapb.BindBucket) error {
	now := &d.img.bucket
	switch {
	case c.GetUrl() == "" || c.GetGeneration() == 0:
		return invalid("bucket %q at generation %d", c.GetUrl(), c.GetGeneration())
	case now.URL == c.GetUrl() && now.Generation == c.GetGeneration():
		return nil
	case c.GetGeneration() <= now.Generation:
		return fmt.Errorf("%w: %d of %s, the command is of %d", ErrStaleGeneration, now.Generation, now.URL, c.GetGeneration())
	}
	now.URL, now.Generation = c.GetUrl(), c.GetGeneration()
	d.delta.Bucket = true
	return nil
}

func attemptOf(a *metadatapb.Attempt) Attempt {
	return Attempt{Generation: a.GetGeneration(), Index: a.GetIndex()}
}

func placeOf(p *metadatapb.PagePlace) PagePlace {
	return PagePlace{Key: p.GetKey(), Offset: p.GetOffset(), Length: p.GetLength(), CRC: p.GetCrc()}
}
