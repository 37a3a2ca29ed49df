package vfs

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// BlockSize is the unit in which un-synced bytes survive a crash of Mem or not.
const BlockSize = 4096

// Mem is a file system in memory that can crash and fail. Beside what a
// reader sees it keeps what is on the disk: names as of the last SyncDir, bytes
// as of the last Sync. Crash gives what is found after a power cut, Kill after
// the end of the process. The zero value is not usable; see NewMem.
//
// Changes of names are kept in order. SyncDir makes those of its directory
// durable, with all earlier ones of the same names; a rename is one change, of both
// its names at once, as on a journaling file system.
type Mem struct {
	steps steps

	mu      sync.Mutex
	root    *node        // what readers see
	pending []nameChange // that are not durable, oldest first
	nodes   uint64       // made so far
	space   int64        // limit of bytes, or -1
	used    int64        // bytes of the files that have a name, in whole blocks
	handles int          // open files
}

// node is a file or a directory. A Mem's lock guards it.
type node struct {
	id  uint64
	dir bool

	// Of a directory: what readers see, and what is on the disk.
	names, durable map[string]*node

	// Of a file: what readers see, and what is on the disk.
	data, disk []byte
	dirty      map[int64]bool // blocks written since the last Sync
	lost       map[int64]bool // blocks of a failed Sync: counted clean, though the disk may not hold them
	linked     bool           // has a name that readers see
}

// nameChange is one change of the names in directories: new names to nil
// mean that the name goes.
type nameChange struct {
	parts []namePart // one, or two of a rename
}

type namePart struct {
	dir  *node
	name string
	to   *node
}

// NewMem returns an empty file system: a root directory, no limit of space.
func NewMem() *Mem {
	m := &Mem{space: -1}
	m.root = m.newNode(true)
	return m
}

func (m *Mem) newNode(dir bool) *node {
	m.nodes++
	n := &node{id: m.nodes, dir: dir}
	if dir {
		n.names, n.durable = map[string]*node{}, map[string]*node{}
	} else {
		n.dirty, n.lost = map[int64]bool{}, map[int64]bool{}
	}
	return n
}

// SetSpace limits the bytes of all files, counted in whole blocks; below 0 means no limit.
func (m *Mem) SetSpace(limit int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.space = limit
}

// OpenFiles is the number of handles that are not closed.
func (m *Mem) OpenFiles() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.handles
}

// split gives the parts of a path; the root has none.
func split(name string) []string {
	name = strings.Trim(path.Clean("/"+name), "/")
	if name == "" {
		return nil
	}
	return strings.Split(name, "/")
}

// lookup returns what name is.
func (m *Mem) lookup(name string) (*node, error) {
	n := m.root
	for _, part := range split(name) {
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		next, ok := n.names[part]
		if !ok {
			return nil, fs.ErrNotExist
		}
		n = next
	}
	return n, nil
}

// parent returns the directory that holds name, and the last part of name.
func (m *Mem) parent(name string) (*node, string, error) {
	parts := split(name)
	if len(parts) == 0 {
		return nil, "", fs.ErrInvalid
	}
	dir, err := m.lookup(strings.Join(parts[:len(parts)-1], "/"))
	if err != nil {
		return nil, "", err
	}
	if !dir.dir {
		return nil, "", syscall.ENOTDIR
	}
	return dir, parts[len(parts)-1], nil
}

// change does what the parts say for readers; it becomes durable by SyncDir.
func (m *Mem) change(parts ...namePart) {
	for _, p := range parts {
		m.unlink(p.dir.names[p.name])
	}
	for _, p := range parts {
		set(p.dir.names, p.name, p.to)
		m.link(p.to)
	}
	m.pending = append(m.pending, nameChange{parts: parts})
}

func (m *Mem) link(n *node) {
	if n != nil && !n.dir && !n.linked {
		n.linked = true
		m.used += inBlocks(len(n.data))
	}
}

func (m *Mem) unlink(n *node) {
	if n != nil && !n.dir && n.linked {
		n.linked = false
		m.used -= inBlocks(len(n.data))
	}
}

func set(names map[string]*node, name string, to *node) {
	if to == nil {
		delete(names, name)
	} else {
		names[name] = to
	}
}

// inBlocks rounds a size up.
func inBlocks[T int | int64](size T) int64 {
	return (int64(size) + BlockSize - 1) / BlockSize * BlockSize
}

