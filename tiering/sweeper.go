package tiering

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/object"
)

// SweeperConfig says what a Sweeper works with. Zero numbers mean the defaults.
type SweeperConfig struct {
	Store    object.Store
	Metadata Metadata

	Grace         time.Duration // strata.sweep.grace.ms; default 10 min
	Interval      time.Duration // strata.sweep.interval.ms, between two rounds; default 10 min
	Deadline      time.Duration // of one GET or DELETE; default 30 s
	ListPerSecond int           // objects listed a second; default 5,000, negative for no limit
	Active        func() bool   // whether this broker is the one that sweeps (the controller); nil: always
	Logger        *slog.Logger  // default: discards
}

// Sweeper deletes what nothing reaches (DESIGN D16). Nothing else deletes.
//
// A mark is not a list of objects: a bucket may hold more garbage than memory.
// It is the image at the time of marking. An object is marked by it when this image does
// not reach it and its attempt is below the sweep floor that this image holds: no later
// image can reach it, since Apply refuses to name it. A mark takes no listing, so it is
// made four times an interval. A round, once an interval,
//
//  1. raises the floor above the index of the newest mark M that is a grace old. From
//     then on no root with a cut below M can be retained, so that whatever root is retained later was
//     cut from an image that does not reach what M marks (marking does so too);
//  2. lists the bucket and deletes what M marks, unless a root retained before reaches it.
//     Roots cut at or after M need no look: their images are at or after M's;
//  3. marks again.
//
// M's manifests can still be read then: their pages are reached by M, hence by nothing that an older
// mark has condemned.
//
// Promise: garbage outlives at most two graces and two intervals. Made at time
// t, it is below the floor of a mark that was taken at most a grace and two
// quarter intervals later (a mark after t, a grace old, raises the floor; the next mark holds it).
// That mark is a grace old at the latest two graces and half an interval after
// t, and a round comes within an interval. Released roots cost no more: a root is released once it is a grace old.
//
// Marks live in memory, so the promise counts from the last change of sweeper
// (a restart or another controller). Keeping them would shorten that, but a mark that
// outlived its process would have to be proved to belong to this image's history, which
// the restore of an old root breaks. The floor is in the image, and so is safety: it never rests on a mark that was lost.
type Sweeper struct {
	causes *causes
	cfg    SweeperConfig
	fetch  *fetcher
	stats  sweeperCounters

	// Owned by the goroutine that runs rounds.
	marks    []mark               // oldest first; at most the first is a grace old
	markedAt time.Time            // when it last marked, also where nothing had changed
	rootSeen map[string]time.Time // monotonic: when each retained root was first seen
	clean    map[uint64]bool      // fingerprints of batches that the last round found to be all in use
}

// mark condemns what its image does not reach and began below its floor.
type mark struct {
	img *metadata.Image
	at  time.Time // monotonic
}

func (m mark) floor() metadata.Attempt { return m.img.Bucket().Floor }

// marksPerInterval is how many marks are made in one interval.
const marksPerInterval = 4

// NewSweeper makes a sweeper that Run starts.
func NewSweeper(cfg SweeperConfig) *Sweeper {
	cfg.Grace = or(cfg.Grace, 10*time.Minute)
	cfg.Interval = or(cfg.Interval, 10*time.Minute)
	cfg.Deadline = or(cfg.Deadline, defaultDeadline)
	cfg.ListPerSecond = or(cfg.ListPerSecond, 5000)
	cfg.Logger = orLogger(cfg.Logger)
	if cfg.Active == nil {
		cfg.Active = func() bool { return true }
	}
	return &Sweeper{cfg: cfg, causes: newCauses(cfg.Logger, "sweeping failed", "sweeping goes on"), fetch: newFetcher(cfg.Store, cfg.Deadline, nil)}
}

