package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/recovery"
)

// A restore brings a cluster of one broker back from its bucket (DESIGN D15, D18, D21). Its steps, each of which
// may be the last before a crash:
//
//  1. restoreFile is put into the empty data folder: from now on a start goes on with the restore.
//  2. The generation that is to be taken is written into it, then OWNER is taken: whoever
//     wrote the bucket before is refused.
//  3. The image of the root, adopted, becomes the metadata, by one rename (quorum.Config.Seed).
//  4. Logs begin at their tiered ends; those whose whole set must be hot are read back.
//  5. Committed offsets beyond the end of their partition are set back to it.
//  6. restoreFile says that it is done; only then the broker serves.
//
// Up to 3 a start does it all again, with the same generation; after it the metadata is the truth, and what
// follows depends on nothing but what is there.
const restoreFile = "strata-restore"

// restore is what restoreFile says, in the form of meta.properties.
type restore struct {
	path string

	bucket, target string
	holder         string // of the claim: nobody else's word
	clusterID      string // "" until the claim is decided, as generation 0
	generation     uint64
	root           string    // key of the root that was read; for people
	done           time.Time // zero until then

	ready  chan struct{}                             // closed once ends is set
	ends   map[protocol.PartitionKey]protocol.Offset // of the partitions as they were restored
	served atomic.Bool                               // it is over: ends mean nothing any more
}

// decideRestore finds out whether this start restores, before anything else is written to the locked folder.
func (b *Broker) decideRestore(f *folder) error {
	path := filepath.Join(f.path, restoreFile)
	raw, err := os.ReadFile(path)
	want := b.cfg.Restore
	url := b.cfg.Static.String("strata.bucket.url")
	switch {
	case err == nil:
		r, err := parseRestore(path, raw)
		if err != nil {
			return fmt.Errorf("data folder %s: %s: %w", f.path, restoreFile, err)
		}
		if want != "" && (r.bucket != url || r.target != want) {
			return fmt.Errorf("data folder %s is not empty: it was restored from %s@%s, asked for is %s@%s: restore into an empty folder", f.path, r.bucket, r.target, url, want)
		}
		if !r.done.IsZero() {
			if want != "" {
				b.cfg.Logger.Info("the data folder was restored before: it is not done again", "bucket", r.bucket, "target", r.target, "at", r.done)
			}
			return nil
		}
		if url != r.bucket {
			return fmt.Errorf("data folder %s is being restored from %s, but strata.bucket.url is %q: set it", f.path, r.bucket, url)
		}
		b.cfg.Logger.Info("a restore that was broken off goes on", "bucket", r.bucket, "target", r.target)
		b.restore = r
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("data folder %s: %w", f.path, err)
	case want == "":
		return nil
	}
	if _, err := recovery.ParseTarget(want); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if url == "" {
		return errors.New("restore: strata.bucket.url is not set: it names the bucket to restore from")
	}
	if err := mustBeEmpty(f.path, url); err != nil {
		return err
	}
	var holder [16]byte
	_, _ = rand.Read(holder[:]) // crypto/rand never fails
	b.restore = &restore{path: path, bucket: url, target: want, holder: hex.EncodeToString(holder[:]), ready: make(chan struct{})}
	return b.restore.write() // from now on a start goes on with it
}

// mustBeEmpty refuses a folder that holds anything but what a start itself puts there first, or the bucket.
func mustBeEmpty(path, url string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("data folder %s: %w", path, err)
	}
	for _, e := range entries {
		name := e.Name()
		inside := filepath.Join(path, name)
		if u, err := object.ParseURL(url); err == nil && u.Scheme == object.SchemeDir && (u.Path == inside || strings.HasPrefix(u.Path, inside+"/")) {
			continue
		}
		if name != lockFile && name != "lost+found" && !strings.HasPrefix(name, restoreFile) {
			return fmt.Errorf("data folder %s is not empty, it holds %s: a restore needs an empty one. Move it away, or start without --restore to go on with it", path, name)
		}
	}
	return nil
}

