package tiering

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
)

// RootWriterConfig says what a RootWriter works with. Zero numbers mean the defaults.
type RootWriterConfig struct {
	Store    object.Store
	Metadata Metadata

	Debounce    time.Duration // from a change to its root, and between two roots; default 1 s
	BytesPerSec int64         // of roots under steady change, in the mean; default 256 KiB/s
	Deadline    time.Duration // of one PUT; default 30 s
	Active      func() bool   // whether this broker is the one that writes roots (the controller); nil: always
	Rand        func() uint64 // of object names and jitter, for many goroutines; default math/rand/v2
	Logger      *slog.Logger  // default: discards
}

// RootWriter writes the first form of the root after each change of the
// metadata (DESIGN D20): the image, which holds every manifest row, at one
// index. A burst of changes makes one root, an idle cluster none.
//
// A root is the whole image, so under steady change the next one waits for as long
// as the last is worth at BytesPerSec: up to 256 KiB (some 1,500 partitions) roots come once a second, one of 4 MiB comes every
// 16 s. A change after a rest never waits for more than Debounce.
type RootWriter struct {
	cfg     RootWriterConfig
	backoff backoff
	causes  *causes
	stats   rootCounters
	wake    chan struct{} // one token: something changed

	owner  *ownerGuard
	paidAt time.Time // when the last root is paid for; owned by Run

	mu       sync.Mutex
	changes  uint64              // changes worth a root; guarded by mu
	written  uint64              // those that a retained root holds; guarded by mu
	since    time.Time           // when the oldest change came that no root holds; guarded by mu
	producer protocol.ProducerID // last seen: it has no place in a delta; guarded by mu
	bound    uint64              // generation last seen; guarded by mu
}

// NewRootWriter makes a root writer that Run starts.
func NewRootWriter(cfg RootWriterConfig) *RootWriter {
	cfg.Debounce = or(cfg.Debounce, time.Second)
	cfg.BytesPerSec = or(cfg.BytesPerSec, 256<<10)
	cfg.Deadline = or(cfg.Deadline, 30*time.Second)
	cfg.Rand, cfg.Logger = orRand(cfg.Rand), orLogger(cfg.Logger)
	if cfg.Active == nil {
		cfg.Active = func() bool { return true }
	}
	return &RootWriter{
		cfg:     cfg,
		owner:   newOwnerGuard(cfg.Store, cfg.Deadline, cfg.Logger.With("of", "roots")),
		backoff: backoff{first: cfg.Debounce, most: 30 * cfg.Debounce, rand: cfg.Rand},
		causes:  newCauses(cfg.Logger, "root was not written", "roots are written again"),
		wake:    make(chan struct{}, 1),
	}
}

// Changed has the form of a metadata subscriber: the composition root
// subscribes it. It never blocks. What a root or the sweeper itself changes in
// the image (the bucket's floor and roots) is not worth a root: else each would make the next.
func (w *RootWriter) Changed(d metadata.Delta, img *metadata.Image) {
	w.mu.Lock()
	defer w.mu.Unlock()
	worth := len(d.Brokers)+len(d.Topics)+len(d.Removed)+len(d.Partitions)+len(d.Configs) > 0 ||
		img.NextProducerID() != w.producer || img.Bucket().Generation != w.bound
	w.producer, w.bound = img.NextProducerID(), img.Bucket().Generation
	if !worth {
		return
	}
	if w.changes == w.written {
		w.since = time.Now()
	}
	w.changes++
	select {
	case w.wake <- struct{}{}:
	default: // a token is there already
	}
}

// Run writes roots until ctx ends. A root that fails is tried again, from the newest image.
func (w *RootWriter) Run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		if !w.dirty() {
			select {
			case <-ctx.Done():
				return
			case <-w.wake:
				continue
			}
		}
		pause := max(w.cfg.Debounce, time.Until(w.paidAt))
		if failures > 0 {
			pause = w.backoff.after(failures)
		}
		if sleep(ctx, pause) != nil {
			return
		}
		if !w.cfg.Active() || w.cfg.Metadata.Image().Bucket().Generation == 0 {
			continue // what changed meanwhile is written once this broker may
		}
		err := w.write(ctx)
		switch {
		case err == nil:
			failures = 0
			w.causes.succeeded()
		case ctx.Err() == nil:
			failures++
			w.stats.errors.Add(1)
			w.causes.failed(err, "failures", failures)
		}
	}
}

func (w *RootWriter) dirty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changes != w.written
}

// write puts one root and has it retained. A root object that is not retained is garbage, which the sweeper knows by its seq.
func (w *RootWriter) write(ctx context.Context) error {
	w.mu.Lock()
	changes := w.changes // before the image is read: what comes between is written twice, never missed
	w.mu.Unlock()
	img := w.cfg.Metadata.Image()
	bucket := img.Bucket()
	// A root put into a bucket that is not ours would be retained and missing.
	if err := w.owner.check(ctx, img, bucket.Generation); err != nil {
		return err
	}
	seq := uint64(1)
	if n := len(bucket.Roots); n > 0 {
		seq = bucket.Roots[n-1].Seq + 1
	}
	root := metadata.Root{Seq: seq, Cut: currentAttempt(img), AtMs: nowMs()}
	key := format.RootKey(bucket.Generation, seq, w.cfg.Rand())
	var body []byte
	body, root.Place = format.EncodeRoot(format.Root{
		Generation: bucket.Generation, Seq: seq, Cut: root.Cut, AtMs: root.AtMs,
		ClusterID: img.ClusterID(), Image: metadata.MarshalImage(img),
	}, key)
	putCtx, cancel := context.WithTimeout(ctx, w.cfg.Deadline)
	defer cancel()
	if err := w.cfg.Store.Put(putCtx, key, bytes.NewReader(body), int64(len(body))); err != nil {
		return fmt.Errorf("put root %d: %w", seq, err)
	}
	if _, err := w.cfg.Metadata.Propose(ctx, retainRoot(root)); err != nil && !w.isRetained(key) {
		return fmt.Errorf("retain root %d: %w", seq, err)
	}
	w.paidAt = time.Now().Add(time.Duration(float64(len(body)) / float64(w.cfg.BytesPerSec) * float64(time.Second)))
	w.stats.written.Add(1)
	w.stats.bytes.Add(int64(len(body)))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written, w.since = changes, time.Now()
	return nil
}

// isRetained asks the image after an unknown outcome: the key is fresh.
func (w *RootWriter) isRetained(key string) bool {
	for _, r := range w.cfg.Metadata.Image().Bucket().Roots {
		if r.Place.Key == key {
			return true
		}
	}
	return false
}
