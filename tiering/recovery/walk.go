package recovery

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
)

// walk verifies one partition's manifest as one row names it, and all it reaches.
type walk struct {
	*verifier
	opened *Bucket
	topic  string
	row    metadata.Partition
	group  *errgroup.Group

	mu        sync.Mutex
	anomalies []Anomaly // guarded by mu
	settled   []string  // pages seen, and objects that anomalies are about: done once this walk counts; guarded by mu
}

func (w *walk) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(w.Parallel)
	w.group = group
	m := w.row.Manifest
	var err error
	if m.Root == (metadata.PagePlace{}) {
		w.checkRow(format.Summary{Base: m.TieredEnd, End: m.TieredEnd})
	} else {
		err = w.page(ctx, m.Root, nil)
	}
	return errors.Join(err, group.Wait())
}

// add notes an anomaly.
func (w *walk) add(a Anomaly) {
	a.Topic, a.Partition = w.topic, w.row.Key.Partition
	w.mu.Lock()
	defer w.mu.Unlock()
	w.anomalies = append(w.anomalies, a)
}

// settle notes a page or object that need not be looked at again after this walk.
func (w *walk) settle(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled = append(w.settled, id)
}

// checkRow compares what the manifest holds with the image's row. Entries below the log start may still be
// there; a log start beyond the tiered end has lifted that.
func (w *walk) checkRow(s format.Summary) {
	m, start := w.row.Manifest, w.row.LogStart
	a := Anomaly{Object: m.Root.Key}
	switch {
	case m.TieredEnd > start && s.End < m.TieredEnd:
		a.Kind, a.Base, a.End = OffsetGap, s.End, m.TieredEnd
	case m.TieredEnd > start && s.Base > start:
		a.Kind, a.Base, a.End = OffsetGap, start, s.Base
	case s.End > m.TieredEnd:
		a.Kind, a.Base, a.End = OffsetOverlap, m.TieredEnd, s.End
	case uint64(s.ObjectBytes) != m.Bytes || uint64(s.Segments) != m.Segments:
		a.Kind, a.Base, a.End = SummaryMismatch, s.Base, s.End
	default:
		return
	}
	a.Detail = fmt.Sprintf("manifest holds [%d, %d), %d segments, %d bytes; the row says [%d, %d), %d, %d",
		s.Base, s.End, s.Segments, s.ObjectBytes, start, m.TieredEnd, m.Segments, m.Bytes)
	w.add(a)
}

// page verifies a page and what is below it. parent is nil for the root page.
func (w *walk) page(ctx context.Context, p metadata.PagePlace, parent *format.Child) error {
	id := fmt.Sprintf("%s@%d", p.Key, p.Offset)
	if w.isDone(id) {
		return nil
	}
	w.reach(p.Key, -1)
	page, err := w.loadPage(ctx, p)
	a, err := w.judgePage(p, page, err, parent)
	if err != nil {
		return err
	}
	w.progress(func(p *Progress) { p.Pages++ })
	if a.Kind == "" {
		err = w.manifestObject(ctx, p.Key)
	} else {
		w.add(a)
	}
	if err != nil {
		return err
	}
	if a.Kind != "" || parent != nil { // a good root page is judged against each row that names it
		w.settle(id)
	}
	if page == nil {
		return nil
	}
	w.checkCompacted(p, page)
	for _, c := range page.Children {
		if err := w.page(ctx, c.Place, &c); err != nil {
			return err
		}
	}
	for _, e := range page.Entries {
		w.reach(e.ObjectKey, e.ObjectSize)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.group.Go(func() error { return w.segment(ctx, e) })
	}
	return nil
}

// checkCompacted sees to it that what is compacted comes first: a compaction has dropped what later records
// supersede, and those must be compacted too.
func (w *walk) checkCompacted(p metadata.PagePlace, page *format.Page) {
	dirty := protocol.NoOffset // where the first begins that is not compacted
	check := func(s format.Summary) {
		switch {
		case dirty != protocol.NoOffset && s.CompactedSegments > 0:
			w.add(Anomaly{Kind: BadCompaction, Object: p.Key, Base: s.Base, End: s.End, Detail: fmt.Sprintf("it is compacted, and what begins at %d is not", dirty)})
		case dirty == protocol.NoOffset && !s.Compacted():
			dirty = s.Base
		}
	}
	for _, c := range page.Children {
		check(c.Summary)
	}
	for _, e := range page.Entries {
		check(e.Summary())
	}
}