func parseRestore(path string, raw []byte) (*restore, error) {
	props, err := metadata.ReadProperties(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	r := &restore{path: path, bucket: props["bucket"], target: props["target"], holder: props["holder"], clusterID: props["cluster.id"], root: props["root"], ready: make(chan struct{})}
	version, err1 := strconv.Atoi(props["version"])
	generation, err2 := strconv.ParseUint(props["generation"], 10, 64)
	done, err3 := strconv.ParseInt(props["done.ms"], 10, 64)
	switch {
	case errors.Join(err1, err2, err3) != nil || r.bucket == "" || r.holder == "" || (generation == 0) != (r.clusterID == ""):
		return nil, errors.New("it is not what a restore writes")
	case version > 1:
		return nil, fmt.Errorf("version %d, this binary knows 1: use a newer strata", version)
	}
	if r.generation = generation; done > 0 {
		r.done = time.UnixMilli(done)
	}
	return r, nil
}

// write is durable on return.
func (r *restore) write() error {
	done := int64(0)
	if !r.done.IsZero() {
		done = r.done.UnixMilli()
	}
	text := fmt.Appendf(nil, "version=1\nbucket=%s\ntarget=%s\nholder=%s\ncluster.id=%s\ngeneration=%d\nroot=%s\ndone.ms=%d\n",
		r.bucket, r.target, r.holder, r.clusterID, r.generation, r.root, done)
	if err := vfs.WriteFileAtomic(vfs.OS(), r.path, text); err != nil {
		return fmt.Errorf("restore: write %s: %w", r.path, err)
	}
	return nil
}

// seed takes OWNER and gives the image to begin with. The quorum calls it where the folder has no metadata yet.
func (b *Broker) seed(ctx context.Context) (*metadata.Image, error) {
	r, store := b.restore, b.bucket.store
	fail := func(err error) error { return fmt.Errorf("restore from %s@%s: %w", r.bucket, r.target, err) }
	target, err := recovery.ParseTarget(r.target)
	if err != nil {
		return nil, fail(err)
	}
	claim := recovery.Claim{ClusterID: r.clusterID, Generation: r.generation, Holder: r.holder, Region: b.cfg.Static.String("broker.rack")}
	if r.generation == 0 {
		// A target that is not there is found out before anything is taken.
		if _, err := recovery.OpenAt(ctx, store, target); err != nil {
			return nil, fail(err)
		}
		if claim, err = recovery.NextClaim(ctx, store, r.holder, claim.Region); err != nil {
			return nil, fail(err)
		}
		r.clusterID, r.generation = claim.ClusterID, claim.Generation
		if err := r.write(); err != nil {
			return nil, err
		}
	}
	if err := claim.Take(ctx, store); err != nil {
		return nil, fail(err)
	}
	// Only now: what the old cluster wrote before it was refused counts.
	from, err := recovery.OpenAt(ctx, store, target)
	if err != nil {
		return nil, fail(err)
	}
	root, err := from.Retained(ctx)
	if err != nil {
		return nil, fail(err)
	}
	img, err := metadata.Adopt(from.Image, metadata.Adoption{
		Broker: b.self(), Directory: b.folder.id, URL: b.bucket.url.String(), Generation: r.generation, Root: root,
	})
	if err != nil {
		return nil, fail(err)
	}
	r.root = from.RootKey
	if err := r.write(); err != nil {
		return nil, err
	}
	b.bucket.logger.Info("restoring", "cluster.id", r.clusterID, "generation", r.generation, "root", from.RootKey,
		"of", time.UnixMilli(int64(root.AtMs)).UTC(), "topics", img.TopicCount(), "partitions", img.PartitionCount())
	return img, nil
}

// restoredEnd is where a partition ended when it was restored, while the restore is under way. Until all
// partitions are there it waits.
func (b *Broker) restoredEnd(ctx context.Context, k protocol.PartitionKey) (protocol.Offset, bool) {
	if b.restore == nil || b.restore.served.Load() {
		return 0, false
	}
	select {
	case <-b.restore.ready:
	case <-ctx.Done():
		return 0, false
	}
	end, ok := b.restore.ends[k]
	return end, ok
}

// finishRestore ends a restore, if one is under way: all that the bucket has is there and nobody was served yet.
func (b *Broker) finishRestore(ctx context.Context) error {
	r := b.restore
	if r == nil {
		return nil
	}
	if err := b.groups.Settled(ctx); err != nil {
		return fmt.Errorf("restore from %s@%s: %w", r.bucket, r.target, err)
	}
	b.reportRestore()
	r.done = time.Now()
	r.served.Store(true)
	return r.write()
}

// prepareEnds notes where partitions end, for which the groups wait, and refuses to go on where one is not there.
func (b *Broker) prepareEnds() error {
	if b.restore == nil {
		return nil
	}
	if n := b.replicas.Offline(); n > 0 {
		return fmt.Errorf("restore from %s@%s: %d partitions cannot be restored, the log says why: start again once that is mended", b.restore.bucket, b.restore.target, n)
	}
	ends := map[protocol.PartitionKey]protocol.Offset{}
	for l := range b.replicas.All() {
		ends[l.Key()] = l.Log().LEO()
	}
	b.restore.ends = ends
	close(b.restore.ready)
	return nil
}

// reportRestore says for each partition what came back.
func (b *Broker) reportRestore() {
	img, whole, empty := b.node.Image(), 0, 0
	for t := range img.Topics() {
		for p := range img.Partitions(t.ID) {
			row := []any{"topic", t.Name, "partition", p.Key.Partition}
			end := b.restore.ends[p.Key]
			if p.Manifest.Segments == 0 {
				empty++
				b.bucket.logger.Warn("nothing of a partition was in the bucket: it is empty", append(row, "from", end)...)
				continue
			}
			whole++
			b.bucket.logger.Info("a partition is restored up to its tiered end; what was after it was not in the bucket",
				append(row, "start", p.LogStart, "end", end, "bytes", p.Manifest.Bytes)...)
		}
	}
	b.bucket.logger.Info("restored", "root", b.restore.root, "generation", b.restore.generation, "partitions", whole, "empty", empty)
}
