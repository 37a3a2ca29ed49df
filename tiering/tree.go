package tiering

import (
	"context"
	"fmt"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
)

// pageEntryBytes is about what one entry or child of a decoded page takes on the heap, its object's name included.
const pageEntryBytes = 320

// page gives a decoded page of the manifest through the cache: a look-up costs a walk
// over pages in memory, whatever the length of the archive.
func (v view) page(ctx context.Context, p metadata.PagePlace) (*format.Page, error) {
	value, err := v.meta.Get(ctx, p, int64(p.Length), func(ctx context.Context) (metaValue, error) {
		b, err := v.fetch.page(ctx, p)
		if err != nil {
			return metaValue{}, err
		}
		page, err := format.DecodePage(b, p)
		return metaValue{page: page}, err
	})
	if err != nil {
		return nil, fmt.Errorf("page [%d, +%d) of %s: %w", p.Offset, p.Length, p.Key, err)
	}
	return value.page, nil
}

// root gives the manifest's root page, one without entries of the empty manifest.
func (v view) root(ctx context.Context) (*format.Page, error) {
	if v.manifest.Root == (metadata.PagePlace{}) {
		return &format.Page{}, nil
	}
	return v.page(ctx, v.manifest.Root)
}

// visit calls do for each wanted entry in order until it returns false. A page whose
// summary is not wanted must have no entry that is; it is not loaded.
func (v view) visit(ctx context.Context, wanted func(format.Summary) bool, do func(format.Entry) bool) error {
	root, err := v.root(ctx)
	if err != nil {
		return err
	}
	_, err = v.visitPage(ctx, root, wanted, do)
	return err
}

func (v view) visitPage(ctx context.Context, p *format.Page, wanted func(format.Summary) bool, do func(format.Entry) bool) (more bool, err error) {
	for i := range p.Entries {
		if wanted(p.Entries[i].Summary()) && !do(p.Entries[i]) {
			return false, nil
		}
	}
	for i := range p.Children {
		c := &p.Children[i]
		if !wanted(c.Summary) {
			continue
		}
		child, err := v.page(ctx, c.Place)
		if err != nil {
			return false, err
		}
		if err := c.Check(child, p.Level); err != nil {
			return false, err
		}
		if more, err := v.visitPage(ctx, child, wanted, do); !more {
			return false, err
		}
	}
	return true, nil
}

// first gives the first wanted entry.
func (v view) first(ctx context.Context, wanted func(format.Summary) bool) (found format.Entry, ok bool, err error) {
	err = v.visit(ctx, wanted, func(e format.Entry) bool {
		found, ok = e, true
		return false
	})
	return found, ok, err
}

// find gives the entry that covers an offset of the cold tier.
func (v view) find(ctx context.Context, o protocol.Offset) (format.Entry, error) {
	e, ok, err := v.first(ctx, func(s format.Summary) bool { return s.End > o })
	if err == nil && (!ok || e.Base > o) {
		err = fmt.Errorf("%w: no entry covers offset %d below the tiered end %d", format.ErrCorrupt, o, v.row.Manifest.TieredEnd)
	}
	return e, err
}