// Open implements FS.
func (m *Mem) Open(name string, create bool) (File, error) {
	kind := OpOpen
	if create && !m.exists(name) {
		kind = OpCreate
	}
	var n *node
	err := m.do(Op{Kind: kind, Path: name}, func() error {
		dir, base, err := m.parent(name)
		if err != nil {
			return err
		}
		n = dir.names[base]
		switch {
		case n == nil && !create:
			return fs.ErrNotExist
		case n == nil:
			n = m.newNode(false)
			m.change(namePart{dir, base, n})
		case n.dir:
			return syscall.EISDIR
		}
		m.handles++
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &memFile{fs: m, path: name, node: n}, nil
}

func (m *Mem) exists(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.lookup(name)
	return err == nil
}

// Rename implements FS.
func (m *Mem) Rename(from, to string) error {
	return m.do(Op{Kind: OpRename, Path: from, To: to}, func() error {
		fromDir, fromName, err := m.parent(from)
		if err != nil {
			return err
		}
		toDir, toName, err := m.parent(to)
		if err != nil {
			return err
		}
		n, old := fromDir.names[fromName], toDir.names[toName]
		switch {
		case n == nil:
			return fs.ErrNotExist
		case n == old:
			return nil
		case old != nil && old.dir:
			return fs.ErrExist
		case old != nil && n.dir:
			return syscall.ENOTDIR
		case n.dir && strings.HasPrefix(path.Clean("/"+to), path.Clean("/"+from)+"/"):
			return fs.ErrInvalid
		}
		m.change(namePart{fromDir, fromName, nil}, namePart{toDir, toName, n})
		return nil
	})
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	return m.do(Op{Kind: OpRemove, Path: name}, func() error {
		dir, base, err := m.parent(name)
		if err != nil {
			return err
		}
		n := dir.names[base]
		switch {
		case n == nil:
			return fs.ErrNotExist
		case n.dir && len(n.names) > 0:
			return syscall.ENOTEMPTY
		}
		m.change(namePart{dir, base, nil})
		return nil
	})
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(name string) error {
	return m.do(Op{Kind: OpMkdir, Path: name}, func() error {
		dir := m.root
		for _, part := range split(name) {
			next := dir.names[part]
			if next == nil {
				next = m.newNode(true)
				m.change(namePart{dir, part, next})
			}
			if !next.dir {
				return syscall.ENOTDIR
			}
			dir = next
		}
		return nil
	})
}

// List implements FS.
func (m *Mem) List(dir string) (entries []Entry, err error) {
	err = m.do(Op{Kind: OpList, Path: dir}, func() error {
		n, err := m.lookup(dir)
		if err != nil {
			return err
		}
		if !n.dir {
			return syscall.ENOTDIR
		}
		entries = make([]Entry, 0, len(n.names))
		for _, name := range slices.Sorted(maps.Keys(n.names)) {
			e := n.names[name]
			entries = append(entries, Entry{Name: name, Dir: e.dir, Size: int64(len(e.data))})
		}
		return nil
	})
	return entries, err
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	return m.do(Op{Kind: OpSyncDir, Path: dir}, func() error {
		n, err := m.lookup(dir)
		if err != nil {
			return err
		}
		if !n.dir {
			return syscall.ENOTDIR
		}
		m.settle(func(c nameChange) bool {
			return slices.ContainsFunc(c.parts, func(p namePart) bool { return p.dir == n })
		})
		return nil
	})
}

// nameKey is one name in one directory.
type nameKey struct {
	dir  *node
	name string
}

// settle makes durable those pending changes that wanted names, and the
// earlier ones that touch the same names; the others stay pending.
func (m *Mem) settle(wanted func(nameChange) bool) {
	needed := map[nameKey]bool{}
	take := make([]bool, len(m.pending))
	for i := len(m.pending) - 1; i >= 0; i-- {
		c := m.pending[i]
		take[i] = wanted(c) || slices.ContainsFunc(c.parts, func(p namePart) bool { return needed[nameKey{p.dir, p.name}] })
		if take[i] {
			for _, p := range c.parts {
				needed[nameKey{p.dir, p.name}] = true
			}
		}
	}
	var left []nameChange
	for i, c := range m.pending {
		if !take[i] {
			left = append(left, c)
			continue
		}
		for _, p := range c.parts {
			set(p.dir.durable, p.name, p.to)
		}
	}
	m.pending = left
}

// Space implements FS.
func (m *Mem) Space(dir string) (s Space, err error) {
	err = m.do(Op{Kind: OpFree, Path: dir}, func() error {
		s = Space{Free: 1 << 50, Total: 1 << 50}
		if m.space >= 0 {
			s = Space{Free: max(0, m.space-m.used), Total: m.space}
		}
		_, err := m.lookup(dir)
		return err
	})
	return s, err
}
