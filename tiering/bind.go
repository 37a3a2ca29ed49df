package tiering

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
)

// BindConfig says which cluster wants to write which bucket.
type BindConfig struct {
	Store         object.Store
	Metadata      Metadata // its image has the cluster id
	URL           string   // for the image and for people; without credentials
	Region        string   // for people
	NewDataFolder bool     // nothing was ever bound: for the message that refuses
	Shared        bool     // other clusters may write here: conditional PUT is required
	Logger        *slog.Logger
}

// ErrRefused means that the bucket is not this cluster's to write. Its message
// is one line for people.
var ErrRefused = errors.New("bucket is refused")

// Bind ties the cluster and the bucket together (DESIGN D21) and returns
// OWNER's generation. The first start writes cluster.json, then OWNER, then
// proposes BindBucket; later ones only read. A crash between any two of these
// is mended by the next call, because the cluster id is in the image before the first.
//
// Errors: ErrRefused and format.ErrNewerFormat, after which no object was touched; anything
// else is an outage, after which Bind may be called again.
func Bind(ctx context.Context, cfg BindConfig) (generation uint64, err error) {
	b := binder{BindConfig: cfg, img: cfg.Metadata.Image()}
	b.Logger = orLogger(cfg.Logger)
	if b.img.ClusterID() == "" {
		return 0, errors.New("bind the bucket: the cluster has no id yet")
	}
	if err := b.bindCluster(ctx); err != nil {
		return 0, err
	}
	owner, err := b.bindOwner(ctx)
	if err != nil {
		return 0, err
	}
	if bound := b.img.Bucket().Generation; bound != 0 {
		if owner.Generation != bound {
			return 0, b.refuse("OWNER is at generation %d, this cluster was bound at %d: another copy of it was promoted", owner.Generation, bound)
		}
		return bound, nil
	}
	if owner.Generation != 1 {
		return 0, b.refuse("OWNER is at generation %d, this cluster never wrote it", owner.Generation)
	}
	_, err = cfg.Metadata.Propose(ctx, bindBucket(cfg.URL, owner.Generation))
	if err != nil && cfg.Metadata.Image().Bucket().Generation != owner.Generation {
		return 0, fmt.Errorf("bind the bucket: %w", err)
	}
	return owner.Generation, nil
}

type binder struct {
	BindConfig
	img           *metadata.Image
	probed        bool
	unconditional bool // the store has no conditional PUT, and the bucket is private
}

func (b *binder) refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrRefused, b.URL, fmt.Sprintf(format, args...))
}

// bindCluster checks cluster.json, or writes it at the first start.
func (b *binder) bindCluster(ctx context.Context) error {
	found, err := b.readCluster(ctx)
	switch {
	case errors.Is(err, object.ErrNotFound):
	case err != nil:
		return err
	default:
		return b.checkCluster(ctx, found)
	}
	if bound := b.img.Bucket(); bound.Generation != 0 {
		return b.refuse("it has no %s, but this cluster (%s) is bound to a bucket at generation %d", format.ClusterKey, b.img.ClusterID(), bound.Generation)
	}
	if err := b.checkEmpty(ctx, format.OwnerKey); err != nil {
		return err
	}
	mine := format.Cluster{ClusterID: b.img.ClusterID(), CreatedMs: nowMs()}
	if err := b.putOnce(ctx, format.ClusterKey, mine.Encode()); err != nil {
		// Lost to another cluster, or an answer was lost: what is there now decides.
		found, readErr := b.readCluster(ctx)
		switch {
		case errors.Is(readErr, object.ErrNotFound): // it was not written
			return fmt.Errorf("write %s: %w", format.ClusterKey, err)
		case readErr != nil:
			return fmt.Errorf("write %s: %w", format.ClusterKey, errors.Join(err, readErr))
		}
		return b.checkCluster(ctx, found)
	}
	return nil
}

