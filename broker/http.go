package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// httpServer serves /metrics, /healthz and /readyz. A nil one is off.
type httpServer struct {
	listener net.Listener
	server   *http.Server
}

var errNotReady = errors.New("not serving yet, or stopping")

func listenHTTP(ctx context.Context, address string) (*httpServer, error) {
	if address == "" {
		return nil, nil //nolint:nilnil // off: every method takes a nil receiver
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("strata.http.listen=%s: %w", address, err)
	}
	return &httpServer{listener: l}, nil
}

func (h *httpServer) addr() string {
	if h == nil {
		return ""
	}
	return h.listener.Addr().String()
}

func (h *httpServer) serve(b *Broker) {
	if h == nil {
		return
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newCollector(b))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, b.node.Err()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !b.Ready() {
			answer(w, errNotReady)
			return
		}
		answer(w, b.node.Err())
	})
	h.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	b.background.Go(func() { _ = h.server.Serve(h.listener) }) // ends when closed
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok") // a client that is gone is no error of ours
}

func (h *httpServer) close() {
	if h == nil {
		return
	}
	if h.server != nil {
		_ = h.server.Close()
	}
	_ = h.listener.Close() // closed with the server, if it ran
}
