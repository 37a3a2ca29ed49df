package server

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Server serves Kafka's protocol on its listeners. Each connection has one
// goroutine that reads, and one that writes while there is something to write.
//
// A panic of a handler is not caught: a broken invariant stops the process.
type Server struct {
	cfg      Config
	budget   *budget
	frames   framePools
	counters *counters
	limiter  logLimiter
	stop     chan struct{} // closed when Close begins
	running  sync.WaitGroup

	mu     sync.Mutex
	conns  map[*conn]struct{} // guarded by mu
	perIP  map[string]int     // guarded by mu
	closed bool               // guarded by mu
	served int                // guarded by mu: connections that have a place

	most, mostPerIP int           // guarded by mu: as in Config
	room            chan struct{} // guarded by mu: closed, and made anew, when there may be a place
}

// New makes a server; Serve starts it.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg:      cfg,
		budget:   &budget{limit: int64(cfg.MemoryBudget), reserve: int64(cfg.MemoryReserve)},
		counters: newCounters(),
		stop:     make(chan struct{}),
		conns:    map[*conn]struct{}{},
		perIP:    map[string]int{},
	}
	s.most, s.mostPerIP, s.room = cfg.MaxConnections, cfg.MaxConnectionsPerIP, make(chan struct{})
	return s, nil
}

// SetLimits changes max.connections and max.connections.per.ip (0 for no limit) of a server that
// may run. Connections beyond a lower limit stay; further ones wait, or are closed.
func (s *Server) SetLimits(most, perIP int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most, s.mostPerIP = most, perIP
	s.madeRoomLocked()
}

// madeRoomLocked wakes those who wait for a place.
func (s *Server) madeRoomLocked() {
	close(s.room)
	s.room = make(chan struct{})
}

// take waits for a place among max.connections; false when the server stops.
func (s *Server) take() bool {
	for {
		s.mu.Lock()
		if s.most <= 0 || s.served < s.most {
			s.served++
			s.mu.Unlock()
			return true
		}
		room := s.room
		s.mu.Unlock()
		select {
		case <-room:
		case <-s.stop:
			return false
		}
	}
}

// Serve starts to accept connections and returns at once. It is called once.
func (s *Server) Serve() {
	for _, l := range s.cfg.Listeners {
		s.running.Add(1)
		go func() {
			defer s.running.Done()
			s.accept(l)
		}()
	}
}

// Close stops accepting and reading, lets replies in flight go out for
// CloseGrace or until ctx ends, whichever is first, closes all connections, and
// returns when no goroutine of the server is left. It may be called more than once.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	open := s.openLocked()
	s.mu.Unlock()
	var errs []error
	if first {
		close(s.stop)
		for _, l := range s.cfg.Listeners {
			if err := l.Net.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	for _, c := range open {
		c.drain()
	}
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	grace := time.NewTimer(s.cfg.CloseGrace)
	defer grace.Stop()
	select {
	case <-done:
		return errors.Join(errs...)
	case <-grace.C:
	case <-ctx.Done():
	}
	s.mu.Lock()
	open = s.openLocked()
	s.mu.Unlock()
	for _, c := range open {
		c.kill(errStopped)
	}
	<-done
	return errors.Join(errs...)
}

func (s *Server) openLocked() []*conn {
	open := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		open = append(open, c)
	}
	return open
}

func (s *Server) accept(l Listener) {
	backoff := time.Duration(0)
	for {
		nc, err := l.Net.Accept()
		if err == nil {
			backoff = 0
			if !s.admit(l, nc) {
				_ = nc.Close() // never served: nothing was promised
			}
			continue
		}
		if errors.Is(err, net.ErrClosed) || s.stopping() {
			return
		}
		// Out of file descriptors, or the like: it may mend.
		backoff = min(max(2*backoff, 5*time.Millisecond), time.Second)
		s.logLimited("accept failed", "listener", l.Name, "error", err)
		select {
		case <-time.After(backoff):
		case <-s.stop:
			return
		}
	}
}

func (s *Server) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// admit starts to serve a connection, waiting for a place if there is none.
func (s *Server) admit(l Listener, nc net.Conn) bool {
	ip := hostOf(nc.RemoteAddr())
	if !s.enter(ip) {
		s.counters.refused.Add(1)
		s.logLimited("connection refused", "listener", l.Name, "remote", ip, "reason", "max.connections.per.ip")
		return false
	}
	if !s.take() {
		return false
	}
	repace(nc, l.congestion)
	// Go's accepted connections have TCP_NODELAY and keep-alive on.
	c := newConn(s, l, nc)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	s.conns[c] = struct{}{}
	s.running.Add(2) // its reader, and the connection itself until it is closed
	s.mu.Unlock()
	s.counters.accepted.Add(1)
	go c.read()
	return true
}

// enter counts one more connection of an address, if it may have one.
func (s *Server) enter(ip string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mostPerIP > 0 && s.perIP[ip] >= s.mostPerIP {
		return false
	}
	s.perIP[ip]++
	return true
}

// forget is called once for each connection, when it is closed.
func (s *Server) forget(c *conn) {
	ip := hostOf(c.remote)
	s.mu.Lock()
	delete(s.conns, c)
	if s.perIP[ip]--; s.perIP[ip] <= 0 {
		delete(s.perIP, ip)
	}
	s.served--
	s.madeRoomLocked()
	s.mu.Unlock()
	s.running.Done()
}

func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// logLimiter lets some events a second through to the log.
type logLimiter struct {
	mu     sync.Mutex
	second int64 // guarded by mu
	count  int   // guarded by mu
}

const loggedPerSecond = 10

func (l *logLimiter) allow(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Unix() != l.second {
		l.second, l.count = now.Unix(), 0
	}
	l.count++
	return l.count <= loggedPerSecond
}

func (s *Server) logLimited(msg string, args ...any) {
	if !s.limiter.allow(time.Now()) {
		s.counters.suppressed.Add(1)
		return
	}
	s.cfg.Logger.Warn(msg, args...)
}
