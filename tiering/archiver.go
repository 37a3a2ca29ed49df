package tiering

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/object"
)

// ArchiverConfig says what an Archiver works with. Zero numbers mean the defaults.
type ArchiverConfig struct {
	Store    object.Store
	Metadata Metadata
	Hot      Hot

	Parallel        int           // partitions that upload at once, at most; default 4
	Interval        time.Duration // between two looks at all led partitions; default 30 s
	Deadline        time.Duration // of one PUT, beside what its size takes; default 30 s
	MinBytesPerSec  int64         // the slowest upload that is not given up; default 1 MiB/s
	RetryBackoff    time.Duration // after the first failure, doubled with each, with jitter; default 500 ms
	RetryBackoffMax time.Duration // default 30 s
	TurnBytes       int64         // of segments that go into one manifest commit, unless the first alone is larger; default 64 MiB
	Fanout          int           // of manifest pages; 0: the format's
	Rand            func() uint64 // of object names and jitter, for many goroutines; default math/rand/v2
	Logger          *slog.Logger  // default: discards
}

// Archiver uploads what is sealed, commits manifests and applies total
// retention, for all partitions that this broker leads.
//
// It works in turns. A turn looks at one partition and does what plan says:
// segments, then the manifest, then the proposal. One partition has one turn at
// a time, which keeps its uploads in order; Parallel partitions have theirs at
// once. A partition that has nothing to do costs a map entry, no goroutine.
type Archiver struct {
	cfg     ArchiverConfig
	pages   *pages
	owner   *ownerGuard
	backoff backoff
	causes  *causes
	stats   archiverCounters
	copies  quota         // of segments' bytes
	wake    chan struct{} // one token: something changed for the dispatcher
	flushed sync.Mutex    // held while log starts are proposed: one proposal at a time

	mu       sync.Mutex
	parts    map[protocol.PartitionKey]*part    // guarded by mu
	ready    []protocol.PartitionKey            // first in, first out; guarded by mu
	late     lateQueue                          // after failures; guarded by mu
	active   int                                // turns now; guarded by mu
	limit    limiter                            // guarded by mu
	starts   map[protocol.PartitionKey]logStart // to be proposed together; guarded by mu
	startsAt time.Time                          // when they are due; guarded by mu
	lookAt   time.Time                          // next look at all led partitions; guarded by mu
}

// startsDelay is how long log starts are gathered for one command.
const startsDelay = time.Second

type partState uint8

const (
	idle    partState = iota
	queued            // in ready
	running           // has a turn
	waiting           // in late, until its backoff is over
)

// part is what the archiver remembers of a partition.
type part struct {
	state    partState
	again    bool         // something happened during the turn
	failures int          // turns that failed since the last that did not
	cold     cold         // owned by the turn
	replace  *replacement // waits for a turn; nil for none; guarded by Archiver.mu
}

// NewArchiver makes an archiver that Run starts.
func NewArchiver(cfg ArchiverConfig) *Archiver {
	cfg.Parallel = or(cfg.Parallel, 4)
	cfg.Interval = or(cfg.Interval, 30*time.Second)
	cfg.Deadline = or(cfg.Deadline, 30*time.Second)
	cfg.MinBytesPerSec = or(cfg.MinBytesPerSec, 1<<20)
	cfg.RetryBackoff = or(cfg.RetryBackoff, 500*time.Millisecond)
	cfg.RetryBackoffMax = or(cfg.RetryBackoffMax, 30*time.Second)
	cfg.TurnBytes = or(cfg.TurnBytes, 64<<20)
	cfg.Rand, cfg.Logger = orRand(cfg.Rand), orLogger(cfg.Logger)
	return &Archiver{
		cfg:     cfg,
		pages:   newPages(newFetcher(cfg.Store, cfg.Deadline, cfg.Rand), archiverPageBytes),
		owner:   newOwnerGuard(cfg.Store, cfg.Deadline, cfg.Logger.With("of", "segments")),
		backoff: backoff{first: cfg.RetryBackoff, most: cfg.RetryBackoffMax, rand: cfg.Rand},
		causes:  newCauses(cfg.Logger, "tiering turn failed: uploads are behind until it succeeds", "uploads go on"),
		wake:    make(chan struct{}, 1),
		parts:   map[protocol.PartitionKey]*part{},
		limit:   limiter{most: cfg.Parallel, now: cfg.Parallel},
		starts:  map[protocol.PartitionKey]logStart{},
	}
}

