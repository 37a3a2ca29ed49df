package tiering

import (
	"cmp"
	"context"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
)

// purge is the deleting part of one round. It holds one batch of one partition's objects at a time.
type purge struct {
	*Sweeper
	mark mark
	now  *metadata.Image   // after the floor was raised
	keep []*metadata.Image // the mark's own and those of roots retained before it: what they reach stays

	batch  batch
	listed int   // in all
	failed error // the first partition that could not be judged

	stillClean map[uint64]bool // fingerprints of batches of this round that are all in use
}

// batch is candidates of one partition: objects whose attempt is below the mark's floor.
type batch struct {
	key      protocol.PartitionKey
	objects  map[string]int64 // key -> size
	sum      hash.Hash64      // of the keys, in the order of the listing
	from, to protocol.Offset  // all that its segment objects hold
	manifest bool             // it holds manifest objects
}

const (
	batchObjects  = 4096
	deleteObjects = 1000 // one request's worth; OWNER is read again before each
	listPause     = 500  // objects listed between two pauses
)

// retainedBefore reads the images of roots that were cut before the mark and are
// retained still: most often one, the newest of an idle cluster.
func (s *Sweeper) retainedBefore(ctx context.Context, m mark, now *metadata.Image) ([]*metadata.Image, error) {
	var images []*metadata.Image
	for _, r := range now.Bucket().Roots {
		if r.Cut.Compare(currentAttempt(m.img)) >= 0 {
			continue
		}
		body, err := s.fetch.page(ctx, r.Place)
		if err != nil {
			return nil, fmt.Errorf("read root %d, which is retained: %w", r.Seq, err)
		}
		root, err := format.DecodeRoot(body)
		if err != nil {
			return nil, fmt.Errorf("read root %s: %w", r.Place.Key, err)
		}
		img, err := metadata.UnmarshalImage(root.Image)
		if err != nil {
			return nil, fmt.Errorf("read root %s: %w", r.Place.Key, err)
		}
		images = append(images, img)
	}
	return images, nil
}

