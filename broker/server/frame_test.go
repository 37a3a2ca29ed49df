package server_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/server"
)

// fileRange is a part of a file, as a log's slice is.
type fileRange struct {
	f              *os.File
	offset, length int64
	released       chan struct{}
}

func (r fileRange) Len() int { return int(r.length) }
func (r fileRange) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, io.NewSectionReader(r.f, r.offset, r.length))
}
func (r fileRange) Release() { close(r.released) }
func (r fileRange) File() (f *os.File, offset, length int64, ok bool) {
	return r.f, r.offset, r.length, true
}

func openRange(t *testing.T, content []byte, offset, length int64) fileRange {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return fileRange{f, offset, length, make(chan struct{})}
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}

func TestRangesOfFilesAreSentWhole(t *testing.T) {
	content := random(5 << 20)
	first, second := openRange(t, content, 3, 4<<20), openRange(t, content, 5<<20-7, 7)
	handler := handlerFunc(func(r *server.Request) {
		r.Reply(server.Response{Parts: []server.Part{server.Bytes("one"), first, server.Bytes("two"), second, server.Bytes("three")}})
	})
	want := bytes.Join([][]byte{[]byte("one"), content[3 : 3+4<<20], []byte("two"), content[5<<20-7:], []byte("three")}, nil)
	for name, start := range map[string]func(*testing.T, server.Config) *started{"socket": start, "no socket": startPipe} {
		first.released, second.released = make(chan struct{}), make(chan struct{})
		t.Run(name, func(t *testing.T) {
			c := start(t, server.Config{Handler: handler}).dial()
			send(t, c, heartbeat(7))
			if id, body := receive(t, c); id != 7 || !bytes.Equal(body, want) {
				t.Errorf("reply to %d, %d bytes, equal %t", id, len(body), bytes.Equal(body, want))
			}
			<-first.released
			<-second.released
		})
	}
}

func TestAFileThatIsShorterThanItsRangeClosesTheConnection(t *testing.T) {
	part := openRange(t, random(1000), 0, 2000)
	s := start(t, server.Config{Handler: handlerFunc(func(r *server.Request) {
		r.Reply(server.Response{Parts: []server.Part{part}})
	})})
	c := s.dial()
	send(t, c, heartbeat(1))
	if _, _, err := tryReceive(c); err == nil {
		t.Error("the reply was whole")
	}
	<-part.released
}

func TestARangeOfAFileThatNoOneTakesEndsTheConnection(t *testing.T) {
	part := openRange(t, random(32<<20), 0, 32<<20)
	s := start(t, server.Config{
		IdleTimeout: 50 * time.Millisecond, FrameTimeout: 20 * time.Millisecond,
		Handler: handlerFunc(func(r *server.Request) { r.Reply(server.Response{Parts: []server.Part{part}}) }),
	})
	send(t, s.dial(), heartbeat(1)) // and never read
	<-part.released
	eventually(t, "the connection closed", func() bool { return s.Stats().Connections == 0 })
}

// Frames that were given up are used for the next requests: each must see its
// own bytes only, and the memory budget must come out even.
func TestFramesGivenUpEarlyAreUsedAgain(t *testing.T) {
	const size = 300 << 10
	var held []*server.Request
	s := start(t, server.Config{
		ConnMemory: 2 * size, // two frames would stop the reading were they not given up
		Handler: handlerFunc(func(r *server.Request) {
			want := byte(r.Header.CorrelationID)
			if n := bytes.Count(r.Body, []byte{want}); n < size {
				t.Errorf("request %d has %d of its %d bytes", want, n, size)
			}
			switch want % 3 {
			case 0: // replied before it is given up
				r.Reply(answer(r))
				r.Free()
				return
			case 1:
				r.Free()
				r.Reply(answer(r))
				return
			}
			r.Free()
			if held = append(held, r); len(held) == 4 {
				for _, r := range held {
					r.Reply(answer(r))
				}
				held = nil
			}
		}),
	})
	c := s.dial()
	go func() {
		for id := range int32(24) {
			f := produce(id, -1, size)
			batch := bytes.Index(f, make([]byte, size))
			copy(f[batch:], bytes.Repeat([]byte{byte(id)}, size))
			if _, err := c.Write(f); err != nil {
				t.Error(err)
			}
		}
	}()
	for want := range int32(24) {
		if id, _ := receive(t, c); id != want {
			t.Fatalf("reply to %d, want %d", id, want)
		}
	}
}

// A socket whose buffer was set by hand holds less than the kernel counts.
func TestLargeFramesComeThroughSmallSocketBuffers(t *testing.T) {
	for _, size := range []int{2 << 10, 16 << 10, 100 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			l, err := server.Listen(t.Context(), "PLAINTEXT", "127.0.0.1:0", server.Buffers{Send: size, Receive: size})
			if err != nil {
				t.Fatal(err)
			}
			s := startOn(t, server.Config{Handler: handlerFunc(echo)}, l, func() net.Conn {
				c, err := net.Dial("tcp", l.Net.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				return c
			})
			var clients sync.WaitGroup
			for range 4 {
				c := s.dial()
				clients.Go(func() {
					for id := range int32(40) {
						if _, err := c.Write(produce(id, -1, 60<<10+int(id)<<13)); err != nil {
							t.Error(err)
						}
					}
				})
				clients.Go(func() {
					for want := range int32(40) {
						if id, _, err := tryReceive(c); err != nil || id != want {
							t.Errorf("reply to %d, want %d: %v", id, want, err)
						}
					}
				})
			}
			clients.Wait()
		})
	}
}
