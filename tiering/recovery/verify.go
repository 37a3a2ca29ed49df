package recovery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
)

// Options of Verify. Zero values are good.
type Options struct {
	Parallel int            // segment objects read at a time, default 4; each takes some 4 MiB and its indexes
	Grace    time.Duration  // at most the cluster's strata.sweep.grace.ms: roots younger than this are surely retained
	Found    func(Anomaly)  // called for each anomaly as it is found, one at a time
	Progress func(Progress) // called after each page and object, one at a time
}

// Progress says how far Verify has come.
type Progress struct {
	Partitions, Pages, Segments int64
	Bytes                       int64 // of segment objects read
	TotalSegments, TotalBytes   int64 // of the newest root
}

// Report is what Verify saw.
type Report struct {
	Progress
	Roots              int64
	Topics             int64
	UnreachableObjects int64 // under data/, named by no root; they may be in grace or in the making
	UnreachableBytes   int64
	Anomalies          int64
}

// Clean tells whether nothing is wrong.
func (r Report) Clean() bool { return r.Anomalies == 0 }

// String gives the summary in two lines.
func (r Report) String() string {
	return fmt.Sprintf("verified: %d roots, %d topics, %d partitions, %d manifest pages, %d segment objects, %d bytes\n"+
		"anomalies: %d; not in use: %d objects, %d bytes (older manifests and deleted segments that wait for the sweep, uploads under way)",
		r.Roots, r.Topics, r.Partitions, r.Pages, r.Segments, r.Bytes, r.Anomalies, r.UnreachableObjects, r.UnreachableBytes)
}

// Verify reads everything that the bucket's roots reach and checks it: CRCs of
// pages, chunks and batches, offsets without gaps, sums, sizes, and that each object is
// the one its manifest means. A broker may be running: what is missing is looked at again in the
// newest root before it is reported.
//
// The newest root must be whole. An older one may have been released since the newest was
// written, and what it reached swept; so what it alone misses counts only if it is younger than Grace. Damage
// counts always.
//
// The error is an outage, after which the report is not complete, or ErrNoBucket.
func Verify(ctx context.Context, store object.Store, o Options) (Report, error) {
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	v := &verifier{
		read: reader{store}, Options: o, slots: make(chan struct{}, o.Parallel),
		done: map[string]bool{}, reached: map[string]int64{},
	}
	err := v.run(ctx)
	return v.report, err
}

type verifier struct {
	Options
	read  reader
	slots chan struct{} // one for each object being read

	mu      sync.Mutex
	report  Report           // guarded by mu
	done    map[string]bool  // pages that were walked, objects that are good or reported; guarded by mu
	reached map[string]int64 // keys under data/ that a root reaches, with their size or -1; guarded by mu
}

func (v *verifier) run(ctx context.Context) error {
	b, found, err := openBucket(ctx, v.read)
	if err != nil {
		return err
	}
	v.found(append(found, identityAnomalies(b)...)...)
	if b.Image == nil {
		return v.withoutRoot(ctx)
	}
	for p := range b.Image.AllPartitions() {
		v.report.TotalSegments += int64(p.Manifest.Segments)
		v.report.TotalBytes += int64(p.Manifest.Bytes)
	}
	v.report.Topics = int64(b.Image.TopicCount())
	if err := v.root(ctx, b, b.Image, v.current); err != nil {
		return err
	}
	for _, r := range b.Image.Bucket().Roots {
		if r.Place.Key == b.RootKey {
			continue
		}
		if err := v.olderRoot(ctx, b, r); err != nil {
			return err
		}
	}
	return v.list(ctx)
}

// identityAnomalies compares what cluster.json, OWNER and the root say of themselves.
func identityAnomalies(b *Bucket) (found []Anomaly) {
	differ := func(object, what string, a, b any) {
		if a != b {
			found = append(found, Anomaly{Kind: IdentityMismatch, Object: object, Detail: fmt.Sprintf("%s is %v, elsewhere it is %v", what, a, b)})
		}
	}
	id := b.Cluster.ClusterID
	if id != "" && b.Owner.ClusterID != "" {
		differ(format.OwnerKey, "cluster", b.Owner.ClusterID, id)
	}
	if b.Image != nil {
		differ(b.RootKey, "cluster", b.Image.ClusterID(), b.Root.ClusterID)
		differ(b.RootKey, "generation", b.Image.Bucket().Generation, b.Root.Generation)
		if id != "" {
			differ(b.RootKey, "cluster", b.Root.ClusterID, id)
		}
	}
	return found
}

// withoutRoot is for a bucket so young that it has no root, or one that lost them all.
func (v *verifier) withoutRoot(ctx context.Context) error {
	if err := v.list(ctx); err != nil {
		return err
	}
	if v.report.UnreachableObjects > 0 {
		v.found(Anomaly{Kind: MissingRoot, Object: format.RootPrefix, Detail: "there is data, but no whole root"})
	}
	return nil
}

