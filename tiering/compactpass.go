package tiering

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/compact"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/plan"
)

const (
	// progressEvery is the time between two lines in the log about a long pass.
	progressEvery = 30 * time.Second
	// maxMarks is how many entries that stay as they are wait for the commit of those that do not.
	maxMarks = 256
)

// errNoTurn means that the archiver has no turn for a partition, whose other turns fail.
var errNoTurn = errors.New("nothing of the partition is committed")

// pass is one compaction of one partition: Compactor says how it goes.
type pass struct {
	*Compactor
	led   Led
	known *known
	began time.Time
	told  time.Time // when progress was last logged

	filter  *compact.Filter
	from    protocol.Offset // first offset that no earlier pass covered
	covered protocol.Offset // the map holds what lies in [from, covered)
	next    protocol.Offset // where the next step begins
	marks   []swap          // of entries whose objects stay, to be committed
	partial partial         // what the partition's will be once the pass is over

	judgedAt protocol.Timestamp // what has a delete horizon at or below may go
}

// pin is what a pass looks at at one moment.
type pin struct {
	img      *metadata.Image
	row      metadata.Partition
	manifest format.Manifest
}

// now pins the current manifest. errSuperseded where the partition is not led any more as it was.
func (p *pass) now() (pin, error) {
	img := p.cfg.Metadata.Image()
	row, ok := img.Partition(p.led.Key)
	if led, leads := p.cfg.Hot.Leads(p.led.Key); !ok || !leads || led.Epoch != p.led.Epoch || row.LeaderEpoch != p.led.Epoch {
		return pin{}, errSuperseded
	}
	return pin{img: img, row: row, manifest: p.cfg.Archiver.manifest(row.Manifest)}, nil
}

func (p *pass) stats() compact.Stats {
	if p.filter == nil {
		return compact.Stats{}
	}
	return p.filter.Stats()
}

func (p *pass) run(ctx context.Context) error {
	err := p.doRun(ctx)
	var missing *missingError
	if !errors.As(err, &missing) {
		return err
	}
	at, again := p.now()
	if again != nil {
		return again
	}
	e, ok, again := at.manifest.Find(p.pages.load(ctx), missing.entry.Base)
	switch {
	case again != nil:
		return again
	case ok && e.ObjectKey == missing.entry.ObjectKey && e.End > at.row.LogStart:
		return &damagedError{e, missing.err}
	}
	return fmt.Errorf("%w: %w", errMoved, err)
}

