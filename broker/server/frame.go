package server

import (
	"math/bits"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	minPooled = firstRead // what is not larger is cheap to make anew
	maxPooled = 4 * mib   // what is larger is rare, and not worth keeping
)

// framePools keep the memory of large frames that were given up early, a pool for
// each power of two. A frame that is used again at once is still in the CPU's
// cache: received, checked and written to the log without going to memory.
type framePools [8]sync.Pool

// classOf is the pool of frames that hold size bytes, -1 for none.
func classOf(size int64) int {
	if size <= minPooled || size > maxPooled {
		return -1
	}
	return bits.Len64(uint64(size-1)) - bits.Len64(minPooled)
}

// get returns memory of size bytes whose content is not known.
func (p *framePools) get(size int64) *[]byte {
	class := classOf(size)
	if class < 0 {
		b := make([]byte, size)
		return &b
	}
	b, ok := p[class].Get().(*[]byte)
	if !ok {
		fresh := make([]byte, minPooled<<(class+1))
		b = &fresh
	}
	*b = (*b)[:size]
	return b
}

// put takes back what get gave and nobody looks at any more.
func (p *framePools) put(b *[]byte) {
	if class := classOf(int64(cap(*b))); class >= 0 && cap(*b) == minPooled<<(class+1) {
		p[class].Put(b)
	}
}

// lowWater makes the kernel wake the reader of a socket only when a good part of a
// large frame is there: waking up costs more than what a small piece brings.
// The kernel wakes it earlier where its buffers cannot hold that much.
type lowWater struct {
	raw syscall.RawConn // nil: not a socket
	set int             // SO_RCVLOWAT in force, 0 as 1
}

// maxLowWater is the most that is waited for at once.
const maxLowWater = 128 * kib

// want sets the mark for n more bytes.
func (w *lowWater) want(n int64) {
	mark := int(max(1, min(n, maxLowWater)))
	if w.raw == nil || mark == max(1, w.set) {
		return
	}
	_ = w.raw.Control(func(fd uintptr) {
		// Where it fails the reader is woken more often, that is all.
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, mark) == nil {
			w.set = mark
		}
	})
}

// wait returns when the mark for n bytes was reached, or nothing more will
// come, or the read deadline has passed. It takes nothing off the socket.
func (w *lowWater) wait(n int64) error {
	if w.raw == nil {
		return nil
	}
	w.want(n)
	woken := false
	return w.raw.Read(func(fd uintptr) bool {
		if woken {
			return true
		}
		woken = true
		have, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		return err != nil || have >= w.set
	})
}
