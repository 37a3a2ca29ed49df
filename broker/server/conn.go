package server

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/stratabroker/strata/protocol"
)

const (
	// firstRead is the most that is allocated for a frame before any of it was seen.
	firstRead = 64 * kib
	// secondRead is the most that is allocated once firstRead has come: nearly all
	// frames are not larger, so that little is copied.
	secondRead = 2 * mib
	// growth: beyond that, what is allocated is at most that many times what has
	// arrived (and, while it is copied, as much again, which is not charged).
	growth = 4
	// perRequest is charged for what a request takes besides its bytes.
	perRequest = 512
	// minFrame is the shortest request: key, version, correlation id, null client id.
	minFrame = 10
	headLen  = 4 + protocol.HeaderPrefixLen
	// aheadLen is what a read may bring before it is known what it is: most requests are
	// shorter and take one system call, and an idle connection holds no more.
	aheadLen = 512
)

// conn is one connection. While it is idle it is one goroutine and aheadLen bytes.
type conn struct {
	s    *Server
	nc   net.Conn
	done chan struct{} // closed when the connection is gone
	room chan struct{} // one token: the reader may look again

	// Only the reader looks here.
	in    *bufio.Reader // of nc
	info  *Conn         // replaced, not changed
	mark  lowWater
	heard time.Time // when the last request was there, or the connection
	armed bool      // the read deadline is that of an idle connection, or an earlier one

	writeBy time.Time // the write deadline; only the writer looks here

	listener string
	remote   net.Addr

	mu        sync.Mutex
	queue     []*exchange // started and not yet written, in order of arrival; guarded by mu
	frames    int64       // bytes that unanswered requests hold; guarded by mu
	responses int64       // bytes of given replies not yet written; guarded by mu
	writing   bool        // a writer goroutine runs; guarded by mu
	draining  bool        // no more is read; guarded by mu
	dead      bool        // done is closed; guarded by mu
	active    time.Time   // last reply written; guarded by mu
}

// exchange is a request and its reply.
type exchange struct {
	req     Request
	charge  charge
	size    int64 // bytes of frame and decoded request
	arrived time.Time

	frame       *[]byte // guarded by conn.mu from the start on; nil once given up
	freed       bool    // guarded by conn.mu: the frame was given up
	starting    bool    // guarded by conn.mu: its handler runs on the reader
	replied     bool    // guarded by conn.mu, as is resp until it is popped
	resp        Response
	length      int64 // bytes of resp
	unsupported bool  // an ApiVersions request of a version not served
}

func newConn(s *Server, l Listener, nc net.Conn) *conn {
	return &conn{
		s: s, nc: nc, mark: lowWaterOf(nc), done: make(chan struct{}), room: make(chan struct{}, 1),
		in: bufio.NewReaderSize(nc, aheadLen), heard: time.Now(),
		info:     &Conn{Listener: l.Name, Principal: l.Principal, Remote: nc.RemoteAddr()},
		listener: l.Name, remote: nc.RemoteAddr(),
	}
}

// read is the reader goroutine.
func (c *conn) read() {
	defer c.s.running.Done()
	for {
		err := c.waitRoom()
		var x *exchange
		if err == nil {
			x, err = c.readRequest()
		}
		if err == nil {
			err = c.start(x)
		}
		if err == nil {
			continue
		}
		if c.drainedBy(err) {
			return // the writer closes the connection after the last reply
		}
		c.kill(err)
		return
	}
}

// waitRoom waits until the connection may hold one more request.
func (c *conn) waitRoom() error {
	for {
		c.mu.Lock()
		ok := len(c.queue) < c.s.cfg.MaxInFlight && c.frames < int64(c.s.cfg.ConnMemory) &&
			c.responses < int64(c.s.cfg.ConnResponses)
		c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-c.room:
		case <-c.s.stop:
			return errStopped
		case <-c.done:
			return errStopped
		}
	}
}

