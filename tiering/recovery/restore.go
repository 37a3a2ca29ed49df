package recovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
)

// Target says which root a restore starts from.
type Target struct {
	at         time.Time // the newest that is not younger, unless zero
	generation uint64    // this very one, unless 0
	seq        uint64
}

// ParseTarget reads latest, a time as in 2006-01-02T15:04:05Z, or a root as GENERATION.SEQ.
func ParseTarget(s string) (Target, error) {
	if s == "latest" {
		return Target{}, nil
	}
	if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return Target{at: at}, nil
	}
	generation, seq, found := strings.Cut(s, ".")
	g, err1 := strconv.ParseUint(generation, 10, 64)
	n, err2 := strconv.ParseUint(seq, 10, 64)
	if !found || err1 != nil || err2 != nil || g == 0 || n == 0 {
		return Target{}, fmt.Errorf("%q is no root: want latest, a time as in 2006-01-02T15:04:05Z, or a root's GENERATION.SEQ", s)
	}
	return Target{generation: g, seq: n}, nil
}

// OpenAt is Open at the root that the target names. Beside the newest root those are
// offered that the newest still retains: what they reach is there.
func OpenAt(ctx context.Context, store object.Store, t Target) (*Bucket, error) {
	b, err := Open(ctx, store)
	if err != nil || t == (Target{}) {
		return b, err
	}
	oldest := b.Root
	if t.names(b.Root.Generation, b.Root.Seq, b.Root.AtMs) {
		return b, nil
	}
	retained := b.Image.Bucket().Roots
	for i := len(retained) - 1; i >= 0; i-- {
		r := retained[i]
		oldest.AtMs = r.AtMs
		if !t.names(r.Cut.Generation, r.Seq, r.AtMs) {
			continue
		}
		root, img, err := b.read.root(ctx, r.Place.Key)
		if err != nil {
			return nil, err
		}
		return &Bucket{Cluster: b.Cluster, Owner: b.Owner, Root: root, RootKey: r.Place.Key, Image: img, read: b.read}, nil
	}
	return nil, fmt.Errorf("the bucket has no such root; those it has are of %s to %s", timeOf(oldest.AtMs), timeOf(b.Root.AtMs))
}

func (t Target) names(generation, seq uint64, at protocol.Timestamp) bool {
	if t.generation != 0 {
		return t.generation == generation && t.seq == seq
	}
	return int64(at) <= t.at.UnixMilli()
}

func timeOf(ms protocol.Timestamp) string {
	return time.UnixMilli(int64(ms)).UTC().Format("2006-01-02T15:04:05Z")
}

// Retained is the root as a row of the image that is adopted from it. It reads the root object once more, for its checksum.
func (b *Bucket) Retained(ctx context.Context) (metadata.Root, error) {
	raw, err := b.read.all(ctx, b.RootKey, maxRootBytes)
	if err != nil {
		return metadata.Root{}, fmt.Errorf("read root %s: %w", b.RootKey, err)
	}
	return metadata.Root{
		Seq: b.Root.Seq, Cut: b.Root.Cut, AtMs: b.Root.AtMs,
		Place: metadata.PagePlace{Key: b.RootKey, Length: uint32(len(raw)), CRC: record.CRC(raw)},
	}, nil
}

// ErrTaken means that another one holds the generation that a claim is of. Its message is one line for people.
var ErrTaken = errors.New("the bucket was taken by another")

// Claim is a generation of OWNER that a restore takes. It is written down
// before it is taken, so that a restore that was broken off knows its own.
type Claim struct {
	ClusterID  string
	Generation uint64
	Holder     string // nobody else's word
	Region     string
}

// NextClaim is the generation after OWNER's. It writes nothing.
func NextClaim(ctx context.Context, store object.Store, holder, region string) (Claim, error) {
	b, found, err := openBucket(ctx, reader{store})
	switch {
	case err != nil:
		return Claim{}, err
	case len(found) > 0 && (b.Cluster.ClusterID == "" || b.Owner.ClusterID == ""):
		return Claim{}, errors.New(found[0].String())
	case b.Cluster.ClusterID != b.Owner.ClusterID:
		return Claim{}, fmt.Errorf("%s is of cluster %s, %s of cluster %s", format.ClusterKey, b.Cluster.ClusterID, format.OwnerKey, b.Owner.ClusterID)
	case b.Image == nil:
		return Claim{}, ErrNoRoot
	}
	return Claim{ClusterID: b.Owner.ClusterID, Generation: b.Owner.Generation + 1, Holder: holder, Region: region}, nil
}

// Take makes OWNER the claim's by conditional PUT; from then on who held it before is refused (DESIGN D21). It may be
// called again after a crash or an outage. ErrTaken where another one came first.
func (c Claim) Take(ctx context.Context, store object.Store) error {
	r := reader{store}
	now, version, err := r.owner(ctx)
	switch {
	case err != nil:
		return err
	case c.holds(now):
		return nil
	case now.ClusterID != c.ClusterID || now.Generation != c.Generation-1:
		return c.taken(now)
	}
	conditional, err := object.ProbeConditional(ctx, store, "probe/"+c.ClusterID)
	if err != nil {
		return err
	}
	body := format.Owner{
		Generation: c.Generation, ClusterID: c.ClusterID, Region: c.Region, SinceMs: protocol.Timestamp(time.Now().UnixMilli()), Holder: c.Holder,
	}.Encode()
	var putErr error
	if conditional {
		_, putErr = store.PutIf(ctx, format.OwnerKey, body, version)
	} else { // such a store is allowed where one cluster alone knows it
		putErr = store.Put(ctx, format.OwnerKey, bytes.NewReader(body), int64(len(body)))
	}
	// Whatever the answer was, what is there decides: one that was lost may have been a success.
	now, _, err = r.owner(ctx)
	switch {
	case err != nil:
		return errors.Join(putErr, err)
	case c.holds(now):
		return nil
	case now.Generation != c.Generation-1:
		return c.taken(now)
	case putErr == nil:
		putErr = errors.New("it is not there")
	}
	return fmt.Errorf("write %s: %w", format.OwnerKey, putErr)
}

func (c Claim) holds(o format.Owner) bool {
	return o.ClusterID == c.ClusterID && o.Generation == c.Generation && o.Holder == c.Holder
}

func (c Claim) taken(o format.Owner) error {
	return fmt.Errorf("%w: %s is cluster %s at generation %d since %s, this restore is of cluster %s at generation %d: start again with an empty data folder",
		ErrTaken, format.OwnerKey, o.ClusterID, o.Generation, timeOf(o.SinceMs), c.ClusterID, c.Generation)
}

// owner reads OWNER with its version.
func (r reader) owner(ctx context.Context) (o format.Owner, version string, err error) {
	err = retry(ctx, func() error {
		var raw []byte
		if raw, version, err = r.store.GetAll(ctx, format.OwnerKey, format.MaxIdentityBytes); err != nil {
			return err
		}
		o, err = format.DecodeOwner(raw)
		return err
	})
	if err != nil {
		return o, "", fmt.Errorf("read %s: %w", format.OwnerKey, err)
	}
	return o, version, nil
}
