package cache

import (
	"container/list"
	"context"
	"sync"
)

// BlockKey names a block: a part of an object, by its number.
type BlockKey struct {
	Object string
	Index  int
}

// Block is one part of an object in memory. Who has it pinned may read Bytes; nobody changes them.
type Block struct {
	Bytes []byte

	key        BlockKey
	refs       int    // pins; guarded by Blocks.mu, as are the next two
	used       bool   // somebody has read it
	prev, next *Block // in the ring of what may go; nil while pinned
}

// Blocks holds blocks in at most so many bytes, room for those on their way in
// included. Its buffers are used again, so that a stream of blocks makes no garbage; whoever reads a block pins it meanwhile.
//
// What was read goes first, the one least recently read before others; what was
// loaded ahead and not read yet goes only when nothing else is left, the oldest
// first: its reader is most likely gone. An admission by frequency would do the
// opposite: nothing that is loaded ahead has been asked for before. All methods may run concurrently.
type Blocks struct {
	most int64

	mu     sync.Mutex
	taken  int64 // bytes of blocks held and of room given out; guarded by mu
	held   map[BlockKey]*Block
	read   Block      // ring of blocks that were read, the last to go next to the front; guarded by mu
	unread Block      // ring of the others; guarded by mu
	queue  *list.List // of *claim, those that wait for room; guarded by mu
	spare  [][]byte   // few buffers of blocks that went; guarded by mu
	closed bool       // guarded by mu

	evicted, wasted int64 // guarded by mu
}

// claim is one that waits for room.
type claim struct {
	n   int
	got chan []byte // of capacity 1; nil means closed
}

// spares bounds the buffers kept for the next comers: in a full cache each that comes follows one that went.
const spares = 8

// NewBlocks makes an empty holder of at most so many bytes; a single block may exceed them.
func NewBlocks(most int64) *Blocks {
	c := &Blocks{most: most, held: map[BlockKey]*Block{}, queue: list.New()}
	c.read.prev, c.read.next = &c.read, &c.read
	c.unread.prev, c.unread.next = &c.unread, &c.unread
	return c
}

// Room gives a buffer of n bytes for a block on its way in. Blocks that nobody has pinned go for it; where all are,
// it waits, first come first served. Put or Return ends its use. Errors: ErrClosed, ctx's.
func (c *Blocks) Room(ctx context.Context, n int) ([]byte, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	if c.queue.Len() == 0 {
		if buf := c.grant(n); buf != nil {
			c.mu.Unlock()
			return buf, nil
		}
	}
	w := &claim{n: n, got: make(chan []byte, 1)}
	element := c.queue.PushBack(w)
	c.mu.Unlock()
	select {
	case buf := <-w.got:
		if buf == nil {
			return nil, ErrClosed
		}
		return buf, nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case buf := <-w.got: // it came at the last moment
		c.drop(buf)
	default:
		c.queue.Remove(element)
	}
	c.serve() // it may have stood in the way of smaller ones
	return nil, ctx.Err()
}

// grant makes room and gives a buffer; nil where too much is in use. The caller holds mu.
func (c *Blocks) grant(n int) []byte {
	for c.taken+int64(n) > c.most && c.evict() {
	}
	if c.taken > 0 && c.taken+int64(n) > c.most {
		return nil
	}
	c.taken += int64(n)
	for i, buf := range c.spare {
		if cap(buf) == n {
			last := len(c.spare) - 1
			c.spare[i] = c.spare[last]
			c.spare[last] = nil
			c.spare = c.spare[:last]
			return buf[:n]
		}
	}
	return make([]byte, n)
}

// evict lets one block go. The caller holds mu.
func (c *Blocks) evict() bool {
	b := c.read.prev
	if b == &c.read {
		if b = c.unread.prev; b == &c.unread {
			return false
		}
		c.wasted++
	}
	b.unlink()
	delete(c.held, b.key)
	c.drop(b.Bytes)
	b.Bytes = nil
	c.evicted++
	return true
}

// drop takes back a buffer. The caller holds mu.
func (c *Blocks) drop(buf []byte) {
	c.taken -= int64(cap(buf))
	if len(c.spare) == spares {
		c.spare[0] = c.spare[spares-1]
		c.spare = c.spare[:spares-1]
	}
	c.spare = append(c.spare, buf)
}

// serve gives room to those that waited longest. The caller holds mu.
func (c *Blocks) serve() {
	for front := c.queue.Front(); front != nil; front = c.queue.Front() {
		w := front.Value.(*claim)
		buf := c.grant(w.n)
		if buf == nil {
			return
		}
		c.queue.Remove(front)
		w.got <- buf
	}
}

// Put keeps the first n bytes of buf, which came from Room, and gives the block pinned. Where
// the key is held already it gives that block.
func (c *Blocks) Put(key BlockKey, buf []byte, n int) *Block {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.held[key]; ok {
		c.drop(buf)
		c.serve()
		b.pin()
		return b
	}
	b := &Block{Bytes: buf[:n], key: key, refs: 1}
	c.held[key] = b
	return b
}

// Return gives back room that was not needed.
func (c *Blocks) Return(buf []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(buf)
	c.serve()
}

// Find pins a block that is held.
func (c *Blocks) Find(key BlockKey) (*Block, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.held[key]
	if ok {
		b.pin()
	}
	return b, ok
}

// Has tells whether a block is held, which may change at any moment.
func (c *Blocks) Has(key BlockKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.held[key]
	return ok
}

// Pin pins a pinned block once more.
func (c *Blocks) Pin(b *Block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.pin()
}

// Unpin ends one pin; used says that its bytes were read.
func (c *Blocks) Unpin(b *Block, used bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.used = b.used || used
	if b.refs--; b.refs > 0 {
		return
	}
	if b.refs < 0 {
		panic("cache: block unpinned more often than pinned")
	}
	ring := &c.unread
	if b.used {
		ring = &c.read
	}
	b.prev, b.next = ring, ring.next
	b.prev.next, b.next.prev = b, b
	c.serve()
}

// pin takes a block out of what may go. The caller holds Blocks.mu.
func (b *Block) pin() {
	if b.refs++; b.refs == 1 {
		b.unlink()
	}
}

func (b *Block) unlink() {
	b.prev.next, b.next.prev = b.next, b.prev
	b.prev, b.next = nil, nil
}

// BlockStats is a reading of Blocks' counters.
type BlockStats struct {
	Bytes   int64 // taken now
	Blocks  int64 // held now
	Evicted int64 // so far
	Wasted  int64 // of these, nobody had read them
}

// Stats reads the counters.
func (c *Blocks) Stats() BlockStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return BlockStats{Bytes: c.taken, Blocks: int64(len(c.held)), Evicted: c.evicted, Wasted: c.wasted}
}

// Close ends all waiting for room. What is pinned stays readable.
func (c *Blocks) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for front := c.queue.Front(); front != nil; front = c.queue.Front() {
		c.queue.Remove(front).(*claim).got <- nil
	}
	c.spare = nil
}
