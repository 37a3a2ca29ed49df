package server

import (
	"math/bits"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	minPooled = 32 * kib // what is not larger is cheap to make anew
	maxPooled = 4 * mib  // what is larger is rare, and not worth keeping
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

// lowWater makes the kernel wake the reader of a socket only when a good part of
// what is left of a large frame is there: waking up costs more than what a small
// piece brings.
type lowWater struct {
	raw syscall.RawConn // nil: not a socket
	max int             // the highest mark
	set int             // SO_RCVLOWAT in force, 0 as 1
}

// maxLowWater is the most that is waited for at once; more saves little.
const maxLowWater = 32 * kib

// lowWaterOf reads how much the socket can hold: a mark near to it might never be
// reached, since the kernel counts what its buffers take and not what is in them.
func lowWaterOf(nc net.Conn) lowWater {
	socket, ok := nc.(syscall.Conn)
	if !ok {
		return lowWater{}
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return lowWater{} // closed, as the first read will tell
	}
	w := lowWater{raw: raw}
	_ = raw.Control(func(fd uintptr) {
		if size, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
			w.max = min(maxLowWater, size/4)
		}
	})
	return w
}

// want sets the mark for n more bytes. Only a socket without unread bytes is
// waited for: those that came before the mark was set would wake nobody.
func (w *lowWater) want(n int64) {
	mark := int(max(1, min(n, int64(w.max))))
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
