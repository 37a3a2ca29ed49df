package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/stratabroker/strata/protocol"
)

// writeChunk is the most that is handed to the socket at once: the deadline is
// renewed for each, so that it measures a stall and not a slow line.
const writeChunk = 256 * kib

// reply takes the answer to x. It is what Request.Reply does.
func (c *conn) reply(x *exchange, r Response) {
	length, heap := int64(0), int64(perRequest)
	for _, p := range r.Parts {
		length += int64(p.Len())
		if h, ok := p.(interface{ HeapBytes() int }); ok {
			heap += int64(h.HeapBytes())
		}
	}
	c.mu.Lock()
	if x.replied {
		c.mu.Unlock()
		panic("server: a request was answered twice")
	}
	// Under the lock: once it is free the writer may release the charge.
	x.charge.become(heap)
	x.replied, x.resp, x.length = true, r, length
	x.forget() // the frame is no longer needed, however slowly the reply is taken
	if c.dead {
		c.mu.Unlock()
		c.discard(x)
		return
	}
	if !x.freed {
		c.frames -= x.size
	}
	c.responses += length
	write := c.mayWrite(x)
	c.mu.Unlock()
	if write {
		go c.write()
	}
	c.mayRead()
}

// mayWrite makes the caller the writer if the reply to x is due and nobody
// writes. It needs mu.
func (c *conn) mayWrite(x *exchange) bool {
	if c.dead || c.writing || x.starting || !x.replied || len(c.queue) == 0 || c.queue[0] != x {
		return false
	}
	c.writing = true
	c.s.running.Add(1)
	return true
}

// quickReply is how long a reply in memory may be to go out before the next
// request is read: the socket nearly always has room for it.
const quickReply = 4 * kib

// quick tells whether the reader may write the reply itself.
func (x *exchange) quick() bool {
	for _, p := range x.resp.Parts {
		if _, memory := p.(Bytes); !memory {
			return false
		}
	}
	return x.length <= quickReply
}

// free gives up the frame of x before its reply. It is what Request.Free does.
func (c *conn) free(x *exchange) {
	c.mu.Lock()
	if !x.replied {
		x.charge.become(perRequest)
		c.frames -= x.size
	}
	frame := x.frame
	x.freed, x.frame, x.req.Body = true, nil, nil
	c.mu.Unlock()
	c.s.frames.put(frame)
	c.mayRead()
}

// forget leaves the frame to the garbage collector, unless the handler still runs
// and may give it up. It needs mu.
func (x *exchange) forget() {
	if !x.starting {
		x.req.Body, x.frame = nil, nil
	}
}

// mayRead lets the reader look again whether there is room.
func (c *conn) mayRead() {
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// write is the writer goroutine: it writes the replies that are due, and ends
// when the next one has not been given.
func (c *conn) write() {
	defer c.s.running.Done()
	for {
		x, last := c.pop()
		if x == nil {
			if last {
				c.kill(errStopped)
			}
			return
		}
		err := c.send(x)
		if err == nil {
			err = x.resp.Close
		}
		c.finish(x)
		if err != nil {
			c.kill(err)
		}
	}
}

// pop takes the oldest exchange off the queue if it was replied to. last says
// that nothing more will come.
func (c *conn) pop() (x *exchange, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) > 0 && c.queue[0].replied {
		x = c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		return x, false
	}
	c.writing = false
	return nil, c.draining && len(c.queue) == 0
}

// finish gives back what x held and lets the reader go on.
func (c *conn) finish(x *exchange) {
	now := time.Now()
	c.mu.Lock()
	c.responses -= x.length
	c.active = now
	if len(c.queue) == 0 {
		c.queue = nil // an idle connection holds no buffer
	}
	c.mu.Unlock()
	c.discard(x)
	n := c.s.counters.apis[x.req.Header.Key]
	n.replies.Add(1)
	n.nanos.Add(int64(now.Sub(x.arrived)))
	n.throttleMs.Add(int64(x.resp.ThrottleMs))
	c.mayRead()
}

// discard releases a reply's parts and the request's memory.
func (c *conn) discard(x *exchange) {
	for _, p := range x.resp.Parts {
		p.Release()
	}
	x.charge.release()
}

