package tiering

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/plan"
)

// advance uploads what is sealed, takes on what a compaction has made, and makes the next manifest version. Where an
// upload fails, what was uploaded before it is committed all the same.
func (a *Archiver) advance(ctx context.Context, t task, p *part, sealed []SealedRange) (turnResult, error) {
	segments, drop := t.segments(sealed), p.cold.drop && p.cold.version == t.row.Manifest.Version
	n, err := plan.Uploads(t.led.Policy, t.view(p.cold), segments, a.cfg.TurnBytes, nowMs())
	if err != nil {
		return done, err
	}
	if n > 0 || drop {
		if err := a.readable(t); err != nil {
			return done, err
		}
	}
	if n, err = a.waitForQuota(ctx, &t, sealed[:n]); err != nil {
		return done, err
	}
	entries, failed := a.uploadAll(ctx, t, sealed[:n])
	rep := a.takeReplacement(ctx, t, p)
	if len(entries) == 0 && !drop && rep == nil {
		return done, failed
	}
	result, err := a.commitTurn(ctx, t, p, entries, segments, rep)
	switch {
	case err != nil || result == gone:
		return result, errors.Join(failed, err)
	case failed != nil:
		return done, failed
	case n < len(sealed) || drop:
		return more, nil
	}
	return done, nil
}

// commitTurn commits what a turn has made, and notes what became of it. segments are those of the entries, and maybe more.
func (a *Archiver) commitTurn(ctx context.Context, t task, p *part, entries []format.Entry, segments []plan.Segment, rep *replacement) (turnResult, error) {
	version, result, err := a.commit(ctx, t, entries, rep)
	switch {
	case rep != nil && version != nil:
		p.cold = cold{} // its first entry may be another one
		rep.finish(nil)
	case rep != nil:
		rep.finish(cmp.Or(err, errSuperseded))
	case version != nil:
		a.remember(p, t.row.Manifest.Version, *version, segments[:len(entries)])
	}
	return result, err
}

// waitForQuota tells how many of some ranges may go now: all, or with a quota the first, once it is its turn.
func (a *Archiver) waitForQuota(ctx context.Context, t *task, ranges []SealedRange) (int, error) {
	if len(ranges) == 0 || !a.copies.limited() {
		return len(ranges), nil
	}
	if err := a.copies.take(ctx, ranges[0].Bytes); err != nil {
		return 0, err
	}
	// Nothing has a name yet: the attempt is that of now, however long it waited, or the sweeper's floor might pass it.
	t.attempt = currentAttempt(a.cfg.Metadata.Image())
	return 1, nil
}

// readable reads the pages that the next version is made of. What is uploaded before that would be garbage
// at each turn, as long as they cannot be read.
func (a *Archiver) readable(t task) error {
	m := a.manifest(t.row.Manifest)
	for _, at := range []protocol.Offset{t.row.LogStart, t.row.Manifest.TieredEnd - 1} {
		if _, _, err := m.Find(t.load, at); err != nil {
			return fmt.Errorf("read manifest version %d before an upload: %w", m.Version, err)
		}
	}
	return nil
}

// uploadAll gives the entries of those that came before the first that failed.
func (a *Archiver) uploadAll(ctx context.Context, t task, sealed []SealedRange) (entries []format.Entry, failed error) {
	for _, r := range sealed {
		e, err := a.upload(ctx, t, r)
		if err != nil {
			if !errors.Is(err, errSuperseded) {
				a.stats.copyErrors.Add(1) // also where it failed before its first byte: the lag grows
			}
			return entries, fmt.Errorf("upload [%d, %d): %w", r.Base, r.End, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// upload writes one sealed range as a segment object under a fresh name. After
// an error the object may exist; its name is never used again, and the sweeper finds it.
func (a *Archiver) upload(ctx context.Context, t task, r SealedRange) (format.Entry, error) {
	if err := a.stillLeading(t); err != nil {
		return format.Entry{}, err
	}
	if err := a.stillOurs(ctx, t); err != nil {
		return format.Entry{}, err
	}
	src, err := a.cfg.Hot.OpenSealed(t.row.Key, r)
	if err != nil {
		return format.Entry{}, fmt.Errorf("open sealed segment: %w", err)
	}
	defer func() { _ = src.Close() }() // it was only read
	meta := format.SegmentMeta{
		Key: t.row.Key, TopicName: t.led.Topic, Base: max(r.Base, t.row.Manifest.TieredEnd), End: r.End, Epoch: t.led.Epoch,
		Epochs: src.Epochs(), Producers: src.Producers(), Aborted: src.Aborted(),
		SealedMs: sealedMs(r), Attempt: t.attempt, Rand: a.cfg.Rand(),
	}
	segment, err := format.BuildSegment(meta, src, r.Bytes)
	if err != nil {
		return format.Entry{}, fmt.Errorf("build segment object: %w", err)
	}
	a.stats.copyRequests.Add(1)
	if err := a.put(ctx, meta.ObjectKey(), segment.Body(), segment.Size()); err != nil {
		return format.Entry{}, err
	}
	return segment.Entry(meta.ObjectKey()), nil
}

// errSuperseded ends a try whose partition has moved on under it.
var errSuperseded = errors.New("partition is not led in this epoch any more")

// stillLeading saves the uploads of a try that Apply will refuse.
func (a *Archiver) stillLeading(t task) error {
	row, ok := a.cfg.Metadata.Image().Partition(t.row.Key)
	if !ok || row.LeaderEpoch != t.led.Epoch {
		return errSuperseded
	}
	return nil
}

// stillOurs saves uploads into a bucket that is another's, and keeps what was put there from being committed.
func (a *Archiver) stillOurs(ctx context.Context, t task) error {
	return a.owner.check(ctx, a.cfg.Metadata.Image(), t.attempt.Generation)
}

// put writes one object within a deadline that grows with its size, and tells
// the limiter how it went.
func (a *Archiver) put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	deadline := a.cfg.Deadline + time.Duration(float64(size)/float64(a.cfg.MinBytesPerSec)*float64(time.Second))
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	a.stats.puts.Add(1)
	err := a.cfg.Store.Put(ctx, key, body, size)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil:
		a.stats.putBytes.Add(size)
		a.limit.succeeded()
	case errors.Is(err, object.ErrThrottled):
		a.stats.throttled.Add(1)
		a.limit.throttled(time.Now())
		fallthrough
	default:
		a.stats.putErrors.Add(1)
	}
	return err
}
