package server

import (
	"io"
	"net"

	"github.com/stratabroker/strata/protocol"
)

// Principal is who a connection acts for.
type Principal struct {
	Type string // "User"
	Name string // "ANONYMOUS" until authentication comes
}

// Conn is what a handler may know of the connection a request came by.
type Conn struct {
	Listener  string // name of the listener, as in listeners=
	Principal Principal
	Remote    net.Addr
	// Software that the client named in ApiVersions, for logs.
	ClientSoftware, ClientVersion string
}

// Request is one decoded frame. Body aliases the frame, which lives until the
// reply was given and written.
type Request struct {
	Conn   *Conn
	Header protocol.RequestHeader
	Body   []byte // after the request header
	// Done is closed when the connection is gone: a waiting handler may give up early.
	Done <-chan struct{}
	// contains reply state, set by the server
	reply func(Response)
}

// Reply answers the request. It is called exactly once, from any goroutine,
// with the encoded response body after the response header; replies are
// written in the order of the requests. It never blocks.
func (r *Request) Reply(resp Response) { r.reply(resp) }

// Response is an encoded response body as parts to be written one after the
// other, so that log bytes need not be copied. A nil Response (no parts, not
// NoReply) is an empty body.
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
// when the connection died.
type Part interface {
	Len() int
	io.WriterTo
	Release()
}

// Handler starts requests. Handle is called in arrival order on one goroutine
// a connection and must not wait for disk, network, bucket or other requests:
// it starts the work, and whoever finishes it calls Reply.
type Handler interface {
	Handle(r *Request)
}