// send writes one reply. Runs of Bytes go out by one system call, ranges of
// files without passing through memory of this process.
func (c *conn) send(x *exchange) error {
	if x.resp.NoReply {
		return nil
	}
	w := stallWriter{nc: c.nc, raw: c.mark.raw, by: &c.writeBy, idle: c.s.cfg.IdleTimeout, hurry: c.s.cfg.FrameTimeout, budget: c.s.budget}
	buffers := net.Buffers{protocol.AppendResponseHeader(make([]byte, 0, 16), x.req.Header, int(x.length))}
	for _, p := range x.resp.Parts {
		if b, ok := p.(Bytes); ok {
			buffers = append(buffers, b)
			continue
		}
		if _, ok := p.(interface{ HeapBytes() int }); ok {
			// It may hold memory of a budget that others wait for (DESIGN D24).
			w.idle = min(w.idle, w.hurry)
		}
		if err := w.writeAll(buffers, true); err != nil {
			return err
		}
		buffers = nil
		if err := w.writePart(p); err != nil {
			return err
		}
	}
	err := w.writeAll(buffers, false)
	c.s.counters.bytesOut.Add(w.written)
	return err
}

// stallWriter writes to a connection and fails when nothing moves for idle; when
// others wait for memory, already after hurry: a client that does not take its
// replies must not hold what they need.
type stallWriter struct {
	nc          net.Conn
	raw         syscall.RawConn // nil: not a socket
	by          *time.Time      // the connection's write deadline
	idle, hurry time.Duration
	budget      *budget
	written     int64
}

// Write writes all of p.
func (w *stallWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		chunk := p[done:min(len(p), done+writeChunk)]
		err := w.attempt(func() (int64, error) {
			n, err := w.nc.Write(chunk)
			chunk = chunk[n:]
			done += n
			return int64(n), err
		})
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// writeAll writes buffers; more says that other bytes follow at once.
func (w *stallWriter) writeAll(buffers net.Buffers, more bool) error {
	total := 0
	for _, b := range buffers {
		total += len(b)
	}
	switch {
	case total == 0:
		return nil
	case more && w.raw != nil && total <= quickReply:
		return w.writeMore(bytes.Join(buffers, nil))
	case total <= writeChunk:
		return w.attempt(func() (int64, error) { return buffers.WriteTo(w.nc) })
	}
	for _, b := range buffers {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// writePart writes a part that is not in memory.
func (w *stallWriter) writePart(p Part) error {
	if r, ok := p.(FileRange); ok && w.raw != nil {
		if f, offset, length, ok := r.File(); ok {
			return w.sendFile(f, offset, length)
		}
	}
	n, err := p.WriteTo(w)
	if err == nil && n != int64(p.Len()) {
		err = errShort
	}
	return err
}

// attempt calls write, which goes on where it left off, until it is done or has
// moved nothing for too long.
func (w *stallWriter) attempt(write func() (int64, error)) error {
	moved := time.Now()
	for now := moved; ; now = time.Now() {
		if err := w.arm(moved, now); err != nil {
			return err
		}
		n, err := write()
		w.written += n
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		switch stalled := time.Since(moved); {
		case n > 0:
			moved = time.Now()
		case stalled >= w.idle:
			return fmt.Errorf("a reply was not taken for %s", stalled)
		case stalled >= w.patience() && w.budget.wanted():
			return fmt.Errorf("a reply was not taken for %s while memory is short", stalled)
		}
	}
}

// patience is after how long a stall is looked at.
func (w *stallWriter) patience() time.Duration { return min(w.idle, w.hurry) }

// arm sets the write deadline patience after something moved, unless one is in force that is earlier by
// half of that at most: it is not set for each reply.
func (w *stallWriter) arm(moved, now time.Time) error {
	due := moved.Add(w.patience())
	if !due.After(now) {
		due = now.Add(w.patience())
	}
	if early := due.Sub(*w.by); early >= 0 && early <= w.patience()/2 && w.by.After(now) {
		return nil
	}
	*w.by = due
	return w.nc.SetWriteDeadline(due)
}

// kill closes the connection, once, and gives up all that waits on it.
func (c *conn) kill(reason error) {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return
	}
	c.dead = true
	queue := c.queue
	c.queue = nil // what the writer has popped it finishes itself
	var given []*exchange
	for _, x := range queue {
		if x.replied {
			given = append(given, x)
		}
	}
	c.mu.Unlock()
	close(c.done)
	_ = c.nc.Close() // what could not be written is lost with the connection
	for _, x := range given {
		c.discard(x) // the others are discarded when their reply is given
	}
	c.logEnd(reason)
	c.s.forget(c)
}

// logEnd tells why a connection ended. That a client went away is no event.
func (c *conn) logEnd(reason error) {
	args := []any{"listener", c.listener, "remote", c.remote.String(), "reason", reason}
	switch {
	case errors.Is(reason, io.EOF), errors.Is(reason, net.ErrClosed), errors.Is(reason, errStopped):
		c.s.cfg.Logger.Debug("connection closed", args...)
		return
	case errors.Is(reason, protocol.ErrMalformed), errors.Is(reason, protocol.ErrNotServed):
		c.s.counters.malformed.Add(1)
	}
	c.s.logLimited("connection closed", args...)
}
