package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Proxy stands before an S3 server and holds chosen PUTs back. It takes a held
// PUT whole and sends it on when it is released, whether or not the client still
// waits by then: so does a network with a full buffer in it. SetFault makes it drop, delay and answer as
// a bucket in trouble does. Everything else passes at once. Signed requests pass unchanged, since host and headers stay as the client sent them.
type Proxy struct {
	Endpoint string // http://host:port, in the place of the server's

	target string // host:port of the server
	client *http.Client
	server *http.Server
	tb     testing.TB
	wg     sync.WaitGroup // held PUTs

	mu      sync.Mutex
	match   func(path string) bool    // nil: hold nothing; guarded by mu
	fault   func(*http.Request) Fault // nil: none; guarded by mu
	release chan struct{}             // closed by Release; guarded by mu
	quit    chan struct{}             // closed at the end of the test
	held    []*HeldPut                // in the order of arrival; guarded by mu
}

// HeldPut is one PUT that was held back.
type HeldPut struct {
	Path string // of the URL: /bucket/prefix/key
	Size int64
	// Status is the server's answer, 0 as long as there is none, negative when the server did not answer.
	Status int
	// Gone tells that the client had given up before the PUT was released.
	Gone bool
}

// Fault is what a proxy does to a request instead of sending it on and giving the answer.
type Fault struct {
	Drop   bool          // break the connection, the server sees nothing
	Status int           // answer so, with Code; the server sees nothing
	Code   string        // of S3
	Delay  time.Duration // before it is sent on
	Late   bool          // it is sent on and takes effect, the client never learns that
}

// SetFault asks fault about each request from now on; nil ends all faults.
func (p *Proxy) SetFault(fault func(*http.Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
}

// suffer tells whether the request was dealt with.
func (p *Proxy) suffer(w http.ResponseWriter, r *http.Request, body []byte) bool {
	p.mu.Lock()
	ask := p.fault
	p.mu.Unlock()
	if ask == nil {
		return false
	}
	f := ask(r)
	switch {
	case f.Drop:
		panic(http.ErrAbortHandler)
	case f.Status != 0:
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(f.Status)
		if r.Method != http.MethodHead {
			_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>a fault of the test</Message></Error>`, f.Code)
		}
		return true
	case f.Late:
		if resp, err := p.forward(context.WithoutCancel(r.Context()), r, body); err == nil {
			_ = resp.Body.Close() // nobody reads it
		}
		select {
		case <-r.Context().Done(): // the client has given up
		case <-p.quit:
		}
		panic(http.ErrAbortHandler)
	case f.Delay > 0:
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
		case <-p.quit:
		}
	}
	return false
}

// NewProxy starts a proxy before target, the endpoint of an S3 server
// (http://host:port). It ends with the test; what is held then never reaches the server.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{
		Endpoint: "http://" + listener.Addr().String(), target: hostOf(tb, target), tb: tb, quit: make(chan struct{}),
		client: &http.Client{
			Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- p.server.Serve(listener) }()
	tb.Cleanup(func() {
		close(p.quit)
		_ = p.server.Close() // the listener's error comes from Serve
		<-served
		p.wg.Wait()
		p.client.CloseIdleConnections()
	})
	return p
}

func hostOf(tb testing.TB, endpoint string) string {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, endpoint, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return req.URL.Host
}

// HoldPuts holds from now on each PUT to a path that matches. The path is that
// of the URL: /bucket/prefix/key. What is held already stays so until Release.
func (p *Proxy) HoldPuts(match func(path string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.match = match
	if p.release == nil {
		p.release = make(chan struct{})
	}
}

// Release sends on what is held, and holds nothing more.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.match = nil
	if p.release != nil {
		close(p.release)
		p.release = nil
	}
}

// Held lists the PUTs that were ever held, in the order of arrival.
func (p *Proxy) Held() []HeldPut {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]HeldPut, len(p.held))
	for i, h := range p.held {
		out[i] = *h
	}
	return out
}

// AwaitHeld waits until n PUTs in all have been held.
func (p *Proxy) AwaitHeld(n int, limit time.Duration) {
	p.tb.Helper()
	Eventually(p.tb, limit, "PUTs are held", func() error {
		if held := p.Held(); len(held) < n {
			return fmt.Errorf("%d of %d", len(held), n)
		}
		return nil
	})
}

// AwaitAnswered waits until the server has answered all PUTs that were ever held.
func (p *Proxy) AwaitAnswered(limit time.Duration) {
	p.tb.Helper()
	Eventually(p.tb, limit, "held PUTs are answered", func() error {
		for _, h := range p.Held() {
			if h.Status == 0 {
				return fmt.Errorf("no answer to %s", h.Path)
			}
		}
		return nil
	})
}

// gate registers a PUT that is to be held; nil means that it passes.
func (p *Proxy) gate(r *http.Request, size int64) (*HeldPut, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Method != http.MethodPut || p.match == nil || !p.match(r.URL.Path) {
		return nil, nil
	}
	h := &HeldPut{Path: r.URL.Path, Size: size}
	p.held = append(p.held, h)
	return h, p.release
}

// ServeHTTP sends one request on, at once or when it is released.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client broke off before the server would have had it whole
	}
	if p.suffer(w, r, body) {
		return
	}
	ctx := r.Context()
	h, release := p.gate(r, int64(len(body)))
	if h != nil {
		p.wg.Add(1)
		defer p.wg.Done()
		select {
		case <-release:
		case <-p.quit:
			return
		}
		p.mu.Lock()
		h.Gone = ctx.Err() != nil
		p.mu.Unlock()
		ctx = context.WithoutCancel(ctx)
	}
	resp, err := p.forward(ctx, r, body)
	if h != nil {
		p.mu.Lock()
		h.Status = -1
		if err == nil {
			h.Status = resp.StatusCode
		}
		p.mu.Unlock()
	}
	if err != nil {
		panic(http.ErrAbortHandler) // the client sees a broken connection, as it would without a proxy
	}
	defer func() { _ = resp.Body.Close() }() // only read
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // the client may be gone
}

func (p *Proxy) forward(ctx context.Context, r *http.Request, body []byte) (*http.Response, error) {
	out := r.Clone(ctx)
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = "http", p.target // out.Host stays: it is signed
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	out.Body, _ = out.GetBody() // it has no error
	out.ContentLength = int64(len(body))
	if len(body) == 0 {
		out.Body, out.GetBody = http.NoBody, nil
	}
	out.Header.Del("Expect") // the body is here
	return p.client.Do(out)
}