// Run works until ctx ends, then waits for what is in flight to give up.
func (a *Archiver) Run(ctx context.Context) {
	var turns sync.WaitGroup
	defer turns.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		a.look()
		wait := a.dispatch(ctx, &turns)
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-a.wake:
		case <-timer.C:
		}
	}
}

// Notify says that something of k was sealed, or that its log start or policy
// changed. It never blocks; any goroutine may call it.
func (a *Archiver) Notify(k protocol.PartitionKey) {
	a.mu.Lock()
	a.enqueue(k)
	a.mu.Unlock()
	a.rouse()
}

// SetParallel changes how many partitions may upload at once; turns beyond end first.
func (a *Archiver) SetParallel(n int) {
	a.mu.Lock()
	a.limit.resize(n)
	a.mu.Unlock()
	a.rouse()
}

// SetQuota bounds the bytes of segments that are uploaded, over all partitions, a second; 0 or math.MaxInt64 for no limit. It acts
// on those that wait. A segment goes whole.
func (a *Archiver) SetQuota(bytesPerSec int64) { a.copies.set(bytesPerSec) }

// rouse wakes the dispatcher.
func (a *Archiver) rouse() {
	select {
	case a.wake <- struct{}{}:
	default: // a token is there already
	}
}

// enqueue asks for a turn of k. The caller holds mu. Backoff is not cut short.
func (a *Archiver) enqueue(k protocol.PartitionKey) {
	p := a.parts[k]
	if p == nil {
		p = &part{}
		a.parts[k] = p
	}
	switch p.state {
	case idle:
		p.state = queued
		a.ready = append(a.ready, k)
	case running:
		p.again = true
	case queued, waiting:
	}
}

// look asks for a turn of every led partition, once an interval: for what was
// sealed before this broker led, for retention by time, and for lost notifications.
func (a *Archiver) look() {
	a.mu.Lock()
	due := !time.Now().Before(a.lookAt)
	a.mu.Unlock()
	if !due {
		return
	}
	led := a.cfg.Hot.Led()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lookAt = time.Now().Add(a.cfg.Interval)
	for _, l := range led {
		a.enqueue(l.Key)
	}
}

// dispatch starts all that may start now and tells for how long there is
// nothing more to do unless the dispatcher is woken.
func (a *Archiver) dispatch(ctx context.Context, turns *sync.WaitGroup) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	next := a.lookAt
	for _, k := range a.late.due(now) {
		a.parts[k].state = idle
		a.enqueue(k)
	}
	for len(a.ready) > 0 && a.active < a.limit.now {
		k := a.ready[0]
		a.ready = a.ready[1:]
		p := a.parts[k]
		p.state, p.again = running, false
		a.active++
		turns.Go(func() { a.runTurn(ctx, k, p) })
	}
	if at, ok := a.late.next(); ok && at.Before(next) {
		next = at
	}
	if len(a.starts) > 0 {
		if !a.startsAt.After(now) {
			rows := a.takeStarts()
			turns.Go(func() { a.flushStarts(ctx, rows) })
		} else if a.startsAt.Before(next) {
			next = a.startsAt
		}
	}
	return max(0, next.Sub(now))
}

// runTurn does one turn and files its outcome.
func (a *Archiver) runTurn(ctx context.Context, k protocol.PartitionKey, p *part) {
	result, err := a.turn(ctx, k, p)
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.rouse()
	a.active--
	p.state = idle
	switch {
	case ctx.Err() != nil:
	case err != nil:
		p.failures++
		wait := a.backoff.after(p.failures)
		p.state = waiting
		a.late.push(k, time.Now().Add(wait))
		a.causes.failed(err, "partition", k, "failures", p.failures, "retry_in", wait)
	case result == gone && !p.again:
		p.replace.finish(errSuperseded)
		delete(a.parts, k)
	case result == more || p.again:
		p.failures = 0
		a.enqueue(k)
	default:
		p.failures = 0
	}
}

// Lag counts what of k waits for upload now. It does no I/O.
func (a *Archiver) Lag(k protocol.PartitionKey) Lag {
	p, ok := a.cfg.Metadata.Image().Partition(k)
	if !ok {
		return Lag{}
	}
	sealed, err := a.cfg.Hot.Sealed(k, p.Manifest.TieredEnd)
	if err != nil {
		return Lag{}
	}
	lag := Lag{Segments: int64(len(sealed))}
	for _, r := range sealed {
		lag.Bytes += r.Bytes
	}
	return lag
}

// Lag is what of a partition is sealed and not uploaded yet.
type Lag struct {
	Bytes    int64
	Segments int64
}
