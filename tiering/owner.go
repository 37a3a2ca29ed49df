package tiering

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
)

// ownerFresh is for how long one answer about OWNER serves all turns: it bounds
// what the question costs (a small GET each two seconds of uploading, none at rest), and for how long
// uploads into a bucket that was replaced may still be committed.
const ownerFresh = 2 * time.Second

// ownerGuard asks for all turns together whether the bucket is still ours. A
// bucket may be replaced under a running broker: by a mount that goes away, by somebody
// who deletes it and makes it again. What is put into the new one would be committed, and its hot copy evicted.
type ownerGuard struct {
	store    object.Store
	deadline time.Duration
	logger   *slog.Logger

	turn  chan struct{} // of capacity 1, full during the GET: who comes meanwhile takes its answer
	at    time.Time     // of the last answer; guarded by turn, as all below
	owner format.Owner
	err   error
	lost  bool // the log says that the bucket is not ours
}

func newOwnerGuard(store object.Store, deadline time.Duration, logger *slog.Logger) *ownerGuard {
	return &ownerGuard{store: store, deadline: deadline, logger: logger, turn: make(chan struct{}, 1)}
}

// check returns ErrNotOwner where OWNER is missing, damaged, or not the image's
// cluster at this generation; else what kept it from being read.
func (g *ownerGuard) check(ctx context.Context, img *metadata.Image, generation uint64) error {
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-g.turn }()
	if g.at.IsZero() || time.Since(g.at) >= ownerFresh {
		began := time.Now()
		owner, err := g.read(ctx)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		g.at, g.owner, g.err = began, owner, err
	}
	err := g.err
	switch {
	case errors.Is(err, object.ErrNotFound), errors.Is(err, format.ErrCorrupt), errors.Is(err, format.ErrNewerFormat):
		err = fmt.Errorf("%w: %w", ErrNotOwner, err)
	case err == nil:
		err = ours(g.owner, img.ClusterID(), generation)
	}
	g.report(err)
	return err
}

func (g *ownerGuard) read(ctx context.Context) (format.Owner, error) {
	ctx, cancel := context.WithTimeout(ctx, g.deadline)
	defer cancel()
	return readOwner(ctx, g.store)
}

// report says once that uploads stand still, and once that they go on. An outage says nothing of either.
func (g *ownerGuard) report(err error) {
	switch {
	case errors.Is(err, ErrNotOwner) && !g.lost:
		g.lost = true
		g.logger.Error("uploads stand still: the bucket is not this cluster's any more", "err", err)
	case err == nil && g.lost:
		g.lost = false
		g.logger.Info("uploads go on: the bucket is this cluster's again")
	}
}

// ours compares OWNER with who asks.
func ours(o format.Owner, cluster string, generation uint64) error {
	if o.ClusterID != cluster || o.Generation != generation {
		return fmt.Errorf("%w: %s is cluster %s at generation %d, we are %s at %d",
			ErrNotOwner, format.OwnerKey, o.ClusterID, o.Generation, cluster, generation)
	}
	return nil
}
