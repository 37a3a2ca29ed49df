package server_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/server"
)

// requestSizes are of the batch in a request or reply.
var requestSizes = []int{1 << 10, 128 << 10, 1 << 20}

// BenchmarkProduceRequest is a Produce over loopback whose handler gives the frame up and answers.
// Client and server together; allocations do not grow with bytes.
func BenchmarkProduceRequest(b *testing.B) {
	reply := server.Response{Parts: []server.Part{server.Bytes(make([]byte, 50))}}
	c := connect(b, func(r *server.Request) {
		r.Free()
		r.Reply(reply)
	})
	for _, size := range requestSizes {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			exchangeAll(b, c, produce(1, -1, size))
		})
	}
}

// BenchmarkFetchRequest is a Fetch over loopback that is answered with a range of a file.
func BenchmarkFetchRequest(b *testing.B) {
	name := filepath.Join(b.TempDir(), "file")
	if err := os.WriteFile(name, random(requestSizes[len(requestSizes)-1]), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for _, size := range requestSizes {
		reply := server.Response{Parts: []server.Part{server.Bytes(make([]byte, 50)), keptRange{f, size}}}
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			c := connect(b, func(r *server.Request) { r.Reply(reply) })
			b.SetBytes(int64(size))
			req := kmsg.NewPtrFetchRequest()
			req.Version = 11
			exchangeAll(b, c, frame(req, 1))
		})
	}
}

// keptRange is the first bytes of a file, answered again and again.
type keptRange struct {
	f    *os.File
	size int
}

func (r keptRange) Len() int { return r.size }
func (r keptRange) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, io.NewSectionReader(r.f, 0, int64(r.size)))
}
func (r keptRange) Release() {}
func (r keptRange) File() (f *os.File, offset, length int64, ok bool) {
	return r.f, 0, int64(r.size), true
}

// connect starts a server on loopback and connects to it.
func connect(b *testing.B, handle handlerFunc) net.Conn {
	b.Helper()
	l, err := server.Listen(b.Context(), "PLAINTEXT", "127.0.0.1:0", server.Buffers{})
	if err != nil {
		b.Fatal(err)
	}
	s, err := server.New(server.Config{Handler: handle, Listeners: []server.Listener{l}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	s.Serve()
	b.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	var d net.Dialer
	c, err := d.DialContext(b.Context(), "tcp", l.Net.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return c
}

// exchangeAll sends a request again and again and reads the replies, without allocations of its own.
func exchangeAll(b *testing.B, c net.Conn, request []byte) {
	b.Helper()
	in := make([]byte, 2<<20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, in[:4]); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, in[:binary.BigEndian.Uint32(in)]); err != nil {
			b.Fatal(err)
		}
	}
}
