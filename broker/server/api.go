// Package server is the network side of a broker: listeners, framing, the
// order of requests and replies on a connection, and the memory that requests
// may hold (DESIGN D23). It knows the table of served APIs and nothing of what
// they do; the composition root gives it a Handler.
//
// Lock order: conn.mu, then budget.mu; Server.mu is held with neither.
package server

import (
	"io"
	"net"
	"os"

	"github.com/stratabroker/strata/protocol"
)

// Principal is who a connection acts for. The zero Principal is nobody: a
// connection that has yet to authenticate.
type Principal struct {
	Type string // "User"
	Name string // "ANONYMOUS" until authentication comes
}

// Anonymous is who connects to a listener without authentication.
func Anonymous() Principal { return Principal{Type: "User", Name: "ANONYMOUS"} }

// Conn is what a handler may know of the connection a request came by. It never changes.
type Conn struct {
	Listener  string // name of the listener, as in listeners=
	Principal Principal
	Remote    net.Addr
	// Software that the client named in ApiVersions, for logs.
	ClientSoftware, ClientVersion string
}

// Request is one decoded frame. Body aliases the frame; it is not touched after
// Reply, which gives up what the frame was charged. protocol.CheckBody has passed it.
type Request struct {
	Conn   *Conn
	Header protocol.RequestHeader
	Body   []byte // after the request header
	// Done is closed when the connection is gone: a waiting handler may give up early.
	Done <-chan struct{}

	reply func(Response)
	free  func()
}

// NewRequest makes a request that did not come by a connection; reply gets its answer.
func NewRequest(conn *Conn, h protocol.RequestHeader, body []byte, done <-chan struct{}, reply func(Response)) *Request {
	return &Request{Conn: conn, Header: h, Body: body, Done: done, reply: reply}
}

// Free gives up Body before the reply, and what it was charged: its memory is used
// for other requests, so that nothing may alias it any more. It is called at
// most once, before Handle returns, and may follow Reply.
func (r *Request) Free() {
	if r.free != nil {
		r.free()
	}
}

// Reply answers the request. It is called exactly once, from any goroutine,
// also after Done, with the encoded response body after the response header;
// replies are written in the order of the requests. It never blocks. A second
// call panics.
func (r *Request) Reply(resp Response) { r.reply(resp) }

// Response is an encoded response body as parts to be written one after the
// other, so that log bytes need not be copied. A response without parts (and
// not NoReply) is an empty body.
type Response struct {
	Parts []Part
	// NoReply: the client expects none (Produce with acks=0).
	NoReply bool
	// Close ends the connection after this response, with a logged reason.
	Close error
	// ThrottleMs is for metrics.
	ThrottleMs int32
}

// Part is a run of response bytes. Release is called once, after writing or
// when the connection died. WriteTo writes exactly Len bytes or fails.
//
// A part that holds memory of the heap until it is released also has a method
// HeapBytes() int; that much is charged to the broker's budget. Parts without
// it (ranges of files) are charged to their connection only.
type Part interface {
	Len() int
	io.WriterTo
	Release()
}

// FileRange is a Part that may be a range of a file of the operating system, to
// be sent without reading it. The file's own position must not be moved.
type FileRange interface {
	Part
	File() (f *os.File, offset, length int64, ok bool)
}

// Bytes is a Part in memory.
type Bytes []byte

// Len is the number of bytes.
func (b Bytes) Len() int { return len(b) }

// HeapBytes is what the part holds of the heap.
func (b Bytes) HeapBytes() int { return cap(b) }

// WriteTo writes all bytes.
func (b Bytes) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b)
	return int64(n), err
}

// Release does nothing: the garbage collector sees to it.
func (b Bytes) Release() {}

// Handler starts requests. Handle is called in arrival order on one goroutine
// a connection and must not wait for disk, network, bucket or other requests:
// it starts the work, and whoever finishes it calls Reply.
type Handler interface {
	Handle(r *Request)
}
