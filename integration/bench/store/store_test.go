package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stratabroker/strata/integration/bench/store"
)

// TestMain is also the program whose process the proxy is.
func TestMain(m *testing.M) {
	if len(os.Args) != 3 || os.Args[1] != "proxy" {
		os.Exit(m.Run())
	}
	if err := store.ServeProxy(context.Background(), os.Args[2], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestTheProxyIsAProcessThatRunsWhenTheCPUIsIdle(t *testing.T) {
	const size = 1 << 20
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, size))
	}))
	defer server.Close()
	others, err := store.NewBackground()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = others.Close() }() // never fails
	m, endpoint, err := store.BehindProxy(others, os.Args[0], server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := unix.SchedGetAttr(m.ProxyPID(), 0); err != nil || got.Policy != unix.SCHED_IDLE {
		t.Errorf("the proxy's scheduling is %+v, %v, want policy %d", got, err, unix.SCHED_IDLE)
	}
	if err := m.Throttle(10 * size); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, endpoint+"/b/data/00/t/0/1-2.seg", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
			t.Errorf("%d bytes, %v", n, err)
		}
		_ = resp.Body.Close() // read
	}
	if took := time.Since(begun); took < 150*time.Millisecond {
		t.Errorf("two tenths of a second's worth took %s", took)
	}
	counts, read, err := m.Counts()
	if err != nil || counts["GET segment"] != 2 || read != 2*size {
		t.Errorf("counts %v, %d bytes, %v", counts, read, err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := m.Counts(); err == nil {
		t.Error("a proxy that has ended answers")
	}
}

func TestTheBucketHoldsTheRateOverAllThatAsk(t *testing.T) {
	var b store.Bucket
	now := time.Unix(1000, 0)
	b.SetRate(1e6, now)
	var wait time.Duration
	for range 10 {
		wait = b.Reserve(100_000, now) // all at once
	}
	if wait != time.Second {
		t.Errorf("the tenth waits %s for the last of 1 MB at 1 MB/s, want 1s", wait)
	}
}

func TestTheBucketSavesUpLittle(t *testing.T) {
	var b store.Bucket
	now := time.Unix(1000, 0)
	b.SetRate(1e6, now)
	now = now.Add(time.Hour)
	if wait := b.Reserve(20_000, now); wait > 0 {
		t.Errorf("20 ms worth of bytes wait %s after an hour, want nothing", wait)
	}
	if wait := b.Reserve(1_000_000, now); wait != time.Second {
		t.Errorf("a second's worth waits %s after an idle hour, want 1s", wait)
	}
}

func TestTheBucketWithoutARateLetsAllPass(t *testing.T) {
	var b store.Bucket
	if wait := b.Reserve(1<<40, time.Unix(1000, 0)); wait != 0 {
		t.Errorf("waits %s", wait)
	}
}

func TestTheProxyCountsByKindAndPassesBodies(t *testing.T) {
	var stored []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			stored, _ = io.ReadAll(r.Body) // a short one shows below
			return
		}
		_, _ = w.Write(stored)
	}))
	defer server.Close()
	p, err := store.NewProxy(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	send := func(method, path string, body []byte) []byte {
		req, err := http.NewRequestWithContext(t.Context(), method, p.Endpoint+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	object := bytes.Repeat([]byte("segment "), 100_000)
	send(http.MethodPut, "/b/data/00/t/0/1-2.seg", object)
	before, _ := p.Counts()
	if got := send(http.MethodGet, "/b/data/00/t/0/1-2.seg", nil); !bytes.Equal(got, object) {
		t.Errorf("read %d bytes back, want the %d that were written", len(got), len(object))
	}
	send(http.MethodGet, "/b/?list-type=2", nil)
	send(http.MethodGet, "/b/data/00/t/0/manifest/1.page", nil)
	counts, read := p.Counts()
	since := counts.Since(before)
	if counts["PUT segment"] != 1 || since["GET segment"] != 1 || since["LIST"] != 1 || since.Sum("GET") != 2 || since.Sum("PUT") != 0 {
		t.Errorf("counts %v, since the PUT %v", counts, since)
	}
	if read < int64(len(object)) {
		t.Errorf("%d bytes of answers, want %d at least", read, len(object))
	}
}
