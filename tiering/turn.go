package tiering

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/plan"
)

// turnResult says what a turn without error leaves.
type turnResult uint8

const (
	done turnResult = iota
	more            // there is more to do at once
	gone            // not led here, or deleted: forget it
)

// cold is what the archiver remembers of a manifest version, so that a
// partition with nothing to do costs no page.
type cold struct {
	loaded  bool
	version uint64
	bytes   int64 // of batches, all entries
	any     bool  // it has entries
	first   plan.Segment
	drop    bool // entries below the log start wait to be dropped; they are not counted above
}

// task is one turn's view of its partition, all from one image.
type task struct {
	led     Led
	row     metadata.Partition
	attempt metadata.Attempt // of everything that this turn names
	hot     int64            // bytes of the hot log above the row's tiered end
	load    format.Load      // keeps the pages that the turn has read
}

// turn looks at one partition and does what is due: retention, uploads, the
// next manifest version. Everything is decided on one image, whose index is the
// turn's attempt: it was read before any object of the turn has a name.
func (a *Archiver) turn(ctx context.Context, k protocol.PartitionKey, p *part) (turnResult, error) {
	led, ok := a.cfg.Hot.Leads(k)
	if !ok {
		return gone, nil
	}
	img := a.cfg.Metadata.Image()
	row, ok := img.Partition(k)
	if !ok {
		return gone, nil
	}
	if row.LeaderEpoch != led.Epoch {
		return done, nil // image and replica are about to agree; the next look finds out
	}
	t := task{led: led, row: row, attempt: currentAttempt(img), load: remembered(a.pages.load(ctx))}
	if t.attempt.Generation == 0 {
		return done, errors.New("no bucket is bound")
	}
	sealed, err := a.cfg.Hot.Sealed(k, row.Manifest.TieredEnd)
	if err != nil {
		return done, fmt.Errorf("list sealed segments: %w", err)
	}
	// The high watermark moves on while segments are sealed: only one read after the list bounds the list.
	if t.led, ok = a.cfg.Hot.Leads(k); !ok || t.led.Epoch != led.Epoch {
		return more, nil // the next turn sees what became of it
	}
	t.hot = a.cfg.Hot.BytesFrom(k, row.Manifest.TieredEnd)
	start, err := a.expire(ctx, t, p, sealed)
	if err != nil {
		return done, err
	}
	if start > row.Manifest.TieredEnd {
		return done, nil // what would be uploaded is about to expire
	}
	return a.advance(ctx, t, p, sealed)
}

// expire files a new log start where retention moves it. That needs no answer of the bucket: neither to drop what
// expired before, nor, where the manifest cannot be read, for what is hot.
func (a *Archiver) expire(ctx context.Context, t task, p *part, sealed []SealedRange) (start protocol.Offset, err error) {
	start = t.row.LogStart
	if !t.led.Policy.Expires() && start == 0 {
		return start, nil
	}
	if err = a.loadCold(ctx, t.row, &p.cold); err == nil {
		start, err = plan.LogStart(t.led.Policy, t.view(p.cold), a.segments(ctx, t.row, p.cold, sealed), nowMs())
	}
	if err != nil {
		start = max(t.row.LogStart, plan.HotStart(t.led.Policy, t.view(cold{}), t.segments(sealed), nowMs()))
		err = fmt.Errorf("look for expired segments: %w", err)
	}
	if start > t.row.LogStart {
		a.fileStart(logStart{key: t.row.Key, offset: start, epoch: t.led.Epoch})
	}
	return start, err
}

// view counts each byte once: in the manifest up to its tiered end, in the hot log above.
func (t task) view(c cold) plan.View {
	return plan.View{LogStart: t.row.LogStart, TieredEnd: t.row.Manifest.TieredEnd, Committed: t.led.HW, Bytes: c.bytes + t.hot, HotBytes: t.hot}
}

// loadCold brings c up to the row: to its manifest version, without what lies below its log start.
func (a *Archiver) loadCold(ctx context.Context, row metadata.Partition, c *cold) error {
	if c.loaded && c.version == row.Manifest.Version && (!c.any || c.first.End > row.LogStart) {
		return nil
	}
	next := cold{loaded: true, version: row.Manifest.Version}
	if next.version > 0 {
		m, load := a.manifest(row.Manifest), a.pages.load(ctx)
		summary, err := m.Summary(load)
		if err != nil {
			return fmt.Errorf("read manifest version %d: %w", m.Version, err)
		}
		next.bytes = summary.Bytes
		for e, err := range m.Scan(load, 0) {
			if err != nil {
				return fmt.Errorf("read manifest version %d: %w", m.Version, err)
			}
			first := entrySegment(e)
			if plan.Drop(row.LogStart, first) {
				next.drop, next.bytes = true, next.bytes-first.Bytes
				continue
			}
			next.any, next.first = true, first
			break
		}
	}
	*c = next
	return nil
}

