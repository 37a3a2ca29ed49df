package integration_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	wireLimit    = 20 * time.Second // for one answer
	maxWireReply = 64 << 20
)

// wire is one connection that sends requests in the versions they say, as no
// client would. One goroutine at a time may use it.
type wire struct {
	t      *testing.T
	conn   net.Conn
	format *kmsg.RequestFormatter
	sent   int32
}

func dialWire(t *testing.T, addr string) *wire {
	t.Helper()
	dialer := net.Dialer{Timeout: wireLimit}
	conn, err := dialer.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the other side may have closed it
	return &wire{t: t, conn: conn, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID("wire"))}
}

// ask sends one request and returns its answer. io.EOF: the broker closed the connection.
func (w *wire) ask(req kmsg.Request) (kmsg.Response, error) {
	w.send(req)
	frame, err := w.receive()
	if err != nil {
		return nil, err
	}
	reader := kbin.Reader{Src: frame}
	if got := reader.Int32(); got != w.sent {
		return nil, fmt.Errorf("answer to request %d, want %d", got, w.sent)
	}
	if req.IsFlexible() && req.Key() != int16(kmsg.ApiVersions) {
		kmsg.SkipTags(&reader)
	}
	resp := req.ResponseKind()
	return resp, resp.ReadFrom(reader.Src)
}

func (w *wire) send(req kmsg.Request) {
	w.t.Helper()
	w.sent++
	if _, err := w.conn.Write(w.format.AppendRequest(nil, req, w.sent)); err != nil {
		w.t.Fatal(err)
	}
}

// receive reads one frame.
func (w *wire) receive() ([]byte, error) {
	if err := w.conn.SetReadDeadline(time.Now().Add(wireLimit)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(w.conn, size[:]); err != nil {
		return nil, closed(err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxWireReply {
		return nil, fmt.Errorf("an answer of %d bytes", n)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(w.conn, frame)
	return frame, closed(err)
}

// closed makes io.EOF of every way in which the other side's end is seen.
func closed(err error) error {
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	return io.EOF
}

// must sends a request whose answer's type is R; anything else fails the test.
func must[R kmsg.Response](w *wire, req kmsg.Request) R {
	w.t.Helper()
	resp, err := w.ask(req)
	if err != nil {
		w.t.Fatalf("%s version %d: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	return resp.(R)
}

// at sets the version of a request.
func at[Q kmsg.Request](version int16, req Q) Q {
	req.SetVersion(version)
	return req
}

// code is the name of an error code.
func code(c int16) string {
	if c == 0 {
		return "NONE"
	}
	var known *kerr.Error
	if errors.As(kerr.ErrorForCode(c), &known) {
		return known.Message
	}
	return fmt.Sprintf("code %d", c)
}
