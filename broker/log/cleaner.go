package log

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"sync"
	"time"
)

// CleanTarget is a log that is to be kept compacted.
type CleanTarget struct {
	Log   *Log
	Rules CleanRules
}

// CleanerSettings are the log.cleaner.* settings of the broker. They are asked for before each pass.
type CleanerSettings struct {
	Memory         CleanMemory   // of all threads together: log.cleaner.dedupe.buffer.size and log.cleaner.io.buffer.load.factor
	Backoff        time.Duration // log.cleaner.backoff.ms
	BytesPerSecond float64       // log.cleaner.io.max.bytes.per.second, read and written
}

// CleanerConfig is what a Cleaner needs.
type CleanerConfig struct {
	Targets  func(yield func(CleanTarget) bool)
	Settings func() CleanerSettings
	Threads  int // log.cleaner.threads
	Logger   *slog.Logger
}

// retryAfter is how long a log is let be whose pass failed for a reason that may pass.
const retryAfter = time.Minute

// Cleaner keeps the compacted logs of a broker clean, the filthiest first, as Kafka's LogCleaner does. A log that
// is corrupt is set apart until it is opened again; one whose pass failed otherwise (too few file handles, a full
// or failing disk) is tried again after a while. Neither keeps another from its turn.
type Cleaner struct {
	cfg  CleanerConfig
	pace pace

	mu          sync.Mutex
	busy        map[*Log]bool
	uncleanable map[*Log]error
	later       map[*Log]time.Time // when to try those again whose last pass failed
	noRoom      bool
	stats       CleanerStats
	lastRun     time.Time
}

// CleanerStats are what the metrics tell.
type CleanerStats struct {
	MaxDirtyRatio    float64       // of the filthiest log, at the last look
	MaxOverdue       time.Duration // beyond max.compaction.lag.ms, at the last look
	Uncleanable      int           // logs
	UncleanableBytes int64
	SinceLastRun     time.Duration // since the last look
	Looks            int64         // at all logs
	Passes           int64
	LastTook         time.Duration // of the newest pass
	LastMapShare     float64
	LastRecopy       float64 // bytes written by bytes read, of the newest pass
	BytesRead        int64
	BytesKept        int64
}

// NewCleaner makes one that has not begun.
func NewCleaner(cfg CleanerConfig) *Cleaner {
	return &Cleaner{cfg: cfg, busy: map[*Log]bool{}, uncleanable: map[*Log]error{}, later: map[*Log]time.Time{}, lastRun: time.Now()}
}

// Run cleans until ctx ends; passes under way end soon then. The logs' directory must be open until it returns.
func (c *Cleaner) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for range c.cfg.Threads {
		wg.Go(func() { c.run(ctx) })
	}
	wg.Wait()
}

func (c *Cleaner) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		for c.Once(ctx) {
		}
		timer.Reset(c.cfg.Settings().Backoff)
	}
}

// Once cleans the filthiest log, if there is one to clean.
func (c *Cleaner) Once(ctx context.Context) bool {
	target, ok := c.pick()
	if !ok || ctx.Err() != nil {
		return false
	}
	settings := c.cfg.Settings()
	memory := settings.Memory
	memory.Bytes /= int64(max(1, c.cfg.Threads))
	stats, err := target.Log.Clean(target.Rules, memory, func(life context.Context, bytes int) error {
		return c.pace.wait(ctx, life, bytes, settings.BytesPerSecond)
	})
	c.settle(target.Log, stats, err)
	return err == nil && ctx.Err() == nil
}