// olderRoot verifies what a root reaches that newer ones do not.
func (v *verifier) olderRoot(ctx context.Context, b *Bucket, r metadata.Root) error {
	// Asked after the fact: what is young then was retained when it was found missing.
	young := func() bool { return time.Since(time.UnixMilli(int64(r.AtMs))) < v.Grace }
	_, img, err := v.read.root(ctx, r.Place.Key)
	switch {
	case errors.Is(err, object.ErrNotFound):
		if young() {
			v.found(Anomaly{Kind: MissingRoot, Object: r.Place.Key})
		}
		return nil
	case errors.Is(err, format.ErrCorrupt), errors.Is(err, object.ErrRange):
		v.found(Anomaly{Kind: CorruptRoot, Object: r.Place.Key, Detail: err.Error()})
		return nil
	case errors.Is(err, format.ErrNewerFormat):
		v.found(Anomaly{Kind: NewerFormat, Object: r.Place.Key, Detail: err.Error()})
		return nil
	case err != nil:
		return err
	}
	return v.root(ctx, b, img, func(_ context.Context, w *walk) (verdict, error) {
		if young() {
			return verdict{report: w.anomalies}, nil
		}
		var damage []Anomaly
		for _, a := range w.anomalies {
			if !a.Kind.missing() {
				damage = append(damage, a)
			}
		}
		return verdict{report: damage}, nil
	})
}

// verdict says what to do with a walk that found something.
type verdict struct {
	report []Anomaly
	again  *metadata.Partition // not nil: forget what was found and walk this row
}

type judge func(context.Context, *walk) (verdict, error)

// maxWalks bounds how often a partition is walked that moves on each time; after it, what was found is reported.
const maxWalks = 10

// root verifies all partitions of an image.
func (v *verifier) root(ctx context.Context, b *Bucket, img *metadata.Image, judge judge) error {
	v.mu.Lock()
	v.report.Roots++
	v.mu.Unlock()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(v.Parallel)
	for row := range img.AllPartitions() {
		topic, ok := img.TopicByID(row.Key.Topic)
		name := topic.Name
		if !ok {
			name = row.Key.Topic.String()
		}
		group.Go(func() error { return v.partition(ctx, b, name, row, judge) })
	}
	return group.Wait()
}

func (v *verifier) partition(ctx context.Context, b *Bucket, topic string, row metadata.Partition, judge judge) error {
	for try := 1; ; try++ {
		w := &walk{verifier: v, opened: b, topic: topic, row: row}
		if err := w.run(ctx); err != nil {
			return fmt.Errorf("verify partition %d of %s: %w", row.Key.Partition, topic, err)
		}
		say := verdict{report: w.anomalies}
		if len(w.anomalies) > 0 && try < maxWalks {
			var err error
			if say, err = judge(ctx, w); err != nil {
				return err
			}
		}
		if say.again != nil {
			row = *say.again
			continue
		}
		v.mu.Lock()
		for _, key := range w.settled {
			v.done[key] = true
		}
		v.mu.Unlock()
		v.found(say.report...)
		v.progress(func(p *Progress) { p.Partitions++ })
		return nil
	}
}

// current looks whether a partition of the newest root has moved on since.
func (v *verifier) current(ctx context.Context, w *walk) (verdict, error) {
	b, _, err := openBucket(ctx, v.read)
	if err != nil {
		return verdict{}, err
	}
	if b.Image == nil || b.RootKey == w.opened.RootKey {
		return verdict{report: w.anomalies}, nil
	}
	row, ok := b.Image.Partition(w.row.Key)
	switch {
	case !ok: // the topic was deleted
		return verdict{}, nil
	case row.Manifest == w.row.Manifest && row.LogStart == w.row.LogStart:
		return verdict{report: w.anomalies}, nil
	}
	return verdict{again: &row}, nil
}

// list goes through data/: what nothing reaches is counted, what is reached must have its size.
func (v *verifier) list(ctx context.Context) error {
	for info, err := range v.read.list(ctx, format.DataPrefix) {
		if err != nil {
			return fmt.Errorf("list %s: %w", format.DataPrefix, err)
		}
		v.mu.Lock()
		size, ok := v.reached[info.Key]
		if !ok {
			v.report.UnreachableObjects++
			v.report.UnreachableBytes += info.Size
		}
		v.mu.Unlock()
		if ok && size > 0 && info.Size > size { // a shorter one is found when its end is read
			v.found(Anomaly{Kind: SegmentSize, Object: info.Key, Detail: fmt.Sprintf("%d bytes, its entry says %d", info.Size, size)})
		}
	}
	return nil
}

func (v *verifier) found(anomalies ...Anomaly) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range anomalies {
		v.report.Anomalies++
		if v.Found != nil {
			v.Found(a)
		}
	}
}

func (v *verifier) progress(add func(*Progress)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	add(&v.report.Progress)
	if v.Progress != nil {
		v.Progress(v.report.Progress)
	}
}

// isDone tells whether a page or object need not be looked at again.
func (v *verifier) isDone(key string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.done[key]
}

func (v *verifier) good(key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done[key] = true
}

func (v *verifier) reach(key string, size int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if old, ok := v.reached[key]; !ok || old < size {
		v.reached[key] = size
	}
}
