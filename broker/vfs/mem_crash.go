package vfs

import (
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
)

// UnsyncedKind is a kind of state that a crash may take.
type UnsyncedKind string

// The kinds: the name of a file or directory, a file's size, a block of its bytes.
const (
	UnsyncedName  UnsyncedKind = "name"
	UnsyncedSize  UnsyncedKind = "size"
	UnsyncedBlock UnsyncedKind = "block"
)

// Unsynced is one piece of state that was not made durable.
type Unsynced struct {
	Kind  UnsyncedKind
	Path  string // for a rename its new name
	Block int64  // number of the block
	// Len is how much there is to keep: 1 for a name, the bytes of a block,
	// the bytes by which a size differs from the durable one.
	Len int64
}

// Policy decides what of u survives a crash: 0 is dropped, u.Len kept, and
// between them torn: that long a prefix of a block, that much of a change of size.
type Policy func(u Unsynced) int64

// KeepAll is the policy of a crash that had everything on the disk in time.
func KeepAll(u Unsynced) int64 { return u.Len }

// DropAll is the policy of a crash that leaves only what was made durable.
func DropAll(Unsynced) int64 { return 0 }

// TearAll keeps half of each block and change of size, and all names.
func TearAll(u Unsynced) int64 {
	if u.Kind == UnsyncedName {
		return u.Len
	}
	return u.Len / 2
}

// Random drops, keeps or tears each piece by chance; the same seed makes the
// same choices for the same state. It may be called from several goroutines.
func Random(seed uint64) Policy {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0x73747261))
	return func(u Unsynced) int64 {
		mu.Lock()
		defer mu.Unlock()
		switch rng.IntN(3) {
		case 0:
			return 0
		case 1:
			return u.Len
		}
		return rng.Int64N(u.Len + 1)
	}
}

// Kill returns the file system as the next process finds it after this one was
// killed: all that was written is there, durable or not. m is not changed; the
// copy has no hook, no stop, its own counters, and the same limit of space.
func (m *Mem) Kill() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &Mem{nodes: m.nodes, space: m.space, used: m.used}
	copies := map[*node]*node{}
	c.root = copyNode(m.root, copies)
	for _, change := range m.pending {
		parts := slices.Clone(change.parts)
		for i := range parts {
			parts[i].dir, parts[i].to = copyNode(parts[i].dir, copies), copyNode(parts[i].to, copies)
		}
		c.pending = append(c.pending, nameChange{parts: parts})
	}
	return c
}

// copyNode copies n and all that it leads to, each once.
func copyNode(n *node, copies map[*node]*node) *node {
	if n == nil {
		return nil
	}
	if c := copies[n]; c != nil {
		return c
	}
	c := &node{
		id: n.id, dir: n.dir, linked: n.linked, data: slices.Clone(n.data), disk: slices.Clone(n.disk),
		dirty: maps.Clone(n.dirty), lost: maps.Clone(n.lost),
	}
	copies[n] = c
	if n.dir {
		c.names, c.durable = map[string]*node{}, map[string]*node{}
		for name, to := range n.names {
			c.names[name] = copyNode(to, copies)
		}
		for name, to := range n.durable {
			c.durable[name] = copyNode(to, copies)
		}
	}
	return c
}

// Crash returns the file system as it is found after a power cut: what was
// durable, and of the rest what the policy keeps, all of it on the disk now. It is
// to m as Kill says.
func (m *Mem) Crash(policy Policy) *Mem {
	c := m.Kill()
	c.crashNames(policy)
	c.used = 0
	c.crashTree("/", c.root, policy)
	return c
}

// crashNames keeps some of the pending changes of names. One that follows a
// dropped one of the same name is dropped with it.
func (m *Mem) crashNames(policy Policy) {
	dropped := map[nameKey]bool{}
	paths := m.paths()
	for _, change := range m.pending {
		last := change.parts[len(change.parts)-1]
		u := Unsynced{Kind: UnsyncedName, Path: path.Join(paths[last.dir], last.name), Len: 1}
		keep := policy(u) > 0
		for _, p := range change.parts {
			keep = keep && !dropped[nameKey{p.dir, p.name}]
		}
		for _, p := range change.parts {
			if keep {
				set(p.dir.durable, p.name, p.to)
			} else {
				dropped[nameKey{p.dir, p.name}] = true
			}
		}
	}
	m.pending = nil
}

// paths names every directory that readers see or the disk holds; one that has
// both names goes by the former.
func (m *Mem) paths() map[*node]string {
	found := map[*node]string{}
	var walk func(at string, n *node, children func(*node) map[string]*node)
	walk = func(at string, n *node, children func(*node) map[string]*node) {
		if !n.dir {
			return
		}
		if _, ok := found[n]; !ok {
			found[n] = at
		}
		for _, name := range slices.Sorted(maps.Keys(children(n))) {
			walk(path.Join(at, name), children(n)[name], children)
		}
	}
	walk("/", m.root, func(n *node) map[string]*node { return n.names })
	walk("/", m.root, func(n *node) map[string]*node { return n.durable })
	return found
}

// crashTree makes the durable names those that readers see, and settles each
// file below dir.
func (m *Mem) crashTree(at string, dir *node, policy Policy) {
	dir.names = maps.Clone(dir.durable)
	for _, name := range slices.Sorted(maps.Keys(dir.names)) {
		n, child := dir.names[name], path.Join(at, name)
		if n.dir {
			m.crashTree(child, n, policy)
			continue
		}
		n.crash(child, policy)
		n.linked = false
		m.link(n)
	}
}

// crash settles what of the file is on the disk.
func (n *node) crash(name string, policy Policy) {
	size := int64(len(n.disk))
	if d := int64(len(n.data)) - size; d != 0 {
		kept := policy(Unsynced{Kind: UnsyncedSize, Path: name, Len: max(d, -d)})
		if d < 0 {
			kept = -kept
		}
		size += kept
	}
	unsynced := maps.Clone(n.dirty)
	maps.Copy(unsynced, n.lost)
	for _, b := range slices.Sorted(maps.Keys(unsynced)) {
		if b*BlockSize >= size {
			continue // past the end: nobody will see it
		}
		// The block as a whole may be on the disk although the size is not.
		fresh := block(n.data, b)
		if len(fresh) == 0 {
			continue // cut off: what the old size shows, if it stayed, is the old bytes
		}
		kept := policy(Unsynced{Kind: UnsyncedBlock, Path: name, Block: b, Len: int64(len(fresh))})
		n.disk = fit(n.disk, max(len(n.disk), int(b*BlockSize+kept)))
		copy(n.disk[b*BlockSize:], fresh[:kept])
	}
	n.disk = fit(n.disk, int(size))
	n.data = slices.Clone(n.disk)
	clear(n.dirty)
	clear(n.lost)
}
