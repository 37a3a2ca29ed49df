package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/server"
	"github.com/stratabroker/strata/protocol"
)

func TestRepliesAreWrittenInOrderWhateverEndsFirst(t *testing.T) {
	const total = 3000
	var handed []int32 // by the one goroutine of the connection
	var late sync.WaitGroup
	s := start(t, server.Config{Handler: handlerFunc(func(r *server.Request) {
		handed = append(handed, r.Header.CorrelationID)
		if rand.IntN(4) == 0 {
			echo(r)
			return
		}
		late.Go(func() { echo(r) })
	})})
	c := s.dial()
	go func() {
		for id := range int32(total) {
			if _, err := c.Write(heartbeat(id)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for id := range int32(total) {
		got, body := receive(t, c)
		if got != id || string(body) != fmt.Sprintf("answer %d", id) {
			t.Fatalf("answer %d is %d: %q", id, got, body)
		}
	}
	late.Wait()
	for i, id := range handed {
		if int32(i) != id {
			t.Fatalf("request %d was started as number %d", id, i)
		}
	}
	st := s.Stats()
	if requests(st, protocol.KeyHeartbeat) != total || st.Connections != 1 || st.Accepted != 1 {
		t.Errorf("stats: %+v", st)
	}
}

func TestAWaitingRequestDoesNotHoldBackTheStartOfLaterOnes(t *testing.T) {
	waiting := make(chan *server.Request, 1)
	startedLater := make(chan struct{})
	s := start(t, server.Config{Handler: handlerFunc(func(r *server.Request) {
		if r.Header.CorrelationID == 0 {
			waiting <- r
			return
		}
		echo(r)
		close(startedLater)
	})})
	c := s.dial()
	send(t, c, heartbeat(0), heartbeat(1))
	<-startedLater
	echo(<-waiting)
	for id := range int32(2) {
		if got, _ := receive(t, c); got != id {
			t.Fatalf("got %d, want %d", got, id)
		}
	}
}

func TestReadingStopsAtThirtyTwoInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := make(chan *server.Request, 100)
		s := startPipe(t, server.Config{Handler: handlerFunc(func(r *server.Request) { held <- r })})
		c := s.dial()
		go func() {
			for id := range int32(40) {
				if _, err := c.Write(heartbeat(id)); err != nil {
					t.Error(err)
				}
			}
		}()
		synctest.Wait()
		if len(held) != 32 {
			t.Fatalf("%d requests in flight", len(held))
		}
		for id := range int32(40) {
			echo(<-held)
			if got, _ := receive(t, c); got != id {
				t.Fatalf("got %d, want %d", got, id)
			}
			synctest.Wait()
			if want := min(32, 39-int(id)); len(held) != want {
				t.Fatalf("%d requests in flight after reply %d, want %d", len(held), id, want)
			}
		}
	})
}

func TestNoReplyKeepsTheOrder(t *testing.T) {
	s := start(t, server.Config{Handler: handlerFunc(func(r *server.Request) {
		if r.Header.Key == protocol.KeyProduce {
			r.Reply(server.Response{NoReply: true})
			return
		}
		echo(r)
	})})
	c := s.dial()
	send(t, c, produce(1, 0, 100), heartbeat(2), produce(3, 0, 100), produce(4, 0, 100), heartbeat(5))
	for _, want := range []int32{2, 5} {
		if got, _ := receive(t, c); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	}
}

func TestLargeFramesArriveWhole(t *testing.T) {
	sizes := []int{1, 64<<10 - 60, 64 << 10, 64<<10 + 1, 300_000, 5 << 20, 20 << 20}
	got := make(chan int, len(sizes))
	s := start(t, server.Config{Handler: handlerFunc(func(r *server.Request) {
		req, err := protocol.DecodeProduce(r.Header.Version, r.Body)
		if err != nil {
			t.Error(err)
		}
		records := req.Topics[0].Partitions[0].Records
		if r.Header.ClientID != "test" || records[0] != 'a' || records[len(records)-1] != 'z' && len(records) > 1 {
			t.Errorf("frame of %d bytes is damaged", len(records))
		}
		got <- len(records)
		echo(r)
	})})
	c := s.dial()
	for i, size := range sizes {
		f := produce(int32(i), 1, size)
		tail := 2 // the tagged fields of topic and partition
		f[len(f)-size-tail-1], f[len(f)-tail-2] = 'a', 'z'
		if size == 1 {
			f[len(f)-tail-2] = 'a'
		}
		send(t, c, f)
		receive(t, c)
		if n := <-got; n != size {
			t.Errorf("%d bytes of records, sent %d", n, size)
		}
	}
}

// filePart is a part that is no memory of the heap.
type filePart struct {
	size     int
	wrote    int
	released chan struct{}
}