// readRequest reads the next frame and checks what it holds.
func (c *conn) readRequest() (*exchange, error) {
	var head [headLen]byte
	if err := c.readHead(head[:]); err != nil {
		return nil, err
	}
	size := frameSize(head[:])
	key, _ := protocol.PeekHeader([protocol.HeaderPrefixLen]byte(head[sizeLen:]))
	api, served := protocol.LookupAPI(key)
	switch limit := c.frameLimit(key); {
	case !served:
		return nil, fmt.Errorf("%w: API key %d", protocol.ErrNotServed, key)
	case size < minFrame || size > limit:
		return nil, fmt.Errorf("%w: %s frame of %d bytes, limit %d", protocol.ErrMalformed, api.Name, size, limit)
	}
	x := &exchange{charge: charge{b: c.s.budget, priority: api.Priority && size <= firstRead}}
	if err := c.fill(x, head[sizeLen:], size); err != nil {
		x.charge.release()
		return nil, err
	}
	return x, nil
}

// fill reads the rest of a frame into x and decodes its header.
func (c *conn) fill(x *exchange, prefix []byte, size int64) error {
	frame, err := c.readFrame(&x.charge, prefix, size)
	if err != nil {
		return err
	}
	x.frame = frame
	x.arrived = time.Now()
	c.heard = x.arrived
	c.s.counters.bytesIn.Add(sizeLen + size)
	x.size = size + perRequest
	x.req = Request{Conn: c.info, Done: c.done, reply: func(r Response) { c.reply(x, r) }, free: func() { c.free(x) }}
	x.req.Header, x.req.Body, err = protocol.ParseHeader(*frame)
	if errors.Is(err, protocol.ErrNotServed) && x.req.Header.Key == protocol.KeyAPIVersions {
		x.unsupported = true
		return nil
	}
	if err != nil {
		return err
	}
	cost, err := protocol.CheckBody(x.req.Header, x.req.Body)
	if err != nil {
		return err
	}
	cost += protocol.AnswerFactor(x.req.Header.Key) * len(x.req.Body)
	x.size += int64(cost)
	return x.charge.add(int64(cost), c.s.cfg.FrameTimeout, c.done)
}

// readHead waits for a frame to begin and reads its first bytes.
func (c *conn) readHead(head []byte) error {
	n := 0
	for n == 0 {
		if err := c.armIdle(); err != nil {
			return err
		}
		var err error
		if n, err = c.in.Read(head); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) || c.s.stopping() {
				return err
			}
			c.armed = false
		}
	}
	if n == len(head) {
		return nil
	}
	if err := c.readBy(time.Now().Add(c.s.cfg.FrameTimeout)); err != nil {
		return err
	}
	if n < sizeLen {
		if _, err := io.ReadFull(c.in, head[n:sizeLen]); err != nil {
			return c.late(err)
		}
		n = sizeLen
	}
	if size := frameSize(head); size < minFrame { // nothing need follow
		return fmt.Errorf("%w: frame of %d bytes", protocol.ErrMalformed, size)
	}
	_, err := io.ReadFull(c.in, head[n:])
	return c.late(err)
}

// armIdle sets the read deadline of an idle connection, unless one is in force: it is not moved for each
// request. When it has passed, what came meanwhile says whether the connection was idle.
func (c *conn) armIdle() error {
	if c.armed {
		return nil
	}
	idle := c.s.cfg.IdleTimeout
	from := c.heard
	switch active, busy := c.lastActive(); {
	case busy:
		from = time.Now()
	case active.After(from):
		from = active
	}
	if time.Since(from) >= idle {
		return fmt.Errorf("idle for %s", idle)
	}
	if err := c.nc.SetReadDeadline(from.Add(idle)); err != nil {
		return err
	}
	c.armed = true
	if c.s.stopping() {
		return errStopped // drain may have set its deadline before ours
	}
	return nil
}

// readBy sets the time by which a part of a frame must have come.
func (c *conn) readBy(t time.Time) error {
	c.armed = false
	return c.nc.SetReadDeadline(t)
}

// sizeLen is the length of the field that begins a frame.
const sizeLen = 4

func frameSize(head []byte) int64 { return int64(int32(binary.BigEndian.Uint32(head))) }

// lastActive tells when the last reply was written, and whether one is due.
func (c *conn) lastActive() (last time.Time, busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active, len(c.queue) > 0 || c.writing
}

