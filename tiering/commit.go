package tiering

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/plan"
)

// manifestTries is how often one turn writes the manifest object, each time
// under a fresh name: the segments it lists are uploaded already and must not be dropped for one lost PUT.
const manifestTries = 3

// commit makes the next manifest version current: it adds entries, which
// continue at the tiered end, drops those below the log start, and swaps what a compaction replaces (nil for nothing).
//
// The obvious way, to propose again until it works, could name objects that the
// sweeper has taken meanwhile. Nor is anything proposed that was put into a bucket that is not ours. So every try ends in one of three ways (DESIGN D14): the
// image has our root key: it is current. Apply refused, or the outcome is not
// known and the image does not have our key: the whole try is dropped, and what
// it named is never named again. Should the lost proposal be applied later, then
// it was a valid one, and the next turn starts from it.
func (a *Archiver) commit(ctx context.Context, t task, entries []format.Entry, rep *replacement) (current *format.Version, result turnResult, err error) {
	edit := format.Edit{DropBelow: t.row.LogStart, Replace: rep.edits(), Append: entries}
	version, err := a.writeManifest(ctx, t, edit)
	if err != nil {
		return nil, done, fmt.Errorf("write manifest: %w", err)
	}
	c := manifestCommit{key: t.row.Key, parent: t.row.Manifest, version: version, tieredEnd: t.row.Manifest.TieredEnd, epoch: t.led.Epoch}
	if n := len(entries); n > 0 {
		c.tieredEnd = entries[n-1].End
	}
	if err := a.stillOurs(ctx, t); err != nil {
		return nil, done, fmt.Errorf("before the commit: %w", err)
	}
	_, err = a.cfg.Metadata.Propose(ctx, c.command())
	if err == nil || a.isCurrent(t.row.Key, version) {
		a.stats.commits.Add(1)
		a.causes.succeeded()
		for _, e := range entries {
			a.stats.copyBytes.Add(e.DataBytes)
		}
		return &version, done, nil
	}
	switch {
	case errors.Is(err, metadata.ErrUnknownTopic), errors.Is(err, metadata.ErrUnknownPartition):
		a.stats.refused.Add(1)
		return nil, gone, nil
	case errors.Is(err, metadata.ErrStaleLeaderEpoch):
		a.stats.refused.Add(1)
		return nil, done, nil // the next look tells whether we lead again
	case refused(err):
		a.stats.refused.Add(1)
		return nil, done, fmt.Errorf("attempt %s was refused and is done again: %w", t.attempt, err)
	}
	a.stats.unknown.Add(1)
	return nil, done, fmt.Errorf("attempt %s has an unknown outcome and is done again: %w", t.attempt, err)
}

// writeManifest puts the object of the next version.
func (a *Archiver) writeManifest(ctx context.Context, t task, edit format.Edit) (format.Version, error) {
	parent := a.manifest(t.row.Manifest)
	for try := 1; ; try++ {
		key := format.ManifestKey(t.row.Key, parent.Version+1, t.attempt, a.cfg.Rand())
		v, err := parent.Apply(t.load, edit, key, parent.Version+1)
		if err != nil {
			return v, fmt.Errorf("version %d: %w", parent.Version+1, err)
		}
		err = a.put(ctx, key, bytes.NewReader(v.Object), int64(len(v.Object)))
		if err == nil {
			a.pages.keep(v)
			return v, nil
		}
		if try == manifestTries || ctx.Err() != nil {
			return v, err
		}
		if err := sleep(ctx, a.backoff.after(try)); err != nil {
			return v, err
		}
	}
}

// isCurrent asks the image whether the version is the one we wrote: its key is fresh, nobody else can have it.
func (a *Archiver) isCurrent(k protocol.PartitionKey, v format.Version) bool {
	row, ok := a.cfg.Metadata.Image().Partition(k)
	return ok && row.Manifest.Root.Key == v.Root.Key
}

// remember keeps what the next turn must know of the version that became
// current over parent, with these segments added at its end.
func (a *Archiver) remember(p *part, parent uint64, v format.Version, added []plan.Segment) {
	next := cold{loaded: true, version: v.Version, bytes: v.Summary.Bytes, any: v.Summary.Segments > 0}
	switch {
	case !next.any:
	case p.cold.loaded && p.cold.version == parent && p.cold.any && p.cold.first.Base == v.Summary.Base:
		next.first = p.cold.first
	case len(added) > 0 && added[0].Base == v.Summary.Base:
		next.first = added[0]
	default:
		next = cold{} // the next look reads it
	}
	p.cold = next
}