func (p *filePart) Len() int { return p.size }
func (p *filePart) Release() { close(p.released) }
func (p *filePart) WriteTo(w io.Writer) (int64, error) {
	n, err := io.CopyN(w, zeros{}, int64(p.wrote))
	return n, err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestPartsAreWrittenAndReleasedOnce(t *testing.T) {
	part := &filePart{size: 3 << 20, wrote: 3 << 20, released: make(chan struct{})}
	s := start(t, server.Config{Handler: handlerFunc(func(r *server.Request) {
		r.Reply(server.Response{Parts: []server.Part{server.Bytes("head"), part, server.Bytes("tail")}})
	})})
	c := s.dial()
	send(t, c, heartbeat(1))
	_, body := receive(t, c)
	if len(body) != part.size+8 || string(body[:4]) != "head" || string(body[len(body)-4:]) != "tail" {
		t.Fatalf("%d bytes", len(body))
	}
	<-part.released
}

func TestAShortPartClosesTheConnection(t *testing.T) {
	part := &filePart{size: 100, wrote: 10, released: make(chan struct{})}
	s := start(t, server.Config{Handler: handlerFunc(func(r *server.Request) {
		r.Reply(server.Response{Parts: []server.Part{part}})
	})})
	c := s.dial()
	send(t, c, heartbeat(1))
	if _, _, err := tryReceive(c); err == nil {
		t.Fatal("the reply looked whole")
	}
	<-part.released
}

func TestRepliesToADeadConnectionAreReleased(t *testing.T) {
	held := make(chan *server.Request, 2)
	s := start(t, server.Config{Handler: handlerFunc(func(r *server.Request) { held <- r })})
	c := s.dial()
	send(t, c, heartbeat(0), heartbeat(1))
	first, second := <-held, <-held
	given := &filePart{size: 1, wrote: 1, released: make(chan struct{})}
	second.Reply(server.Response{Parts: []server.Part{given}}) // waits for the first
	_ = c.Close()
	<-first.Done
	<-given.released
	late := &filePart{size: 1, wrote: 1, released: make(chan struct{})}
	first.Reply(server.Response{Parts: []server.Part{late}})
	<-late.released
	eventually(t, "memory given back", func() bool { return s.Stats().MemoryInUse == 0 })
}

func TestCloseReasonEndsTheConnectionAfterItsReply(t *testing.T) {
	s := start(t, server.Config{Handler: handlerFunc(func(r *server.Request) {
		resp := answer(r)
		resp.Close = errors.New("a reason")
		r.Reply(resp)
	})})
	c := s.dial()
	send(t, c, heartbeat(7))
	if id, _ := receive(t, c); id != 7 {
		t.Fatal("no reply")
	}
	waitClosed(t, c)
	eventually(t, "reason logged", func() bool { return contains(s.log.all(), "a reason") })
}

func TestAnsweringTwicePanics(t *testing.T) {
	caught := make(chan any, 1)
	s := start(t, server.Config{Handler: handlerFunc(func(r *server.Request) {
		defer func() { caught <- recover() }()
		echo(r)
		echo(r)
	})})
	send(t, s.dial(), heartbeat(1))
	if <-caught == nil {
		t.Fatal("no panic")
	}
}

func TestClientSoftwareIsKnownToLaterRequests(t *testing.T) {
	seen := make(chan server.Conn, 2)
	s := start(t, server.Config{Handler: handlerFunc(func(r *server.Request) { seen <- *r.Conn; echo(r) })})
	c := s.dial()
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = 3, "a-client", "1.2"
	send(t, c, frame(req, 1), heartbeat(2))
	for range 2 {
		info := <-seen
		if info.ClientSoftware != "a-client" || info.ClientVersion != "1.2" || info.Listener != "PLAINTEXT" ||
			info.Principal != server.Anonymous() || info.Remote.String() != c.LocalAddr().String() {
			t.Errorf("%+v", info)
		}
	}
}

func TestCloseLetsRepliesInFlightGoOut(t *testing.T) {
	held := make(chan *server.Request, 1)
	s := start(t, server.Config{Handler: handlerFunc(func(r *server.Request) { held <- r })})
	c, idle := s.dial(), s.dial()
	send(t, c, heartbeat(1))
	r := <-held
	ended := make(chan error, 1)
	begin := time.Now()
	go func() { ended <- s.Close(context.Background()) }()
	waitClosed(t, idle)
	echo(r)
	if id, _ := receive(t, c); id != 1 {
		t.Fatal("the reply in flight is lost")
	}
	waitClosed(t, c)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d > 500*time.Millisecond {
		t.Errorf("took %s", d)
	}
	var d net.Dialer
	if _, err := d.DialContext(t.Context(), "tcp", c.RemoteAddr().String()); err == nil {
		t.Error("still listens")
	}
}

func TestCloseDoesNotWaitForWhoNeverAnswersOrNeverReads(t *testing.T) {
	held := make(chan *server.Request, 2)
	s := start(t, server.Config{Handler: handlerFunc(func(r *server.Request) {
		if r.Header.CorrelationID == 2 {
			r.Reply(server.Response{Parts: []server.Part{server.Bytes(make([]byte, 64<<20))}})
		}
		held <- r
	})})
	silent, slow := s.dial(), s.dial()
	send(t, silent, heartbeat(1))
	send(t, slow, heartbeat(2))
	first, second := <-held, <-held
	begin := time.Now()
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d > 500*time.Millisecond {
		t.Errorf("took %s", d)
	}
	<-first.Done
	<-second.Done
	for _, r := range []*server.Request{first, second} {
		if r.Header.CorrelationID == 1 {
			echo(r)
		}
	}
}
