package tiering

import (
	"context"
	"errors"
	"fmt"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
)

// errMoved means that a manifest does not hold any more what a compaction read: it looks again.
var errMoved = errors.New("the manifest has changed")

// replacement is what a cold compaction wants of one partition's manifest. It is
// committed in a turn of the archiver, with whatever else that turn commits: so
// the two never refuse each other, and an upload never waits for a compaction.
//
// It is tried once, as an attempt is (DESIGN D14): refused, or of unknown outcome, it is dropped, and what it names is never named again.
type replacement struct {
	epoch   protocol.Epoch   // that the compaction was begun in
	attempt metadata.Attempt // of its new objects; zero where it has none
	swaps   []swap           // ascending
	done    chan error       // of capacity 1: the outcome
}

// swap puts entries in the place of others that tile the same offsets.
type swap struct{ was, now []format.Entry }

func (s swap) base() protocol.Offset { return s.was[0].Base }

// edits is the change of the manifest.
func (r *replacement) edits() (out []format.Replacement) {
	if r == nil {
		return nil
	}
	for _, s := range r.swaps {
		out = append(out, format.Replacement{Base: s.base(), End: s.was[len(s.was)-1].End, Entries: s.now})
	}
	return out
}

// finish tells the outcome, once.
func (r *replacement) finish(err error) {
	if r != nil {
		r.done <- err
	}
}

// replace has a turn of k commit r, and waits for it. One partition has one at a time. The
// entries are current when it returns nil. errMoved, errSuperseded: nothing was
// done; after any other error, ctx's too, the manifest tells.
func (a *Archiver) replace(ctx context.Context, k protocol.PartitionKey, r *replacement) error {
	r.done = make(chan error, 1)
	a.mu.Lock()
	a.enqueue(k)
	p := a.parts[k]
	p.replace = r
	a.mu.Unlock()
	a.rouse()
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.replace == r {
		p.replace = nil
	}
	return ctx.Err()
}

// takeReplacement gives what waits for the turn, if the manifest still is what it was made
// of. What is not goes alone: it must not take the turn's uploads with it.
func (a *Archiver) takeReplacement(ctx context.Context, t task, p *part) *replacement {
	a.mu.Lock()
	r := p.replace
	p.replace = nil
	a.mu.Unlock()
	if r == nil {
		return nil
	}
	if err := a.checkReplacement(ctx, t, r); err != nil {
		r.finish(err)
		return nil
	}
	return r
}

func (a *Archiver) checkReplacement(ctx context.Context, t task, r *replacement) error {
	floor := a.cfg.Metadata.Image().Bucket().Floor
	switch {
	case r.epoch != t.led.Epoch:
		return errSuperseded
	case r.attempt != (metadata.Attempt{}) && r.attempt.Compare(floor) < 0:
		return fmt.Errorf("%w: %s is below %s", metadata.ErrBelowSweepFloor, r.attempt, floor)
	}
	m := a.manifest(t.row.Manifest)
	for _, s := range r.swaps {
		if s.was[0].End <= t.row.LogStart {
			return fmt.Errorf("%w: the log start is %d", errMoved, t.row.LogStart)
		}
		i := 0
		for e, err := range m.Scan(a.pages.load(ctx), s.base()) {
			if err != nil {
				return fmt.Errorf("read manifest version %d: %w", m.Version, err)
			}
			if e != s.was[i] {
				return fmt.Errorf("%w: it holds %s", errMoved, e.ObjectKey)
			}
			if i++; i == len(s.was) {
				break
			}
		}
		if i < len(s.was) {
			return fmt.Errorf("%w: it ends below %d", errMoved, s.was[i].End)
		}
	}
	return nil
}