func (p *pass) doRun(ctx context.Context) error {
	keys, err := p.scan(ctx)
	if err != nil {
		return err
	}
	producers, err := p.producers(ctx)
	if err != nil {
		return err
	}
	p.judgedAt = nowMs()
	p.filter = compact.NewFilter(keys, compact.Rules{
		Now: p.judgedAt, DeleteRetentionMs: p.led.Policy.Compaction.DeleteRetentionMs,
		FirstDirty: p.from, Covered: p.covered, Producers: producers,
	})
	for more := true; more; {
		if more, err = p.step(ctx); err != nil {
			return err
		}
		p.progress()
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	p.known.partial, p.known.judgedAt = p.partial, p.judgedAt
	return nil
}

// scan fills the map with the keys of the dirty part, as far as it goes.
func (p *pass) scan(ctx context.Context) (*compact.Map, error) {
	at, err := p.now()
	if err != nil {
		return nil, err
	}
	keys := compact.NewMap(p.cfg.MapBytes, p.cfg.MapLoad, p.salt())
	m, load := at.manifest, p.pages.load(ctx)
	first, dirty, err := m.FindUncompacted(load)
	if err != nil {
		return nil, fmt.Errorf("read manifest version %d: %w", m.Version, err)
	}
	if !dirty {
		p.from = at.row.Manifest.TieredEnd
		p.covered = p.from
		return keys, nil
	}
	p.from, p.covered = first.Base, first.Base
	if k := p.known.partial; k.base == first.Base && k.upTo > first.Base && k.upTo < first.End {
		p.from, p.covered = k.upTo, k.upTo
	}
	part, err := plan.DirtyPart(p.led.Policy.Compaction, segmentsOf(p.dirtyEntries(ctx, m, first.Base)), nowMs())
	if err != nil {
		return nil, fmt.Errorf("read manifest version %d: %w", m.Version, err)
	}
	scan := compact.NewScan(keys, p.from, part.End)
	for e, err := range p.dirtyEntries(ctx, m, first.Base) {
		if err != nil {
			return nil, fmt.Errorf("read manifest version %d: %w", m.Version, err)
		}
		if e.Base >= part.End || scan.Full() {
			break
		}
		if err := p.scanEntry(ctx, scan, e); err != nil {
			return nil, err
		}
		p.progress()
		if p.covered = e.End; scan.Full() {
			p.covered = scan.Covered()
			p.partial = partial{base: e.Base, upTo: p.covered}
		}
	}
	return keys, nil
}

func (p *pass) scanEntry(ctx context.Context, scan *compact.Scan, e format.Entry) error {
	x, err := p.index(ctx, e)
	if err != nil {
		return err
	}
	scan.AddAborted(x.Aborted())
	for b, err := range p.batches(ctx, e, x, e.Base) {
		if err != nil {
			return err
		}
		if !scan.Batch(b) && scan.Full() {
			return nil
		}
	}
	return nil
}

func (p *pass) salt() (s [16]byte) {
	if p.cfg.Salt != nil {
		return p.cfg.Salt()
	}
	_, _ = rand.Read(s[:]) // crypto/rand never fails
	return s
}

// producers tells which batches must stay for their producers' sake: by the state at the end of the tier.
func (p *pass) producers(ctx context.Context) (compact.Producers, error) {
	at, err := p.now()
	if err != nil || p.cfg.Producers == nil {
		return nil, err
	}
	e, ok, err := at.manifest.Find(p.pages.load(ctx), at.row.Manifest.TieredEnd-1)
	if err != nil || !ok {
		return nil, err
	}
	x, err := p.index(ctx, e)
	if err != nil {
		return nil, err
	}
	out, err := p.cfg.Producers(x.Producers())
	if err != nil {
		return nil, &damagedError{e, fmt.Errorf("producer state at %d: %w", e.End, err)}
	}
	return out, nil
}

// step filters the entries that come next. false: there are none below what the map covers.
func (p *pass) step(ctx context.Context) (more bool, err error) {
	at, err := p.now()
	if err != nil {
		return false, err
	}
	entries, err := p.group(ctx, at)
	if err != nil || len(entries) == 0 {
		return false, err
	}
	out, err := p.filterGroup(ctx, entries)
	if err != nil {
		return false, err
	}
	defer out.close()
	p.next = entries[len(entries)-1].End
	if len(entries) == 1 && !out.changed {
		return true, p.mark(ctx, entries[0], out)
	}
	return true, p.publish(ctx, out)
}

// group gives the entries of the next step: all of them wholly covered by the map, or one that is in part.
func (p *pass) group(ctx context.Context, at pin) ([]format.Entry, error) {
	var entries []format.Entry
	var segments []plan.Segment
	for e, err := range p.dirtyEntries(ctx, at.manifest, max(p.next, at.row.LogStart)) {
		if err != nil {
			return nil, fmt.Errorf("read manifest version %d: %w", at.manifest.Version, err)
		}
		if e.Base >= p.covered || len(entries) > 0 && e.End > p.covered {
			break
		}
		if len(entries) == 0 && e.Base < p.next {
			return nil, fmt.Errorf("%w: [%d, %d) covers %d, where a step ended", errMoved, e.Base, e.End, p.next)
		}
		entries, segments = append(entries, e), append(segments, entrySegment(e))
		if n := plan.Group(p.led.Policy.Compaction, segments); n < len(entries) {
			return entries[:n], nil
		}
		if e.End > p.covered {
			break
		}
	}
	return entries, nil
}

// filterGroup gives what stays of some entries; the caller closes it.
func (p *pass) filterGroup(ctx context.Context, entries []format.Entry) (*output, error) {
	out, err := p.newOutput(entries)
	if err != nil {
		return nil, err
	}
	if err := p.filterInto(ctx, out); err != nil {
		out.close()
		return nil, err
	}
	return out, nil
}

func (p *pass) filterInto(ctx context.Context, out *output) error {
	before := p.filter.Stats()
	for _, e := range out.entries {
		x, err := p.index(ctx, e)
		if err != nil {
			return err
		}
		p.filter.AddAborted(x.Aborted())
		out.begin(x)
		for b, err := range p.batches(ctx, e, x, e.Base) {
			if err != nil {
				return err
			}
			tombstones := p.filter.Stats().Tombstones
			v, err := p.filter.Batch(b, false)
			if err != nil {
				return fmt.Errorf("compact the batch at %d of %s: %w", b.BaseOffset(), e.ObjectKey, err)
			}
			if err := out.add(v, p.filter.Stats().Tombstones-tombstones); err != nil {
				return err
			}
		}
		p.progress()
	}
	after := p.filter.Stats()
	p.Compactor.stats.recordsRead.Add(after.RecordsRead - before.RecordsRead)
	p.Compactor.stats.recordsDropped.Add(after.RecordsRead - after.RecordsKept - before.RecordsRead + before.RecordsKept)
	return nil
}

// mark notes that an entry lost nothing: its object stays. One that was compacted before need not be touched at all.
func (p *pass) mark(ctx context.Context, e format.Entry, out *output) error {
	if e.Compactions > 0 || e.End > p.covered {
		return nil
	}
	now := e
	now.Compactions, now.DeleteHorizon = 1, out.horizon
	p.marks = append(p.marks, swap{was: []format.Entry{e}, now: []format.Entry{now}})
	if len(p.marks) < maxMarks {
		return nil
	}
	return p.flush(ctx)
}

// flush commits the marks.
func (p *pass) flush(ctx context.Context) error {
	if len(p.marks) == 0 {
		return nil
	}
	return p.retry(ctx, func() error { return p.commit(ctx, &replacement{epoch: p.led.Epoch}) })
}

// publish writes what a step left and swaps it in.
func (p *pass) publish(ctx context.Context, out *output) error {
	return p.retry(ctx, func() error {
		e, err := p.put(ctx, out)
		if err != nil {
			return err
		}
		return p.commit(ctx, &replacement{
			epoch: p.led.Epoch, attempt: e.Attempt, swaps: []swap{{was: out.entries, now: []format.Entry{e}}},
		})
	})
}

// commit has the archiver commit a replacement after the marks, which lie below it.
func (p *pass) commit(ctx context.Context, r *replacement) error {
	ctx, cancel := context.WithTimeout(ctx, 4*p.cfg.Deadline) // a partition that has no turns must not hold up the others
	defer cancel()
	r.swaps = append(p.marks[:len(p.marks):len(p.marks)], r.swaps...)
	if err := p.cfg.Archiver.replace(ctx, p.led.Key, r); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: %w", errNoTurn, err)
		}
		return fmt.Errorf("commit what was compacted up to %d: %w", p.next, err)
	}
	p.marks = nil
	p.Compactor.stats.steps.Add(1)
	return nil
}