// data goes through data/ in the order of keys, which keeps each partition's objects together.
func (p *purge) data(ctx context.Context) error {
	for info, err := range p.cfg.Store.List(ctx, format.DataPrefix, "") {
		if err != nil {
			return fmt.Errorf("list %s: %w", format.DataPrefix, err)
		}
		if err := p.pace(ctx); err != nil {
			return err
		}
		name, err := format.ParseKey(info.Key)
		if err != nil {
			continue // not ours to judge
		}
		if name.Kind != format.SegmentObject && name.Kind != format.ManifestObject {
			continue
		}
		if name.Attempt.Compare(p.mark.floor()) >= 0 {
			continue
		}
		if len(p.batch.objects) == batchObjects || p.batch.key != name.Key {
			if err := p.flush(ctx); err != nil {
				return err
			}
		}
		p.batch.add(name, info)
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	p.clean = p.stillClean
	return p.failed
}

// pace keeps the listing at its rate.
func (p *purge) pace(ctx context.Context) error {
	p.stats.listed.Add(1)
	if p.listed++; p.listed%listPause != 0 {
		return ctx.Err()
	}
	if time.Since(p.markedAt) >= p.cfg.Interval/marksPerInterval {
		// A long listing must not hold back the marks of the rounds to come.
		if err := p.Sweeper.mark(ctx); err != nil {
			return err
		}
	}
	if p.cfg.ListPerSecond < 0 {
		return ctx.Err()
	}
	return sleep(ctx, time.Duration(listPause)*time.Second/time.Duration(p.cfg.ListPerSecond))
}

func (b *batch) add(n format.Name, info object.Info) {
	if len(b.objects) == 0 {
		*b = batch{key: n.Key, objects: map[string]int64{}, sum: fnv.New64a(), from: n.Base, to: n.End}
	}
	b.objects[info.Key] = info.Size
	_, _ = io.WriteString(b.sum, info.Key) // a hash never fails
	if n.Kind == format.ManifestObject {
		b.manifest = true
		return
	}
	if b.to == 0 { // manifest objects came first
		b.from = n.Base
	}
	b.from, b.to = min(b.from, n.Base), max(b.to, n.End)
}

// flush deletes what of the batch nothing reaches.
func (p *purge) flush(ctx context.Context) error {
	b := p.batch
	p.batch = batch{}
	if len(b.objects) == 0 {
		return nil
	}
	sum := p.fingerprint(b)
	if p.clean[sum] {
		p.stillClean[sum] = true
		return nil
	}
	spared, err := p.judge(ctx, &b)
	if err != nil {
		// Keep all of it. One damaged manifest must not stop the sweeping of the others.
		p.cfg.Logger.Error("partition cannot be swept", "partition", b.key, "err", err)
		p.failed = cmp.Or(p.failed, fmt.Errorf("see what partition %s reaches: %w", b.key, err))
		return ctx.Err()
	}
	if len(spared) > 0 {
		// Apply let a manifest name what was below the floor. Delete nothing on such ground.
		return fmt.Errorf("partition %s at index %d names %s, which was unreachable at index %d under floor %s: broken invariant",
			b.key, p.now.Index(), spared[0], p.mark.img.Index(), p.mark.floor())
	}
	if len(b.objects) == 0 {
		p.stillClean[sum] = true
	}
	return p.delete(ctx, b.objects)
}

// fingerprint stands for all that the judgement of a batch rests on: its keys and
// the manifests that may reach them. A batch that was found to be all in use need
// not be judged again while neither changes: a round over a bucket at rest reads no page.
func (p *purge) fingerprint(b batch) uint64 {
	for _, img := range p.keep {
		row, _ := img.Partition(b.key)
		_, _ = io.WriteString(b.sum, row.Manifest.Root.Key+"\n")
	}
	return b.sum.Sum64()
}

// judge leaves in the batch what nothing reaches. It names what only the newest image reaches, which must be nothing.
func (p *purge) judge(ctx context.Context, b *batch) (spared []string, err error) {
	seen := map[metadata.PagePlace]bool{}
	for _, img := range p.keep {
		if _, err := p.spare(ctx, b, img, seen); err != nil {
			return nil, err
		}
	}
	return p.spare(ctx, b, p.now, seen)
}

// spare takes out of the batch what the image reaches, and names it. Entries
// that lie beside the batch's offsets cannot name its objects: an entry covers no more than its object holds.
func (p *purge) spare(ctx context.Context, b *batch, img *metadata.Image, seen map[metadata.PagePlace]bool) (spared []string, err error) {
	row, ok := img.Partition(b.key)
	if !ok || row.Manifest.Version == 0 || seen[row.Manifest.Root] || len(b.objects) == 0 {
		return nil, nil
	}
	seen[row.Manifest.Root] = true
	reach := func(key string) {
		if _, ok := b.objects[key]; ok {
			delete(b.objects, key)
			spared = append(spared, key)
		}
	}
	m, load := format.Manifest{Version: row.Manifest.Version, Root: row.Manifest.Root}, p.fetch.load(ctx)
	if b.manifest {
		for page, err := range m.Pages(load) {
			if err != nil {
				return nil, err
			}
			reach(page.Key)
		}
	}
	if b.to == 0 {
		return spared, nil
	}
	for e, err := range m.Scan(load, b.from) {
		if err != nil {
			return nil, err
		}
		if e.Base >= b.to {
			break
		}
		reach(e.ObjectKey)
	}
	return spared, nil
}

// roots goes through root/. A root object that is not retained will never be
// when a newer one was retained at the mark, or its generation was over: seq and generation only
// grow. One that is newer may still be in the making.
func (p *purge) roots(ctx context.Context) error {
	then := p.mark.img.Bucket()
	if len(then.Roots) == 0 {
		return nil
	}
	newest := then.Roots[len(then.Roots)-1].Seq
	kept := map[string]bool{}
	for _, r := range append(then.Roots[:len(then.Roots):len(then.Roots)], p.now.Bucket().Roots...) {
		kept[r.Place.Key] = true
	}
	garbage := map[string]int64{}
	for info, err := range p.cfg.Store.List(ctx, format.RootPrefix, "") {
		if err != nil {
			return fmt.Errorf("list %s: %w", format.RootPrefix, err)
		}
		if err := p.pace(ctx); err != nil {
			return err
		}
		name, err := format.ParseKey(info.Key)
		if err != nil || name.Kind != format.RootObject || kept[info.Key] {
			continue
		}
		if name.Generation > then.Generation || name.Generation == then.Generation && name.Seq > newest {
			continue
		}
		garbage[info.Key] = info.Size
		if len(garbage) == batchObjects {
			if err := p.delete(ctx, garbage); err != nil {
				return err
			}
			clear(garbage)
		}
	}
	return p.delete(ctx, garbage)
}

// delete removes objects, and reads OWNER shortly before each request.
func (p *purge) delete(ctx context.Context, objects map[string]int64) error {
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(objects)), deleteObjects) {
		var bytes int64
		for _, key := range keys {
			bytes += objects[key]
		}
		if err := p.deleteOnce(ctx, keys, bytes); err != nil {
			return err
		}
	}
	return nil
}

func (p *purge) deleteOnce(ctx context.Context, keys []string, bytes int64) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Deadline)
	defer cancel()
	owner, err := readOwner(ctx, p.cfg.Store)
	if err != nil {
		return err
	}
	if err := ours(owner, p.now.ClusterID(), p.now.Bucket().Generation); err != nil {
		return err
	}
	p.stats.deleteRequests.Add(1)
	if err := p.cfg.Store.Delete(ctx, keys); err != nil {
		p.stats.deleteErrors.Add(1)
		return fmt.Errorf("delete %d objects: %w", len(keys), err)
	}
	p.stats.deleted.Add(int64(len(keys)))
	p.stats.deletedBytes.Add(bytes)
	p.cfg.Logger.Info("swept", "objects", len(keys), "bytes", bytes, "first", keys[0])
	return nil
}
