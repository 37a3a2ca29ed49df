package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stratabroker/strata/integration/bench/report"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object/mem"
)

// Keys of the metrics of curve-archive.
const (
	find      = "find"
	findBytes = "find_bytes"
	add       = "add"
	addBytes  = "add_bytes"
)

// fullPage is about the size of a page that is full, in bytes. An append rewrites the last page of each
// level, and costs anything from nothing to a full page there.
const fullPage = 16 << 10

var archiveCurve = curve{
	Row: report.Row{
		Name: "curve-archive", Title: "Cost against archive length",
		Method: "strata's own code for manifests, in this process, over a store in memory. The look-up of an offset at random, with every page got and decoded anew, and the next version of the manifest with one more segment: " +
			"the median of the time, and the mean of the bytes got and put. What a segment more costs goes up and down with how full the last page of each level is.",
	},
	of:    "segments",
	sizes: []int{1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000},
	costs: []cost{
		{Metric: report.Metric{Key: find, Title: "look-up", Unit: "us"}},
		{Metric: report.Metric{Key: findBytes, Title: "got for a look-up", Unit: "bytes"}},
		{Metric: report.Metric{Key: add, Title: "one segment more", Unit: "us"}, floor: 200},
		{Metric: report.Metric{Key: addBytes, Title: "put for one segment more", Unit: "bytes"}, floor: fullPage},
	},
	measure: func(ctx context.Context, _ *run, segments int) (map[string]float64, error) {
		return archiveCost(ctx, segments)
	},
}

// How often curve-archive does what it measures.
const (
	archiveFinds = 2000
	archiveAdds  = 300 // more than a page holds, so that full and nearly empty leaves are among them
)

// archiveCost measures a manifest of so many segments.
func archiveCost(ctx context.Context, segments int) (map[string]float64, error) {
	a := archive{ctx: ctx, store: mem.New()}
	if err := a.grow(segments); err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(1, 2))
	a.got = 0
	looks, err := medianMicros(archiveFinds, func() error {
		at := protocol.Offset(random.IntN(segments)) * archiveSpan
		e, ok, err := a.Find(a.load, at)
		if err == nil && (!ok || e.Base != at) {
			err = fmt.Errorf("no segment begins at %d", at)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	got := float64(a.got) / archiveFinds
	a.put = 0
	adds, err := medianMicros(archiveAdds, func() error { return a.grow(1) })
	return map[string]float64{find: looks, findBytes: got, add: adds, addBytes: float64(a.put) / archiveAdds}, err
}

// medianMicros is the median of what do takes.
func medianMicros(times int, do func() error) (float64, error) {
	took := make([]float64, times)
	for i := range took {
		begun := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		took[i] = float64(time.Since(begun).Nanoseconds()) / 1000
	}
	slices.Sort(took)
	return took[times/2], nil
}

// archive is a partition's manifest in a store, and what was got and put.
type archive struct {
	format.Manifest
	ctx      context.Context //nolint:containedctx // of one leg
	store    *mem.Store
	key      protocol.PartitionKey
	segments int
	got, put int64
}

// archiveSpan is how many offsets a segment has.
const archiveSpan = 100

func (a *archive) load(p metadata.PagePlace) ([]byte, error) {
	a.got += int64(p.Length)
	return a.store.Get(a.ctx, p.Key, int64(p.Offset), int64(p.Length))
}

// grow makes the next version, with n segments of 64 MiB more.
func (a *archive) grow(n int) error {
	attempt := metadata.Attempt{Generation: 1, Index: a.Version + 1}
	entries := make([]format.Entry, n)
	for i := range entries {
		base := protocol.Offset(a.segments+i) * archiveSpan
		meta := format.SegmentMeta{Key: a.key, Base: base, End: base + archiveSpan, Attempt: attempt, Rand: rand.Uint64()}
		entries[i] = format.Entry{
			ObjectKey: meta.ObjectKey(), Base: meta.Base, End: meta.End, MaxTimestamp: protocol.Timestamp(base),
			DataBytes: 64 << 20, IndexOffset: 64 << 20, IndexLength: 4096, ObjectSize: 64<<20 + 4096,
			ChunkSize: format.DefaultChunkSize, Records: archiveSpan, Attempt: attempt,
		}
	}
	key := format.ManifestKey(a.key, a.Version+1, attempt, rand.Uint64())
	v, err := a.Apply(a.load, format.Edit{Append: entries}, key, a.Version+1)
	if err != nil {
		return err
	}
	a.put += int64(len(v.Object))
	a.Version, a.Root, a.segments = v.Version, v.Root, a.segments+n
	return a.store.Put(a.ctx, key, bytes.NewReader(v.Object), int64(len(v.Object)))
}
