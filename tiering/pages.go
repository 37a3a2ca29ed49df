package tiering

import (
	"container/list"
	"context"
	"sync"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/tiering/format"
)

// archiverPageBytes bounds the manifest objects that the archiver keeps.
const archiverPageBytes = 8 << 20

// pages reads manifest pages for the archiver. It keeps the manifest objects
// that it wrote last: an append needs the pages of the append before, and asking the bucket for
// what one has just put there would double its requests.
type pages struct {
	*fetcher
	limit int64

	mu    sync.Mutex
	size  int64                    // guarded by mu
	order *list.List               // of *keptObject, the last used in front; guarded by mu
	kept  map[string]*list.Element // by key; guarded by mu
}

type keptObject struct {
	key  string
	body []byte
}

func newPages(f *fetcher, limit int64) *pages {
	return &pages{fetcher: f, limit: limit, order: list.New(), kept: map[string]*list.Element{}}
}

// keep remembers a manifest object that was written.
func (p *pages) keep(v format.Version) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept[v.Root.Key] = p.order.PushFront(&keptObject{v.Root.Key, v.Object})
	for p.size += int64(len(v.Object)); p.size > p.limit; {
		oldest := p.order.Remove(p.order.Back()).(*keptObject)
		delete(p.kept, oldest.key)
		p.size -= int64(len(oldest.body))
	}
}

// load gives a page from memory, else from the bucket.
func (p *pages) load(ctx context.Context) format.Load {
	return func(place metadata.PagePlace) ([]byte, error) {
		if b := p.find(place); b != nil {
			return b, nil
		}
		return p.page(ctx, place)
	}
}

func (p *pages) find(place metadata.PagePlace) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	element, ok := p.kept[place.Key]
	if !ok {
		return nil
	}
	p.order.MoveToFront(element)
	return element.Value.(*keptObject).body[place.Offset:][:place.Length]
}