// retry does an attempt again, under fresh names, unless the partition has moved on: what was filtered is still at hand.
func (p *pass) retry(ctx context.Context, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if err == nil || errors.Is(err, errMoved) || errors.Is(err, errSuperseded) || errors.Is(err, ErrNotOwner) || errors.Is(err, errNoTurn) || !p.again(ctx, err, try) {
			return err
		}
	}
}

// put writes one object under a fresh name. After an error it may exist; the sweeper finds it.
func (p *pass) put(ctx context.Context, out *output) (format.Entry, error) {
	at, err := p.now()
	if err != nil {
		return format.Entry{}, err
	}
	// The image is read before the object has its name, so the attempt is that of now, however long the step took.
	attempt := currentAttempt(at.img)
	if err := p.owner.check(ctx, at.img, attempt.Generation); err != nil {
		return format.Entry{}, err
	}
	segment, meta, err := out.build(attempt, p.cfg.Rand())
	if err != nil {
		return format.Entry{}, err
	}
	if err := p.pace.spend(ctx, segment.Size()); err != nil {
		return format.Entry{}, err
	}
	putCtx, cancel := context.WithTimeout(ctx, p.cfg.Deadline+time.Duration(float64(segment.Size())/float64(p.cfg.MinBytesPerSec)*float64(time.Second)))
	defer cancel()
	if err := p.cfg.Store.Put(putCtx, meta.ObjectKey(), segment.Body(), segment.Size()); err != nil {
		return format.Entry{}, fmt.Errorf("put %s: %w", meta.ObjectKey(), err)
	}
	p.Compactor.stats.objects.Add(1)
	p.Compactor.stats.bytesWritten.Add(segment.Size())
	e := segment.Entry(meta.ObjectKey())
	if out.entries[len(out.entries)-1].End <= p.covered {
		e.Compactions, e.DeleteHorizon = 1, out.horizon
		for _, was := range out.entries {
			e.Compactions = max(e.Compactions, was.Compactions+1)
		}
	}
	return e, nil
}

// progress tells about a long pass now and then.
func (p *pass) progress() {
	if p.told.IsZero() {
		p.told = p.began
	}
	if time.Since(p.told) < progressEvery {
		return
	}
	p.told = time.Now()
	s := p.stats()
	p.cfg.Logger.Info("cold compaction under way", "topic", p.led.Topic, "partition", p.led.Key.Partition, "at", p.next, "up_to", p.covered,
		"bytes_read", s.BytesRead, "bytes_kept", s.BytesKept, "of_bytes", p.known.tier.Bytes, "took", time.Since(p.began))
}
