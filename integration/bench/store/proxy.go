// Package store is the object store of the benchmark: a MinIO process behind a
// proxy that holds it to a rate and counts requests, and a reader that tells
// how fast that store can be read at all.
package store

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Counts are requests by method and kind of object, such as "PUT segment".
type Counts map[string]int64

// Since is what came after earlier.
func (c Counts) Since(earlier Counts) Counts {
	out := Counts{}
	for name, n := range c {
		if n != earlier[name] {
			out[name] = n - earlier[name]
		}
	}
	return out
}

// Sum adds up the names that begin with prefix.
func (c Counts) Sum(prefix string) (n int64) {
	for name, count := range c {
		if strings.HasPrefix(name, prefix) {
			n += count
		}
	}
	return n
}

// Proxy stands before an S3 server. Signed requests pass unchanged, since host
// and headers stay as the client sent them.
type Proxy struct {
	Endpoint string // http://host:port, in the place of the server's

	target *url.URL
	client *http.Transport
	server *http.Server
	served chan error
	bucket *tokenBucket // of the bytes of answers

	mu     sync.Mutex
	counts Counts // guarded by mu
	bytes  int64  // of answers; guarded by mu
}

// NewProxy starts a proxy before the server at endpoint, which lets all pass.
func NewProxy(ctx context.Context, endpoint string) (*Proxy, error) {
	target, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		Endpoint: "http://" + listener.Addr().String(), target: target, counts: Counts{}, bucket: newTokenBucket(), served: make(chan error, 1),
		client: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, ReadBufferSize: pieceBytes, WriteBufferSize: pieceBytes},
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	go func() { p.served <- p.server.Serve(listener) }()
	return p, nil
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	_ = p.server.Close() // the listener's error comes from Serve
	<-p.served
	p.client.CloseIdleConnections()
}

// Throttle holds the bytes of answers, of all connections together, to so many a second; 0 is no limit.
func (p *Proxy) Throttle(bytesPerSecond float64) { p.bucket.setRate(bytesPerSecond, time.Now()) }

// Counts are the requests so far, and the bytes of their answers.
func (p *Proxy) Counts() (Counts, int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts), p.bytes
}

// kindOf names what a request is about by the layout of the bucket.
func kindOf(r *http.Request) string {
	path := r.URL.Path
	switch {
	case r.Method == http.MethodGet && r.URL.Query().Has("list-type"):
		return "LIST"
	case strings.HasSuffix(path, ".seg"):
		return r.Method + " segment"
	case strings.Contains(path, "/manifest/"):
		return r.Method + " manifest"
	case strings.Contains(path, "/root/"):
		return r.Method + " root"
	default:
		return r.Method + " other"
	}
}

// ServeHTTP sends one request on and its answer back.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := kindOf(r)
	p.mu.Lock()
	p.counts[kind]++
	p.mu.Unlock()
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = p.target.Scheme, p.target.Host // out.Host stays: it is signed
	if out.ContentLength == 0 {
		out.Body = http.NoBody
	}
	resp, err := p.client.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler) // the client sees a broken connection, as it would without a proxy
	}
	defer func() { _ = resp.Body.Close() }() // only read
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	p.copyBody(r.Context(), w, resp.Body)
}

// pieceBytes is what a connection takes from the bucket at once.
const pieceBytes = 128 << 10

// copyBody sends the answer in pieces, as fast as the bucket lets it.
func (p *Proxy) copyBody(ctx context.Context, w io.Writer, body io.Reader) {
	piece := make([]byte, pieceBytes)
	for {
		n, err := io.ReadFull(body, piece)
		if n > 0 {
			if !p.bucket.wait(ctx, n) {
				return // the client has gone
			}
			p.mu.Lock()
			p.bytes += int64(n)
			p.mu.Unlock()
			if _, err := w.Write(piece[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return // io.EOF, or a short answer, which the client notices by its length
		}
	}
}
