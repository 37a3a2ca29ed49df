package server_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/server"
)

// handlerFunc makes a Handler of a function.
type handlerFunc func(*server.Request)

func (f handlerFunc) Handle(r *server.Request) { f(r) }

// echo answers with the correlation id as body.
func echo(r *server.Request) { r.Reply(answer(r)) }

func answer(r *server.Request) server.Response {
	return server.Response{Parts: []server.Part{server.Bytes(fmt.Sprintf("answer %d", r.Header.CorrelationID))}}
}

// logBook keeps what was logged.
type logBook struct {
	mu    sync.Mutex
	lines []string
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, string(p))
	return len(p), nil
}

func (b *logBook) all() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprint(b.lines)
}

// started is a running server and how to reach it.
type started struct {
	*server.Server
	log  *logBook
	dial func() net.Conn
}

// start runs a server on loopback TCP.
func start(t *testing.T, cfg server.Config) *started {
	t.Helper()
	l, err := server.Listen(t.Context(), "PLAINTEXT", "127.0.0.1:0", server.Buffers{})
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, cfg, l, func() net.Conn {
		t.Helper()
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "tcp", l.Net.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
}

func startOn(t *testing.T, cfg server.Config, l server.Listener, dial func() net.Conn) *started {
	t.Helper()
	book := &logBook{}
	cfg.Logger = slog.New(slog.NewTextHandler(book, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.Listeners = []server.Listener{l}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Serve()
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if n := s.Stats().MemoryInUse; n != 0 {
			t.Errorf("%d bytes of the memory budget are still charged", n)
		}
	})
	return &started{Server: s, log: book, dial: func() net.Conn {
		c := dial()
		t.Cleanup(func() { _ = c.Close() })
		return c
	}}
}

// pipeListener is an in-memory listener for tests with a fake clock.
type pipeListener struct {
	conns chan net.Conn
	gone  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), gone: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.gone:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.gone) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func startPipe(t *testing.T, cfg server.Config) *started {
	t.Helper()
	l := newPipeListener()
	return startOn(t, cfg, server.Listener{Name: "PIPE", Net: l, Principal: server.Anonymous()}, func() net.Conn {
		near, far := net.Pipe()
		l.conns <- far
		return near
	})
}

// frame is a whole request with its length field.
func frame(req kmsg.Request, id int32) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, id)
}

func heartbeat(id int32) []byte {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group = "group"
	return frame(req, id)
}

// produce is a Produce request with one batch of size bytes.
func produce(id int32, acks int16, size int) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks = 9, acks
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = make([]byte, size)
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.Partitions = "topic", append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	return frame(req, id)
}

func send(t *testing.T, c net.Conn, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		if _, err := c.Write(f); err != nil {
			t.Fatal(err)
		}
	}
}

// receive reads one response: its correlation id and what follows it.
func receive(t *testing.T, c net.Conn) (int32, []byte) {
	t.Helper()
	id, body, err := tryReceive(c)
	if err != nil {
		t.Fatal(err)
	}
	return id, body
}

func tryReceive(c net.Conn) (int32, []byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return 0, nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	_, err := io.ReadFull(c, body)
	return int32(binary.BigEndian.Uint32(head[4:])), body, err
}

// waitClosed fails unless the server closes the connection.
func waitClosed(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	switch n, err := io.Copy(io.Discard, c); {
	case n > 0:
		t.Fatalf("%d bytes came before the end (%v)", n, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		t.Fatal("the connection stays open")
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
		<-tick.C
	}
}

func requests(s server.Stats, key int16) int64 {
	for _, a := range s.APIs {
		if a.Key == key {
			return a.Requests
		}
	}
	return 0
}