// judgePage says what is wrong with a page, if anything. failed is from loading it; it comes back if it is an outage.
func (w *walk) judgePage(p metadata.PagePlace, page *format.Page, failed error, parent *format.Child) (Anomaly, error) {
	a := Anomaly{Object: p.Key, Base: w.row.LogStart, End: w.row.Manifest.TieredEnd}
	missing := MissingManifest
	if parent != nil {
		a.Base, a.End, missing = parent.Summary.Base, parent.Summary.End, MissingPage
	}
	switch {
	case errors.Is(failed, object.ErrNotFound):
		a.Kind = missing
	case errors.Is(failed, format.ErrCorrupt), errors.Is(failed, object.ErrRange):
		a.Kind, a.Detail = CorruptPage, failed.Error()
	case errors.Is(failed, format.ErrNewerFormat):
		a.Kind, a.Detail = NewerFormat, failed.Error()
	case failed != nil:
		return a, failed
	case parent == nil:
		w.checkRow(page.Summary)
	case page.Summary != parent.Summary || len(page.Children)+len(page.Entries) != parent.Count:
		a.Kind, a.Detail = SummaryMismatch, fmt.Sprintf("page holds %+v, its parent says %+v", page.Summary, parent.Summary)
	}
	return a, nil
}

// maxManifestBytes bounds a manifest object.
const maxManifestBytes = 1 << 30

// manifestObject verifies what pages do not hold of an object that has one: head and footer,
// which lead to a manifest when all roots are lost. Pages are judged where the tree reaches them.
func (w *walk) manifestObject(ctx context.Context, key string) error {
	if w.isDone(key) {
		return nil
	}
	b, err := w.read.all(ctx, key, maxManifestBytes)
	if err == nil {
		_, _, err = format.OpenManifest(b, key)
	}
	var bad *format.CorruptError
	switch {
	case errors.As(err, &bad) && bad.Part != format.PagePart, errors.Is(err, object.ErrRange):
		w.add(Anomaly{Kind: CorruptManifest, Object: key, Detail: err.Error()})
		w.settle(key)
		return nil
	case errors.As(err, &bad), errors.Is(err, object.ErrNotFound), errors.Is(err, format.ErrNewerFormat):
		// Another page is damaged, or the sweeper was there: told where the tree reaches it, if it does.
	case err != nil:
		return err
	}
	w.good(key)
	return nil
}

// loadPage reads a page again where it seems damaged: the answer may have been, not the object.
func (w *walk) loadPage(ctx context.Context, p metadata.PagePlace) (page *format.Page, err error) {
	for range 2 {
		var b []byte
		if b, err = w.read.get(ctx, p.Key, int64(p.Offset), int64(p.Length)); err != nil {
			return nil, err
		}
		if page, err = format.DecodePage(b, p); err == nil {
			return page, nil
		}
	}
	return nil, err
}

// segment verifies one entry and its object.
func (w *walk) segment(ctx context.Context, e format.Entry) error {
	id := e.ObjectKey + fmt.Sprintf("@[%d,%d)", e.Base, e.End)
	if w.isDone(id) {
		return nil
	}
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	err := w.readSegment(ctx, e)
	if errors.Is(err, format.ErrCorrupt) { // the answer may have been damaged, not the object
		err = w.readSegment(ctx, e)
	}
	a := Anomaly{Object: e.ObjectKey, Base: e.Base, End: e.End}
	var bad *format.CorruptError
	switch {
	case err == nil:
		w.good(id)
		w.progress(func(p *Progress) { p.Segments++; p.Bytes += e.ObjectSize })
		return nil
	case errors.Is(err, object.ErrNotFound):
		a.Kind = MissingSegment
	case errors.Is(err, object.ErrRange):
		a.Kind, a.Detail = SegmentSize, fmt.Sprintf("shorter than the %d bytes that its entry says", e.ObjectSize)
	case errors.As(err, &bad) && bad.Part == format.IdentityPart:
		a.Kind, a.Detail = SwappedSegment, err.Error()
	case errors.As(err, &bad) && bad.Part == format.EntryPart:
		a.Kind, a.Detail = BadCompaction, err.Error()
	case errors.Is(err, format.ErrCorrupt):
		a.Kind, a.Detail = CorruptSegment, err.Error()
	case errors.Is(err, format.ErrNewerFormat):
		a.Kind, a.Detail = NewerFormat, err.Error()
	default:
		return fmt.Errorf("verify %s: %w", e.ObjectKey, err)
	}
	w.add(a)
	w.settle(id)
	w.progress(func(p *Progress) { p.Segments++ })
	return nil
}

func (w *walk) readSegment(ctx context.Context, e format.Entry) error {
	tail, err := w.read.get(ctx, e.ObjectKey, e.IndexOffset, int64(e.IndexLength))
	if err != nil {
		return err
	}
	x, err := format.DecodeIndex(tail, e)
	if err != nil {
		return err
	}
	return x.Verify(&rangeReader{reader: w.read, ctx: ctx, key: e.ObjectKey, size: e.DataBytes})
}
