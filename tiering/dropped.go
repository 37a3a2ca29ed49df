package tiering

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/stratabroker/strata/protocol"
)

// Dropped knows which records compaction has dropped from the cold tier, so that the hot copy may follow (DESIGN D17).
//
// It says so only of what a current manifest covers without the record. By then all that the record superseded is gone from the
// bucket, and nothing brings it back: a manifest never names again what it has dropped. So the hot copy may lose the record at
// any time from then on; a disk that is lost before, between or after comes back from a bucket that has no older record of its key.
// Whatever cannot be read counts as not dropped.
type Dropped struct {
	reader *Reader

	mu       sync.Mutex
	windows  map[protocol.PartitionKey]window // of the last partitions that were asked for; guarded by mu
	failedAt time.Time                        // guarded by mu
}

// NewDropped makes one over r.
func NewDropped(r *Reader) *Dropped {
	return &Dropped{reader: r, windows: map[protocol.PartitionKey]window{}}
}

const (
	droppedWindows = 16
	droppedOffsets = 64 << 10 // of one window, unless its first batch alone has more
	droppedWait    = 10 * time.Second
	droppedRest    = 30 * time.Second // after a failure: a pass must not wait for each of its tombstones
)

// window is what one manifest version has in [from, to).
type window struct {
	version  uint64
	from, to protocol.Offset
	all      bool              // nothing is known to be dropped
	offsets  []protocol.Offset // of what is there, ascending
}

func (w window) covers(at protocol.Offset) bool { return w.from <= at && at < w.to }

func (w window) has(at protocol.Offset) bool {
	_, found := slices.BinarySearch(w.offsets, at)
	return w.all || found
}

// At tells whether the cold tier covers an offset without the record that lay there. It may wait for the bucket for ten
// seconds, and after a failure says false for half a minute. It is cheap for ascending offsets of a partition.
func (d *Dropped) At(k protocol.PartitionKey, at protocol.Offset) bool {
	row, ok := d.reader.cfg.Metadata.Image().Partition(k)
	if !ok || at < row.LogStart || at >= row.Manifest.TieredEnd {
		return false
	}
	d.mu.Lock()
	w, rests := d.windows[k], time.Since(d.failedAt) < droppedRest
	d.mu.Unlock()
	switch {
	case w.covers(at) && (!w.has(at) || w.version == row.Manifest.Version):
		return !w.has(at)
	case rests:
		return false
	}
	ctx, cancel := context.WithTimeout(d.reader.life, droppedWait)
	defer cancel()
	err := d.reader.withCurrent(k, at, func(v view) (err error) {
		w, err = v.window(ctx, at)
		return err
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.failedAt = time.Now()
		return false
	}
	if _, known := d.windows[k]; !known && len(d.windows) >= droppedWindows {
		clear(d.windows)
	}
	d.windows[k] = w
	return w.covers(at) && !w.has(at)
}

// window reads what is there from an offset on, within one entry.
func (v view) window(ctx context.Context, at protocol.Offset) (window, error) {
	e, err := v.find(ctx, at)
	if err != nil {
		return window{}, err
	}
	w := window{version: v.row.Manifest.Version, from: at, to: e.End, all: e.Compactions == 0}
	if w.all || e.DataBytes == 0 {
		return w, nil
	}
	src, err := v.open(ctx, e)
	if err != nil {
		return window{}, err
	}
	defer src.close()
	for pos := src.index.Floor(at); pos < src.index.DataBytes(); {
		src.expect(pos, timeRun)
		src.window = src.chunksOf(timeRun)
		h, err := src.header(ctx, pos)
		if err != nil {
			return window{}, err
		}
		if h.batch.BaseOffset() >= e.End {
			break
		}
		if h.batch.NextOffset() > at {
			b, err := src.batch(ctx, pos, h)
			if err != nil {
				return window{}, err
			}
			had := len(w.offsets)
			for r, err := range b.Records(v.cfg.DecodeBytes) {
				if err != nil { // nobody knows what is in it: the window ends before, or holds all of it
					w.offsets = w.offsets[:had]
					if w.to = b.BaseOffset(); w.to <= at {
						w.all, w.to = true, min(b.NextOffset(), e.End)
					}
					return w, nil
				}
				w.offsets = append(w.offsets, r.Offset)
			}
			if len(w.offsets) >= droppedOffsets {
				w.to = min(b.NextOffset(), e.End)
				return w, nil
			}
		}
		pos += h.size
	}
	return w, nil
}