// Run marks and sweeps until ctx ends. It must not run beside Round.
func (s *Sweeper) Run(ctx context.Context) {
	tick := time.NewTicker(max(s.cfg.Interval/marksPerInterval, time.Millisecond))
	defer tick.Stop()
	round := time.Now() // when the next is due
	for ctx.Err() == nil {
		s.runStep(ctx, &round)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (s *Sweeper) runStep(ctx context.Context, round *time.Time) {
	if !s.cfg.Active() || s.cfg.Metadata.Image().Bucket().Generation == 0 {
		s.marks = nil // another one may have sweeped on meanwhile
		return
	}
	var err error
	if time.Now().Before(*round) {
		err = s.mark(ctx)
	} else {
		*round = time.Now().Add(s.cfg.Interval - s.cfg.Interval/(2*marksPerInterval)) // the tick nearest to it
		err = s.Round(ctx)
	}
	switch {
	case err == nil:
		s.causes.succeeded()
	case ctx.Err() == nil:
		s.causes.failed(err)
	}
}

// Round does one round now. One goroutine at a time may call it. Errors:
// ErrNotOwner when OWNER is not ours (nothing was deleted after that was read),
// else outages: what was not deleted is found by the next round.
func (s *Sweeper) Round(ctx context.Context) error {
	err := s.mark(ctx)
	if err == nil {
		err = s.sweep(ctx)
	}
	if err != nil {
		s.stats.roundErrors.Add(1)
		return fmt.Errorf("sweep round: %w", err)
	}
	s.stats.rounds.Add(1)
	return nil
}

// mark raises the floor, lets old roots go, and marks.
func (s *Sweeper) mark(ctx context.Context) error {
	if n := len(s.marks); n > 0 && s.marks[n-1].img.Bucket().Generation != s.cfg.Metadata.Image().Bucket().Generation {
		s.marks = nil // the image before a promotion says nothing about what the adopted root reaches
	}
	if err := s.raiseFloor(ctx); err != nil {
		return err
	}
	if err := s.releaseRoots(ctx); err != nil {
		return err
	}
	s.markedAt = time.Now()
	img := s.cfg.Metadata.Image()
	if n := len(s.marks); n == 0 || s.marks[n-1].img.Index() != img.Index() {
		s.marks = append(s.marks, mark{img: img, at: time.Now()})
	}
	return nil
}

// raiseFloor forgets all but the newest of the marks that are a grace old, and raises the floor above it.
func (s *Sweeper) raiseFloor(ctx context.Context) error {
	now := time.Now()
	for len(s.marks) > 1 && now.Sub(s.marks[1].at) >= s.cfg.Grace {
		s.marks = s.marks[1:]
	}
	m, ok := s.due(now)
	if !ok {
		return nil
	}
	// One above the mark's index: what began before the mark and was not moved on since has that very index.
	floor, current := currentAttempt(m.img), s.cfg.Metadata.Image().Bucket().Floor
	floor.Index++
	if floor.Compare(current) <= 0 {
		return nil
	}
	_, err := s.cfg.Metadata.Propose(ctx, setSweepFloor(floor, current, nowMs()))
	if err != nil && s.cfg.Metadata.Image().Bucket().Floor != floor {
		return fmt.Errorf("raise the sweep floor to %s: %w", floor, err)
	}
	return nil
}

// due is the oldest mark, if it is a grace old.
func (s *Sweeper) due(now time.Time) (mark, bool) {
	if len(s.marks) == 0 || now.Sub(s.marks[0].at) < s.cfg.Grace {
		return mark{}, false
	}
	return s.marks[0], true
}

const (
	denseRoots = 10          // of the newest, all retained while they are younger than the grace
	rootEvery  = time.Minute // of those before them, one
)

// releaseRoots lets go all roots but the newest and, of those younger than the
// grace, the newest ten and the first of each minute: the first form of the root is there for a lost
// disk, not for history (DESIGN D20), and a cluster under steady change makes one a second.
//
// Readers of a root that is let go early keep their grace (D16): nothing is deleted but by a mark that is a
// grace old, and a mark spares what its image reaches and the roots that this image retains. So what a
// root reaches outlives its cut by a grace, and the root object outlives its release by one.
//
// A root is old by the wall clock, or when it was there a grace ago: a clock
// that jumped back must not keep roots from the future.
func (s *Sweeper) releaseRoots(ctx context.Context) error {
	roots := s.cfg.Metadata.Image().Bucket().Roots
	seen := make(map[string]time.Time, len(roots))
	var seqs []uint64
	minute := protocol.NoTimestamp
	for i, r := range roots {
		first, ok := s.rootSeen[r.Place.Key]
		if !ok {
			first = time.Now()
		}
		seen[r.Place.Key] = first
		old := int64(nowMs()-r.AtMs) >= s.cfg.Grace.Milliseconds() || time.Since(first) >= s.cfg.Grace
		its := r.AtMs / protocol.Timestamp(rootEvery.Milliseconds())
		crowded := i < len(roots)-denseRoots && its == minute
		if i < len(roots)-1 && (old || crowded) {
			seqs = append(seqs, r.Seq)
		}
		minute = its
	}
	s.rootSeen = seen
	if len(seqs) == 0 {
		return nil
	}
	if _, err := s.cfg.Metadata.Propose(ctx, releaseRoots(seqs)); err != nil {
		return fmt.Errorf("release %d roots: %w", len(seqs), err)
	}
	return nil
}

// sweep lists the bucket and deletes what the mark that is due condemns.
func (s *Sweeper) sweep(ctx context.Context) error {
	m, ok := s.due(time.Now())
	if !ok {
		return nil // nothing was marked long enough ago
	}
	now := s.cfg.Metadata.Image()
	if now.Bucket().Floor.Compare(currentAttempt(m.img)) < 0 {
		return errors.New("the sweep floor is below the mark: another sweeper set it")
	}
	keep, err := s.retainedBefore(ctx, m, now)
	if err != nil {
		return err
	}
	p := &purge{Sweeper: s, mark: m, now: now, keep: append(keep, m.img), stillClean: map[uint64]bool{}}
	if err := p.data(ctx); err != nil {
		return err
	}
	return p.roots(ctx)
}