// segments yields what ends above the log start in both tiers. The first entry
// comes from memory: most often it stays, and no page is read.
func (a *Archiver) segments(ctx context.Context, row metadata.Partition, c cold, sealed []SealedRange) iter.Seq2[plan.Segment, error] {
	return func(yield func(plan.Segment, error) bool) {
		if c.any {
			if !yield(c.first, nil) {
				return
			}
			for e, err := range a.manifest(row.Manifest).Scan(a.pages.load(ctx), c.first.End) {
				if !yield(entrySegment(e), err) || err != nil {
					return
				}
			}
		}
		for _, r := range sealed {
			if !yield(rangeSegment(r), nil) {
				return
			}
		}
	}
}

// remembered loads each page once. It is for one goroutine.
func remembered(load format.Load) format.Load {
	seen := map[metadata.PagePlace][]byte{}
	return func(place metadata.PagePlace) ([]byte, error) {
		if b, ok := seen[place]; ok {
			return b, nil
		}
		b, err := load(place)
		if err == nil {
			seen[place] = b
		}
		return b, err
	}
}

func (a *Archiver) manifest(row metadata.ManifestRow) format.Manifest {
	return format.Manifest{Version: row.Version, Root: row.Root, Fanout: a.cfg.Fanout}
}

func entrySegment(e format.Entry) plan.Segment {
	return plan.Segment{Base: e.Base, End: e.End, Bytes: e.DataBytes, MaxTimestamp: e.MaxTimestamp, Sealed: e.SealedMs}
}

// segments are the sealed ranges as plan sees them. A batch that reaches over the tiered end, to which a log start in
// its middle has lifted it, lies in the first one whole.
func (t task) segments(sealed []SealedRange) []plan.Segment {
	out := make([]plan.Segment, len(sealed))
	for i, r := range sealed {
		out[i] = rangeSegment(r)
		out[i].Base = max(r.Base, t.row.Manifest.TieredEnd)
	}
	return out
}

func rangeSegment(r SealedRange) plan.Segment {
	return plan.Segment{
		Base: r.Base, End: r.End, Bytes: r.Bytes, MaxTimestamp: r.MaxTimestamp, Sealed: sealedMs(r),
	}
}

// sealedMs is NoTimestamp where the hot log does not know it.
func sealedMs(r SealedRange) protocol.Timestamp {
	if r.Sealed.IsZero() {
		return protocol.NoTimestamp
	}
	return protocol.Timestamp(r.Sealed.UnixMilli())
}

// fileStart gathers log starts: many partitions expire at one look, and one command moves them all.
func (a *Archiver) fileStart(s logStart) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.starts) == 0 {
		a.startsAt = time.Now().Add(startsDelay)
	}
	a.starts[s.key] = s
}

// maxStarts bounds one command.
const maxStarts = 1000

// takeStarts takes out at most maxStarts rows. The caller holds mu.
func (a *Archiver) takeStarts() []logStart {
	rows := make([]logStart, 0, min(len(a.starts), maxStarts))
	for k, s := range a.starts {
		if len(rows) == maxStarts {
			break
		}
		rows = append(rows, s)
		delete(a.starts, k)
	}
	return rows
}

// flushStarts moves log starts and then asks for the turns that drop what lies
// below them. The log start moves first, so that no reader finds an offset
// above the log start that no manifest has. A refused or lost row is found again by the next look.
func (a *Archiver) flushStarts(ctx context.Context, rows []logStart) {
	a.flushed.Lock()
	defer a.flushed.Unlock()
	result, err := a.cfg.Metadata.Propose(ctx, advanceLogStarts(rows))
	if err != nil {
		if ctx.Err() == nil {
			a.cfg.Logger.Warn("log starts were not moved", "partitions", len(rows), "err", err)
		}
		return
	}
	for i, r := range rows {
		if i < len(result.Rows) && result.Rows[i] != nil {
			a.cfg.Logger.Debug("log start was refused", "partition", r.key, "offset", r.offset, "err", result.Rows[i])
			continue
		}
		a.stats.expired.Add(1)
		a.Notify(r.key)
	}
}