// readFrame reads a frame of size bytes that begins with prefix. Memory is
// charged before it is taken, and taken as bytes arrive: a length that lies costs
// its sender as much as it costs here.
func (c *conn) readFrame(ch *charge, prefix []byte, size int64) (*[]byte, error) {
	if size <= int64(len(prefix)+c.in.Buffered()) {
		return c.takeFrame(ch, prefix, size)
	}
	deadline := time.Now().Add(c.s.cfg.FrameTimeout)
	if err := c.readBy(deadline); err != nil {
		return nil, err
	}
	defer c.mark.want(1)
	next := min(size, firstRead)
	waited := time.Now()
	if err := ch.add(next+perRequest, 0, c.done); err != nil {
		return nil, err
	}
	frame := c.s.frames.get(next)
	have := copy(*frame, prefix)
	for {
		// The time we did not read is not the sender's.
		deadline = deadline.Add(time.Since(waited))
		if err := c.readBy(deadline); err != nil {
			return nil, err
		}
		if err := c.readFull((*frame)[have:]); err != nil {
			return nil, c.late(err)
		}
		have = len(*frame)
		if int64(have) == size {
			return frame, nil
		}
		next = min(size, max(secondRead, growth*int64(have)))
		waited = time.Now()
		if err := ch.add(next-int64(have), c.s.cfg.FrameTimeout, c.done); err != nil {
			return nil, err
		}
		bigger := c.s.frames.get(next)
		copy(*bigger, *frame)
		c.s.frames.put(frame)
		frame = bigger
	}
}

// takeFrame is readFrame of a frame that came with its head.
func (c *conn) takeFrame(ch *charge, prefix []byte, size int64) (*[]byte, error) {
	if err := ch.add(size+perRequest, 0, c.done); err != nil {
		return nil, err
	}
	frame := c.s.frames.get(size)
	_, err := io.ReadFull(c.in, (*frame)[copy(*frame, prefix):])
	return frame, err
}

// readFull fills p, in pieces as large as the socket holds.
func (c *conn) readFull(p []byte) error {
	for len(p) > 0 {
		if len(p) >= firstRead {
			c.mark.want(int64(len(p)))
		}
		n, err := c.in.Read(p)
		if p = p[n:]; err != nil && len(p) > 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// late names the reason when a frame did not arrive in time.
func (c *conn) late(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.s.stopping() {
		return fmt.Errorf("frame did not arrive within %s", c.s.cfg.FrameTimeout)
	}
	return err
}

func (c *conn) frameLimit(key int16) int64 {
	switch {
	case c.info.Principal == Principal{}:
		return int64(c.s.cfg.MaxFrameUnauthenticated)
	case key == protocol.KeyProduce:
		return int64(c.s.cfg.MaxProduceFrame)
	}
	return int64(c.s.cfg.MaxFrame)
}

// start queues a request and hands it to the handler.
func (c *conn) start(x *exchange) error {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		x.charge.release()
		return errStopped
	}
	c.queue = append(c.queue, x)
	c.frames += x.size
	x.starting = true
	c.mu.Unlock()
	defer c.started(x)
	c.s.counters.apis[x.req.Header.Key].requests.Add(1)
	if x.unsupported {
		c.reply(x, Response{Parts: []Part{Bytes(protocol.AppendUnsupportedVersion(nil))}})
		return nil
	}
	if x.req.Header.Key == protocol.KeyAPIVersions {
		c.nameClient(x)
	}
	c.s.cfg.Handler.Handle(&x.req)
	return nil
}

// started writes the reply that was given while the request was started, if it
// is its turn: without waking another goroutine for it.
func (c *conn) started(x *exchange) {
	c.mu.Lock()
	x.starting = false
	if x.replied {
		x.forget()
	}
	write := c.mayWrite(x)
	c.mu.Unlock()
	switch {
	case write && x.quick():
		c.write()
	case write:
		go c.write()
	}
}

// nameClient notes the client's software for this and later requests.
func (c *conn) nameClient(x *exchange) {
	name, version := protocol.ClientSoftware(x.req.Header.Version, x.req.Body)
	if name == "" || (name == c.info.ClientSoftware && version == c.info.ClientVersion) {
		return
	}
	info := *c.info
	info.ClientSoftware, info.ClientVersion = name, version
	c.info = &info
	x.req.Conn = &info
}

// drainedBy tells whether reading ended because the server stops, with replies
// still to be written.
func (c *conn) drainedBy(err error) bool {
	told := errors.Is(err, errStopped) || errors.Is(err, os.ErrDeadlineExceeded)
	if !told || !c.s.stopping() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	return (len(c.queue) > 0 || c.writing) && !c.dead
}

// drain makes the reader stop.
func (c *conn) drain() {
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed connection
}
