package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// client decides what is sent and judges what comes back. Its methods are
// called by the loop only, on one goroutine.
type client interface {
	// next is the next request of a connection, as a whole frame that stays
	// untouched until it is sent; nil where there is none now.
	next(c *conn) []byte
	// answer takes one answer, without its length; it does not keep it.
	answer(c *conn, body []byte) error
	// finished tells that nothing more will be sent or is waited for.
	finished() bool
}

// receiver is a client that takes bytes from a connection by itself.
type receiver interface {
	receive(c *conn) error
}

// conn is one connection to the broker.
type conn struct {
	fd       int
	number   int    // 0, 1, ... in the order of opening
	out      []byte // what is left of the frame being sent
	inflight int    // requests sent, in part or whole, and not answered
	in       []byte // what was received; in[:have] is filled
	have     int
}

// loop drives connections with epoll from one thread: a Go program with a
// goroutine a connection would take twice the CPU time for small requests.
type loop struct {
	epoll  int
	timer  int // timerfd that wakes the loop, or -1
	conns  []*conn
	window int
	client client
}

const (
	socketBuffer = 4 << 20
	firstRead    = 64 << 10 // grows to the largest answer
	maxAnswer    = 256 << 20
)

// open connects n times.
func open(addr string, n, window int, c client) (_ *loop, err error) {
	l := &loop{timer: -1, window: window, client: c}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	for i := range n {
		fd, err := dial(to)
		if err == nil {
			l.conns = append(l.conns, &conn{fd: fd, number: i, in: make([]byte, firstRead)})
			err = l.watch(fd, i)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("connection %d to %s: %w", i, addr, err), l.close())
		}
	}
	return l, nil
}

func dial(to netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer),
	)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd) // the first error tells more
		return -1, err
	}
	return fd, nil
}

// watch adds a descriptor whose events name number.
func (l *loop) watch(fd, number int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET, Fd: int32(number)}
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &event)
}

// wakeEvery makes the loop turn at least so often.
func (l *loop) wakeEvery(interval time.Duration) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return err
	}
	l.timer = fd
	every := unix.NsecToTimespec(interval.Nanoseconds())
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		return err
	}
	return l.watch(fd, -1)
}

func (l *loop) close() error {
	var errs []error
	for _, c := range l.conns {
		errs = append(errs, unix.Close(c.fd))
	}
	if l.timer >= 0 {
		errs = append(errs, unix.Close(l.timer))
	}
	return errors.Join(append(errs, unix.Close(l.epoll))...)
}

// answerLimit is how long nothing at all may come back.
const answerLimit = 60 * time.Second

// run sends and receives until the client has finished.
func (l *loop) run() error {
	events := make([]unix.EpollEvent, 256)
	if err := l.sendAll(); err != nil {
		return err
	}
	heard := time.Now()
	for !l.client.finished() {
		n, err := unix.EpollWait(l.epoll, events, int(answerLimit.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		ticked := false
		for _, event := range events[:max(n, 0)] {
			if event.Fd < 0 {
				ticked = true
				continue
			}
			if event.Events&^unix.EPOLLOUT != 0 {
				heard = time.Now()
			}
			if err := l.serve(l.conns[event.Fd], event.Events); err != nil {
				return err
			}
		}
		if ticked {
			if err := l.tick(); err != nil {
				return err
			}
		}
		if time.Since(heard) > answerLimit {
			return fmt.Errorf("the broker sent nothing for %s", answerLimit)
		}
	}
	return nil
}

func (l *loop) tick() error {
	var expirations [8]byte
	if _, err := unix.Read(l.timer, expirations[:]); err != nil && !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("timer: %w", err)
	}
	return l.sendAll()
}

func (l *loop) sendAll() error {
	for _, c := range l.conns {
		if err := l.send(c); err != nil {
			return err
		}
	}
	return nil
}

func (l *loop) serve(c *conn, events uint32) error {
	if events&^unix.EPOLLOUT != 0 {
		receive := l.receive
		if own, ok := l.client.(receiver); ok {
			receive = own.receive
		}
		if err := receive(c); err != nil {
			return err
		}
	}
	return l.send(c)
}

// send writes what the window and the socket take.
func (l *loop) send(c *conn) error {
	for {
		if len(c.out) == 0 {
			if c.inflight == l.window {
				return nil
			}
			if c.out = l.client.next(c); c.out == nil {
				return nil
			}
			c.inflight++
		}
		n, err := unix.Write(c.fd, c.out)
		if errors.Is(err, unix.EAGAIN) {
			return nil // EPOLLOUT comes
		}
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		c.out = c.out[n:]
	}
}

// receive reads all there is and hands on the whole answers.
func (l *loop) receive(c *conn) error {
	for {
		want := len(c.in) - c.have
		n, err := unix.Read(c.fd, c.in[c.have:])
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if n == 0 {
			return errors.New("the broker closed a connection")
		}
		c.have += n
		if err := l.answers(c); err != nil {
			return err
		}
		if n < want {
			return nil // nothing is left, and an edge comes with more
		}
	}
}

// answers takes the whole answers out of what was received.
func (l *loop) answers(c *conn) error {
	rest := c.in[:c.have]
	for len(rest) >= 4 {
		size := int(binary.BigEndian.Uint32(rest))
		if size < 4 || size > maxAnswer {
			return fmt.Errorf("an answer of %d bytes", size)
		}
		if len(rest) < 4+size {
			if 4+size > len(c.in) {
				c.in = append(make([]byte, 0, 4+size), rest...)[:4+size]
				c.have = len(rest)
				return nil
			}
			break
		}
		c.inflight--
		if err := l.client.answer(c, rest[4:4+size]); err != nil {
			return err
		}
		rest = rest[4+size:]
	}
	c.have = copy(c.in, rest)
	return nil
}
