package harness_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stratabroker/strata/integration/harness"
)

const limit = 10 * time.Second

// recorder is a server that remembers what reached it.
type recorder struct {
	mu   sync.Mutex
	puts map[string]string // guarded by mu
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if req.Method == http.MethodPut {
		r.puts[req.URL.Path] = string(body)
		return
	}
	_, _ = io.WriteString(w, r.puts[req.URL.Path]+" for "+req.Host)
}

func (r *recorder) put(path string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, ok := r.puts[path]
	return body, ok
}

func send(ctx context.Context, t *testing.T, method, url, body string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return string(answer), err
}

func TestAHeldPutArrivesAfterItsClientHasLeft(t *testing.T) {
	r := &recorder{puts: map[string]string{}}
	server := httptest.NewServer(r)
	defer server.Close()
	p := harness.NewProxy(t, server.URL)
	p.HoldPuts(func(path string) bool { return strings.HasSuffix(path, ".seg") })

	if _, err := send(t.Context(), t, http.MethodPut, p.Endpoint+"/b/a.page", "page"); err != nil {
		t.Fatalf("a PUT that does not match is held: %v", err)
	}
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := send(ctx, t, http.MethodPut, p.Endpoint+"/b/a.seg", "segment")
		left <- err
	}()
	p.AwaitHeld(1, limit)
	leave()
	if err := <-left; err == nil {
		t.Fatal("the client got an answer while its PUT is held")
	}
	if _, there := r.put("/b/a.seg"); there {
		t.Fatal("the PUT is not held")
	}
	p.Release()
	p.AwaitAnswered(limit)
	if body, _ := r.put("/b/a.seg"); body != "segment" {
		t.Errorf("the server has %q", body)
	}
	if held := p.Held(); len(held) != 1 || held[0].Status != http.StatusOK || held[0].Size != 7 || held[0].Path != "/b/a.seg" {
		t.Errorf("held %+v", held)
	}
	if _, err := send(t.Context(), t, http.MethodPut, p.Endpoint+"/b/b.seg", "next"); err != nil {
		t.Errorf("a PUT after the release: %v", err)
	}
	got, err := send(t.Context(), t, http.MethodGet, p.Endpoint+"/b/b.seg", "")
	if want := "next for " + strings.TrimPrefix(p.Endpoint, "http://"); err != nil || got != want {
		t.Errorf("GET: %q, %v, want %q: the host is signed and must not change", got, err, want)
	}
}

func TestAPutThatWaitsIsAnsweredWhenReleased(t *testing.T) {
	r := &recorder{puts: map[string]string{}}
	server := httptest.NewServer(r)
	defer server.Close()
	p := harness.NewProxy(t, server.URL)
	p.HoldPuts(func(string) bool { return true })
	answered := make(chan error)
	go func() {
		_, err := send(t.Context(), t, http.MethodPut, p.Endpoint+"/b/k", "x")
		answered <- err
	}()
	p.AwaitHeld(1, limit)
	p.Release()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if held := p.Held(); held[0].Gone {
		t.Error("the client did not leave")
	}
}

func TestWhatIsHeldAtTheEndNeverArrives(t *testing.T) {
	r := &recorder{puts: map[string]string{}}
	server := httptest.NewServer(r)
	defer server.Close()
	t.Run("inner", func(t *testing.T) {
		p := harness.NewProxy(t, server.URL)
		p.HoldPuts(func(string) bool { return true })
		go func() { _, _ = send(context.WithoutCancel(t.Context()), t, http.MethodPut, p.Endpoint+"/b/k", "x") }()
		p.AwaitHeld(1, limit)
	})
	if _, there := r.put("/b/k"); there {
		t.Error("it arrived")
	}
}