// checkCluster compares the bucket's cluster with ours. That the ids agree is not enough where this
// cluster never bound a bucket: somebody may have given a new data folder an old id. A crash while binding leaves no data.
func (b *binder) checkCluster(ctx context.Context, found format.Cluster) error {
	switch {
	case found.ClusterID != b.img.ClusterID() && b.NewDataFolder:
		return b.refuse("it belongs to cluster %s, and the data folder is new: "+
			"start with that cluster's data folder, or with an empty bucket or prefix", found.ClusterID)
	case found.ClusterID != b.img.ClusterID():
		return b.refuse("it belongs to cluster %s, this is cluster %s", found.ClusterID, b.img.ClusterID())
	case b.img.Bucket().Generation == 0:
		return b.checkEmpty(ctx, "")
	}
	return nil
}

func (b *binder) readCluster(ctx context.Context) (format.Cluster, error) {
	raw, _, err := b.Store.GetAll(ctx, format.ClusterKey, format.MaxIdentityBytes)
	if err != nil {
		return format.Cluster{}, fmt.Errorf("read %s: %w", format.ClusterKey, err)
	}
	found, err := format.DecodeCluster(raw)
	if errors.Is(err, format.ErrCorrupt) {
		return found, b.refuse("%v", err)
	}
	return found, err
}

// checkEmpty refuses a prefix that holds what this cluster did not write, OWNER also where it is named.
func (b *binder) checkEmpty(ctx context.Context, owner string) error {
	for _, prefix := range []string{owner, format.DataPrefix, format.RootPrefix, format.TailPrefix, format.RescuedPrefix} {
		if prefix == "" {
			continue
		}
		for info, err := range b.Store.List(ctx, prefix, "") {
			if err != nil {
				return fmt.Errorf("list %s: %w", prefix, err)
			}
			return b.refuse("this cluster has never written it, but it holds %s", info.Key)
		}
	}
	return nil
}

// probe tests for conditional PUT before the first write, once in a bucket's life. The scratch key is
// the cluster's own, so that what a crash left of it is found and removed by the next call.
func (b *binder) probe(ctx context.Context) error {
	if b.probed {
		return nil
	}
	b.probed = true
	ok, err := object.ProbeConditional(ctx, b.Store, "probe/"+b.img.ClusterID())
	switch {
	case err != nil:
		return err
	case !ok && b.Shared:
		return b.refuse("the store does not honour conditional PUT, which a shared bucket needs")
	case !ok:
		b.unconditional = true
		b.Logger.Warn("the store does not honour conditional PUT: nothing else may ever write this bucket", "url", b.URL)
	}
	return nil
}

// bindOwner reads OWNER, or writes generation 1 of it at the first start.
func (b *binder) bindOwner(ctx context.Context) (format.Owner, error) {
	found, err := readOwner(ctx, b.Store)
	if errors.Is(err, object.ErrNotFound) {
		if bound := b.img.Bucket().Generation; bound != 0 {
			return found, b.refuse("it has no %s, this cluster was bound at generation %d", format.OwnerKey, bound)
		}
		mine := format.Owner{Generation: 1, ClusterID: b.img.ClusterID(), Region: b.Region, SinceMs: nowMs()}
		putErr := b.putOnce(ctx, format.OwnerKey, mine.Encode())
		if found, err = readOwner(ctx, b.Store); err != nil {
			return found, errors.Join(putErr, err)
		}
	}
	switch {
	case errors.Is(err, format.ErrCorrupt):
		return found, b.refuse("%v", err)
	case err != nil:
		return found, err
	case found.ClusterID != b.img.ClusterID():
		return found, b.refuse("OWNER is cluster %s, this is cluster %s", found.ClusterID, b.img.ClusterID())
	}
	return found, nil
}

// putOnce writes an object that must not exist.
func (b *binder) putOnce(ctx context.Context, key string, body []byte) error {
	if err := b.probe(ctx); err != nil {
		return err
	}
	if b.unconditional {
		return b.Store.Put(ctx, key, bytes.NewReader(body), int64(len(body)))
	}
	_, err := b.Store.PutIf(ctx, key, body, "")
	return err
}

func readOwner(ctx context.Context, store object.Store) (format.Owner, error) {
	raw, _, err := store.GetAll(ctx, format.OwnerKey, format.MaxIdentityBytes)
	if err != nil {
		return format.Owner{}, fmt.Errorf("read %s: %w", format.OwnerKey, err)
	}
	return format.DecodeOwner(raw)
}
