// Package recovery reads a bucket without a broker: it finds the newest root,
// lists what that holds, reads records back and verifies every byte. It writes
// nothing but OWNER, where a restore takes it (Claim). It knows the formats and the Store, not the cluster that may be
// running on the bucket meanwhile; whatever it reads may be older than that by
// the age of the newest root. cmd/strata prints what it says.
package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
)

// Errors of Open, matched with errors.Is. Others are outages, format.ErrNewerFormat, or the anomaly that bars the way.
var (
	ErrNoBucket = errors.New("no cluster has written here")
	ErrNoRoot   = errors.New("the bucket has no root yet")
	ErrNotFound = errors.New("not in the bucket") // no such topic or partition
)

// maxRootBytes bounds a root object.
const maxRootBytes = 1 << 30

// Bucket is a bucket as its newest root says it is. It is immutable and may be used by many goroutines.
type Bucket struct {
	Cluster format.Cluster
	Owner   format.Owner
	Root    format.Root
	RootKey string
	Image   *metadata.Image // of the root

	read reader
}

// Open reads cluster.json, OWNER and the newest root that is whole.
func Open(ctx context.Context, store object.Store) (*Bucket, error) {
	b, found, err := openBucket(ctx, reader{store})
	switch {
	case err != nil:
		return nil, err
	case b.Image != nil && b.Cluster.ClusterID != "" && b.Owner.ClusterID != "":
		return b, nil // roots beside the newest whole one are for Verify
	case len(found) > 0:
		return nil, errors.New(found[0].String())
	}
	return nil, ErrNoRoot
}

// openBucket reads as much as can be read and says what could not. Image is nil where there is no whole root.
func openBucket(ctx context.Context, r reader) (*Bucket, []Anomaly, error) {
	b := &Bucket{read: r}
	var found []Anomaly
	missing := 0
	identity := func(key string, decode func([]byte) error) error {
		raw, err := r.all(ctx, key, format.MaxIdentityBytes)
		if err == nil {
			err = decode(raw)
		}
		switch {
		case errors.Is(err, object.ErrNotFound):
			missing++
			found = append(found, Anomaly{Kind: MissingIdentity, Object: key})
		case errors.Is(err, format.ErrCorrupt), errors.Is(err, object.ErrRange):
			found = append(found, Anomaly{Kind: CorruptIdentity, Object: key, Detail: err.Error()})
		case err != nil:
			return fmt.Errorf("read %s: %w", key, err)
		}
		return nil
	}
	if err := identity(format.ClusterKey, func(raw []byte) (err error) { b.Cluster, err = format.DecodeCluster(raw); return err }); err != nil {
		return nil, nil, err
	}
	if err := identity(format.OwnerKey, func(raw []byte) (err error) { b.Owner, err = format.DecodeOwner(raw); return err }); err != nil {
		return nil, nil, err
	}
	roots, err := listRoots(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	if missing == 2 && len(roots) == 0 {
		return nil, nil, ErrNoBucket
	}
	bad, err := b.newestRoot(ctx, roots)
	return b, append(found, bad...), err
}

// rootObject is a root that was listed.
type rootObject struct {
	key  string
	name format.Name
}

// listRoots gives all roots, the newest first.
func listRoots(ctx context.Context, r reader) ([]rootObject, error) {
	var roots []rootObject
	for info, err := range r.list(ctx, format.RootPrefix) {
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", format.RootPrefix, err)
		}
		if name, err := format.ParseKey(info.Key); err == nil && name.Kind == format.RootObject {
			roots = append(roots, rootObject{info.Key, name})
		}
	}
	slices.SortStableFunc(roots, func(a, b rootObject) int {
		return cmp.Or(cmp.Compare(b.name.Generation, a.name.Generation), cmp.Compare(b.name.Seq, a.name.Seq))
	})
	return roots, nil
}

// newestRoot takes the first root that is whole and not of a generation above OWNER's. Two
// may have one seq: one of them was written but not retained before a crash. The one with the later cut is the newer.
func (b *Bucket) newestRoot(ctx context.Context, roots []rootObject) (bad []Anomaly, err error) {
	for _, o := range roots {
		if b.Image != nil && (o.name.Generation != b.Root.Generation || o.name.Seq != b.Root.Seq) {
			break
		}
		if b.Owner.Generation != 0 && o.name.Generation > b.Owner.Generation {
			bad = append(bad, Anomaly{Kind: IdentityMismatch, Object: o.key, Detail: fmt.Sprintf("root of generation %d, OWNER is at %d", o.name.Generation, b.Owner.Generation)})
			continue
		}
		root, img, err := b.read.root(ctx, o.key)
		switch {
		case errors.Is(err, object.ErrNotFound): // swept since it was listed
		case errors.Is(err, format.ErrCorrupt), errors.Is(err, object.ErrRange):
			bad = append(bad, Anomaly{Kind: CorruptRoot, Object: o.key, Detail: err.Error()})
		case err != nil:
			return bad, err
		case b.Image == nil || root.Cut.Compare(b.Root.Cut) > 0:
			b.Root, b.RootKey, b.Image = root, o.key, img
		}
	}
	return bad, nil
}

// root reads a whole root object and its image. An image that does not decode is ErrCorrupt.
func (r reader) root(ctx context.Context, key string) (format.Root, *metadata.Image, error) {
	raw, err := r.all(ctx, key, maxRootBytes)
	if err != nil {
		return format.Root{}, nil, fmt.Errorf("read root %s: %w", key, err)
	}
	root, err := format.DecodeRoot(raw)
	if err != nil {
		return root, nil, fmt.Errorf("root %s: %w", key, err)
	}
	if name, err := format.ParseKey(key); err != nil || name.Generation != root.Generation || name.Seq != root.Seq {
		return root, nil, &format.CorruptError{Part: format.IdentityPart, Detail: fmt.Sprintf("%s holds root %d of generation %d", key, root.Seq, root.Generation)}
	}
	img, err := metadata.UnmarshalImage(root.Image)
	if err != nil {
		return root, nil, &format.CorruptError{Part: format.RootPart, Detail: err.Error()}
	}
	return root, img, nil
}

// topic finds a topic by name.
func (b *Bucket) topic(name string) (metadata.Topic, error) {
	t, ok := b.Image.Topic(name)
	if !ok {
		return t, fmt.Errorf("topic %q: %w", name, ErrNotFound)
	}
	return t, nil
}

func (b *Bucket) partition(topic string, partition int32) (metadata.Partition, error) {
	t, err := b.topic(topic)
	if err != nil {
		return metadata.Partition{}, err
	}
	row, ok := b.Image.Partition(protocol.PartitionKey{Topic: t.ID, Partition: partition})
	if !ok {
		return row, fmt.Errorf("partition %d of topic %q: %w", partition, topic, ErrNotFound)
	}
	return row, nil
}

func manifestOf(row metadata.Partition) format.Manifest {
	return format.Manifest{Version: row.Manifest.Version, Root: row.Manifest.Root}
}
