package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stratabroker/strata/protocol"
)

// Listener is one named place where clients connect.
type Listener struct {
	Name string
	Net  net.Listener
	// Principal of all its connections; the zero one leaves them
	// unauthenticated, with small frames only.
	Principal Principal

	congestion string // the system's congestion control, empty where connections have it anyway
}

// Buffers are the sizes of a socket's buffers in bytes; zero or less leaves one
// to the operating system.
type Buffers struct{ Send, Receive int }

// set is the Control of a net.ListenConfig: accepted sockets inherit the sizes.
func (b Buffers) set(_, _ string, c syscall.RawConn) error {
	var err error
	ctlErr := c.Control(func(fd uintptr) {
		if b.Send > 0 {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, b.Send)
		}
		if b.Receive > 0 {
			err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, b.Receive))
		}
	})
	return errors.Join(ctlErr, err)
}

// Listen opens a TCP listener whose connections are anonymous.
func Listen(ctx context.Context, name, address string, buffers Buffers) (Listener, error) {
	lc := net.ListenConfig{Control: buffers.set}
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return Listener{}, fmt.Errorf("listener %s: %w", name, err)
	}
	return Listener{Name: name, Net: l, Principal: Anonymous(), congestion: unpace(l)}, nil
}

// Config is what a Server needs. Zero limits take the defaults named at the
// fields; New says what contradicts.
type Config struct {
	Listeners []Listener
	Handler   Handler
	Logger    *slog.Logger

	MaxConnections      int // max.connections, 0 = no limit: further ones wait to be served
	MaxConnectionsPerIP int // max.connections.per.ip, 0 = no limit: further ones are closed
	MaxInFlight         int // requests of a connection between arrival and written reply; 32

	MaxFrame                protocol.ByteSize // of every API but Produce; 1 MiB
	MaxProduceFrame         protocol.ByteSize // socket.request.max.bytes; 100 MiB
	MaxFrameUnauthenticated protocol.ByteSize // 64 KiB

	// MemoryBudget is what frames, their decoded requests and responses on the
	// heap may take together; 256 MiB. At most one large frame goes beyond it,
	// so that two half-read ones never wait for each other. MemoryReserve of it
	// is kept for group requests; a sixteenth.
	MemoryBudget, MemoryReserve protocol.ByteSize
	// ConnMemory is how much the requests of one connection may hold before it
	// is no longer read (one frame always may); 16 MiB.
	ConnMemory protocol.ByteSize
	// ConnResponses is how many bytes of given but unwritten replies stop a
	// connection from being read; 4 MiB.
	ConnResponses protocol.ByteSize

	// FrameTimeout: a frame must have arrived this long after it began, and
	// while others wait for memory a reply must move at least this often; 30 s.
	FrameTimeout time.Duration
	IdleTimeout  time.Duration // connections.max.idle.ms, also for a reply that no one takes; 10 min
	CloseGrace   time.Duration // how long Close lets replies in flight go out; 250 ms
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

func (c Config) withDefaults() Config {
	size := func(v *protocol.ByteSize, d protocol.ByteSize) {
		if *v == 0 {
			*v = d
		}
	}
	wait := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 32
	}
	size(&c.MaxFrame, mib)
	size(&c.MaxProduceFrame, 100*mib)
	size(&c.MaxFrameUnauthenticated, 64*kib)
	size(&c.MemoryBudget, 256*mib)
	size(&c.MemoryReserve, c.MemoryBudget/16)
	size(&c.ConnMemory, 16*mib)
	size(&c.ConnResponses, 4*mib)
	wait(&c.FrameTimeout, 30*time.Second)
	wait(&c.IdleTimeout, 10*time.Minute)
	wait(&c.CloseGrace, 250*time.Millisecond)
	return c
}

func (c Config) check() error {
	switch {
	case c.Handler == nil, c.Logger == nil, len(c.Listeners) == 0:
		return errors.New("server: handler, logger and a listener are needed")
	case c.MemoryBudget-c.MemoryReserve < 4*mib:
		return fmt.Errorf("server: memory budget of %d bytes less a reserve of %d leaves less than 4 MiB",
			c.MemoryBudget, c.MemoryReserve)
	case c.MaxInFlight < 1, c.MaxFrame < kib, c.MaxProduceFrame < kib, c.MaxFrameUnauthenticated < kib:
		return errors.New("server: frame and in-flight limits are too small")
	}
	return nil
}
