package log

import (
	"container/list"
	"errors"
	"sync"

	"github.com/stratabroker/strata/broker/vfs"
)

// fileKind is one of the files of a segment.
type fileKind uint8

const (
	logKind fileKind = iota
	indexKind
	timeKind
	txnKind
	kinds
)

func (k fileKind) suffix() string {
	return [kinds]string{".log", ".index", ".timeindex", ".txnindex"}[k]
}

type fileKey struct {
	segment *segment
	kind    fileKind
}

// handles is the bounded cache of open files. A handle in use is never closed;
// when all are in use the bound is exceeded for as long.
type handles struct {
	fs  vfs.FS
	max int

	mu   sync.Mutex
	open map[fileKey]*handle
	lru  list.List // of *handle, most recently used first
}

// handle is one open file, with a count of its users.
type handle struct {
	key  fileKey
	at   *list.Element
	refs int  // guarded by handles.mu
	dead bool // no longer in the cache: the last user closes it

	once sync.Once // opens outside of handles.mu
	file vfs.File
	err  error
}

func newHandles(fsys vfs.FS, limit int) *handles {
	return &handles{fs: fsys, max: max(1, limit), open: make(map[fileKey]*handle)}
}

// acquire returns the segment's open file; release gives it back.
func (h *handles) acquire(s *segment, kind fileKind) (*handle, error) {
	key := fileKey{s, kind}
	h.mu.Lock()
	f := h.open[key]
	if f == nil {
		f = &handle{key: key}
		f.at = h.lru.PushFront(f)
		h.open[key] = f
	} else {
		h.lru.MoveToFront(f.at)
	}
	f.refs++
	closing := h.shrink()
	h.mu.Unlock()
	closeAll(closing)
	f.once.Do(func() { f.file, f.err = s.openFile(h.fs, kind) })
	if f.err != nil {
		h.drop(f)
		h.release(f)
		return nil, f.err
	}
	return f, nil
}

// share adds a user to a file that has one.
func (h *handles) share(f *handle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.refs++
}

func (h *handles) release(f *handle) {
	h.mu.Lock()
	f.refs--
	if f.refs < 0 {
		panic("log: file handle released twice")
	}
	last := f.refs == 0 && f.dead
	var closing []*handle
	if !f.dead {
		closing = h.shrink()
	}
	h.mu.Unlock()
	if last {
		closing = append(closing, f)
	}
	closeAll(closing)
}

// shrink takes unused handles out of the cache until it keeps its bound; the
// caller holds mu, and closes them without it.
func (h *handles) shrink() (closing []*handle) {
	for e := h.lru.Back(); e != nil && len(h.open) > h.max; {
		f := e.Value.(*handle)
		e = e.Prev()
		if f.refs == 0 {
			h.remove(f)
			closing = append(closing, f)
		}
	}
	return closing
}

func (h *handles) remove(f *handle) {
	if !f.dead {
		f.dead = true
		delete(h.open, f.key)
		h.lru.Remove(f.at)
	}
}

func (h *handles) drop(f *handle) {
	h.mu.Lock()
	h.remove(f)
	h.mu.Unlock()
}

// forget drops all of a segment's handles; those in use are closed by the last user.
func (h *handles) forget(s *segment) {
	h.mu.Lock()
	var closing []*handle
	for kind := range kinds {
		if f := h.open[fileKey{s, kind}]; f != nil {
			h.remove(f)
			if f.refs == 0 {
				closing = append(closing, f)
			}
		}
	}
	h.mu.Unlock()
	closeAll(closing)
}

// closeAll closes files that nobody uses. What they held was synced, or nobody
// was promised it, so that an error here means nothing.
func closeAll(closing []*handle) {
	for _, f := range closing {
		if f.file != nil {
			_ = f.file.Close()
		}
	}
}

func (h *handles) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.open)
}

// with runs do on the segment's file.
func (h *handles) with(s *segment, kind fileKind, do func(vfs.File) error) error {
	f, err := h.acquire(s, kind)
	if err != nil {
		return err
	}
	defer h.release(f)
	return do(f.file)
}

// errGone means that a segment was deleted before it could be pinned.
var errGone = errors.New("segment is gone")
