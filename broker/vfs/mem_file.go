package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// memFile is a handle on a node. closed is guarded by the Mem's lock.
type memFile struct {
	fs     *Mem
	path   string
	node   *node
	closed bool
}

func (f *memFile) do(op Op, act func() error) error {
	op.Path = f.path
	return f.fs.do(op, func() error {
		if f.closed {
			return fs.ErrClosed
		}
		return act()
	})
}

func (f *memFile) ReadAt(p []byte, off int64) (n int, err error) {
	end := false
	err = f.do(Op{Kind: OpRead, Offset: off, Length: int64(len(p))}, func() error {
		if off < 0 {
			return fs.ErrInvalid
		}
		if off < int64(len(f.node.data)) {
			n = copy(p, f.node.data[off:])
		}
		end = n < len(p)
		return nil
	})
	if err == nil && end {
		err = io.EOF // bare, as io.ReaderAt asks
	}
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.do(Op{Kind: OpWrite, Offset: off, Length: int64(len(p))}, func() error {
		if off < 0 {
			return fs.ErrInvalid
		}
		if len(p) == 0 {
			return nil
		}
		fits := p
		room := f.fs.room(f.node)
		if room >= 0 && off+int64(len(p)) > room {
			fits = p[:max(0, room-off)]
		}
		if len(fits) > 0 {
			f.fs.resize(f.node, max(int64(len(f.node.data)), off+int64(len(fits))))
			n = copy(f.node.data[off:], fits)
			f.node.touch(off, off+int64(n))
		}
		if n < len(p) {
			return fmt.Errorf("%w: %d of %d bytes written", ErrNoSpace, n, len(p))
		}
		return nil
	})
	return n, err
}

func (f *memFile) Truncate(size int64) error {
	return f.do(Op{Kind: OpTruncate, Offset: size}, func() error {
		if size < 0 {
			return fs.ErrInvalid
		}
		if room := f.fs.room(f.node); room >= 0 && size > room && size > int64(len(f.node.data)) {
			return fmt.Errorf("%w: truncate to %d", ErrNoSpace, size)
		}
		f.fs.resize(f.node, size)
		return nil
	})
}

// room is the size up to which the file may grow, or -1.
func (m *Mem) room(n *node) int64 {
	if m.space < 0 {
		return -1
	}
	free := max(0, m.space-m.used) / BlockSize * BlockSize
	return inBlocks(len(n.data)) + free
}

// resize cuts the file or fills it up with zeros.
func (m *Mem) resize(n *node, size int64) {
	old := int64(len(n.data))
	if n.linked {
		m.used += inBlocks(size) - inBlocks(old)
	}
	switch {
	case size < old:
		n.touch(size, old)
		n.data = n.data[:size]
	case size > old:
		n.data = fit(n.data, int(size)) // a block that no write touches is zeros, kept or dropped
	}
}

// touch marks the blocks of [from, to) as written.
func (n *node) touch(from, to int64) {
	for b := from / BlockSize; b*BlockSize < to; b++ {
		n.dirty[b] = true
		delete(n.lost, b)
	}
}

func (f *memFile) Sync() error {
	err := f.do(Op{Kind: OpSync}, func() error {
		n := f.node
		n.disk = fit(n.disk, len(n.data))
		for b := range n.dirty {
			copy(block(n.disk, b), block(n.data, b))
		}
		clear(n.dirty)
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrClosed) {
		f.fs.failSync(f.node)
	}
	return err
}

// failSync does what Linux does after a failed write-back: the blocks count as
// clean, so that the next Sync succeeds without them.
func (m *Mem) failSync(n *node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.steps.stopped() {
		return // the power is off: nothing was tried
	}
	for b := range n.dirty {
		n.lost[b] = true
	}
	clear(n.dirty)
}

func (f *memFile) DropCache(from int64) error {
	return f.do(Op{Kind: OpDropCache}, func() error {
		n := f.node
		for b := range n.lost {
			if (b+1)*BlockSize <= from {
				continue
			}
			shown := block(n.data, b)
			clear(shown)
			copy(shown, block(n.disk, b))
			delete(n.lost, b)
		}
		return nil
	})
}

func (f *memFile) Size() (size int64, err error) {
	err = f.do(Op{Kind: OpSize}, func() error {
		size = int64(len(f.node.data))
		return nil
	})
	return size, err
}

// Close gives the handle back, also when the world has stopped.
func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	f.closed = true
	f.fs.handles--
	return nil
}

// block returns the part of b that lies in block i; past the end it is empty.
func block(b []byte, i int64) []byte {
	from, to := min(i*BlockSize, int64(len(b))), min((i+1)*BlockSize, int64(len(b)))
	return b[from:to]
}

// fit cuts b or fills it up with zeros.
func fit(b []byte, size int) []byte {
	if size <= len(b) {
		return b[:size]
	}
	return append(b, make([]byte, size-len(b))...)
}