// pick chooses the log with the greatest share of dirty bytes that is due, and takes it.
func (c *Cleaner) pick() (best CleanTarget, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.lastRun = now
	defer func() { c.stats.Looks++ }()
	there := map[*Log]bool{}
	most := -1.0
	c.stats.MaxDirtyRatio, c.stats.MaxOverdue = 0, 0
	c.cfg.Targets(func(t CleanTarget) bool {
		l := t.Log
		there[l] = true
		if c.busy[l] || c.uncleanable[l] != nil || now.Before(c.later[l]) {
			return true
		}
		dirt, err := l.Dirt(t.Rules, l.dir.cfg.Now())
		if err != nil {
			c.giveUp(l, err)
			return true
		}
		ratio := dirt.Ratio()
		c.stats.MaxDirtyRatio, c.stats.MaxOverdue = max(c.stats.MaxDirtyRatio, ratio), max(c.stats.MaxOverdue, dirt.Overdue)
		if due := dirt.DirtyBytes > 0 && dirt.Overdue > 0 || ratio > t.Rules.MinDirtyRatio; due && ratio > most {
			best, ok, most = t, true, ratio
		}
		return true
	})
	maps.DeleteFunc(c.uncleanable, func(l *Log, _ error) bool { return !there[l] })
	maps.DeleteFunc(c.later, func(l *Log, _ time.Time) bool { return !there[l] })
	if ok {
		c.busy[best.Log] = true
	}
	return best, ok
}

// giveUp needs mu. A log that was closed or cut meanwhile is no case for it.
func (c *Cleaner) giveUp(l *Log, err error) {
	for _, passing := range []error{ErrClosed, errMoved, errGone, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, passing) {
			return
		}
	}
	if errors.Is(err, errNoRoom) {
		if !c.noRoom {
			c.noRoom = true
			c.cfg.Logger.Warn("a log is not cleaned: the disk is too full", "log", l.name, "error", err)
		}
		return
	}
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrOffline) {
		if c.later[l].IsZero() {
			c.cfg.Logger.Warn("a log was not cleaned and is tried again until it is", "log", l.name, "after", retryAfter, "error", err)
		}
		c.later[l] = time.Now().Add(retryAfter)
		return
	}
	c.uncleanable[l] = err
	c.cfg.Logger.Error("a log cannot be cleaned and is left as it is until it is opened again", "log", l.name, "error", err)
}

// settle notes what came of a pass.
func (c *Cleaner) settle(l *Log, s CleanStats, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, l)
	if err != nil {
		c.giveUp(l, err)
		return
	}
	c.noRoom = false
	delete(c.later, l)
	c.stats.Passes++
	c.stats.LastTook, c.stats.LastMapShare = s.Took, s.MapShare
	c.stats.BytesRead += s.BytesRead
	c.stats.BytesKept += s.BytesKept
	if s.BytesRead > 0 {
		c.stats.LastRecopy = float64(s.BytesKept) / float64(s.BytesRead)
	}
	c.cfg.Logger.Info("cleaned", "log", l.name, "from", int64(s.From), "to", int64(s.To), "all", !s.DirtyLeft, "read", s.BytesRead, "kept", s.BytesKept,
		"records", s.RecordsRead, "records.kept", s.RecordsKept, "undecodable", s.Undecodable, "took", s.Took)
}

// Stats returns the counts so far.
func (c *Cleaner) Stats() CleanerStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Uncleanable, s.SinceLastRun = len(c.uncleanable), time.Since(c.lastRun)
	for l := range c.uncleanable {
		s.UncleanableBytes += l.Size()
	}
	return s
}

// pace holds all threads together to a number of bytes a second.
type pace struct {
	mu   sync.Mutex
	next time.Time // when what was let through so far would have been
}

// burst is how far ahead of its pace the cleaner may be: waits shorter than that are not made.
const burst = 50 * time.Millisecond

// wait lets bytes through at their time, or ends with ctx's error, or without one when life ends.
func (p *pace) wait(ctx, life context.Context, bytes int, perSecond float64) error {
	if perSecond <= 0 || perSecond > math.MaxInt64 {
		return ctx.Err()
	}
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(min(float64(bytes)/perSecond*1e9, math.MaxInt32*1e3)))
	wait := p.next.Sub(now)
	p.mu.Unlock()
	if wait < burst {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-life.Done():
	case <-ctx.Done():
	}
	return ctx.Err()
}
