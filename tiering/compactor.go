package tiering

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/compact"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/plan"
)

// CompactorConfig says what a Compactor works with. Zero numbers mean the defaults.
type CompactorConfig struct {
	Store    object.Store
	Metadata Metadata
	Hot      Hot
	Archiver *Archiver // commits what was compacted, in the turns of its partitions

	// Spool makes room for so many bytes of batches outside of memory.
	Spool func(bytes int64) (Spool, error)
	// Producers reads a producer state as SealedSource gave it; nil: no batch stays for its producer's sake.
	Producers func(state []byte) (compact.Producers, error)

	Interval       time.Duration // between two looks at all led partitions; default 15 s
	MapBytes       int64         // of the map of keys; default 128 MiB
	MapLoad        float64       // up to which part of it is filled; default 0.9
	BytesPerSec    int64         // read and written, together; 0 for no limit
	Deadline       time.Duration // of one request, beside what its size takes; default 30 s
	MinBytesPerSec int64         // the slowest PUT that is not given up; default 1 MiB/s
	RetryBackoff   time.Duration // after the first failure of a partition, doubled with each, up to 5 min; default 5 s
	Rand           func() uint64 // of object names and jitter, for many goroutines; default math/rand/v2
	Salt           func() [16]byte
	Logger         *slog.Logger // default: discards
}

// Spool holds bytes that are written once, in order, and then read. Close gives its room back.
type Spool interface {
	io.Writer
	io.ReaderAt
	Close() error
}

// Compactor compacts the cold tier of the compacted partitions that this broker leads (DESIGN D17).
//
// It works in passes, one at a time, so that its memory is that of one map of keys. A pass
// reads what is dirty into the map, as far as the map goes, then filters the
// partition from the log start up to there, in steps. A step reads some neighbouring entries, writes what stays of them as one object,
// and has the archiver swap them in one manifest commit. Steps are committed from the lowest offset up. So whatever a crash
// leaves, an entry counts as compacted only once all below it has been filtered against it, and a
// tombstone goes only in a pass after the one that covered it: nothing that it stands for is left below.
//
// A pass that fails is begun anew: what it has committed has little left to drop.
type Compactor struct {
	cfg     CompactorConfig
	fetch   *fetcher
	pages   *pages
	owner   *ownerGuard
	backoff backoff
	pace    pacer
	stats   compactorCounters

	known map[protocol.PartitionKey]*known // owned by Run

	mu   sync.Mutex
	last string // the last error, guarded by mu
}

// known is what the compactor remembers of a partition, so that one with nothing to do costs no page.
type known struct {
	looked  bool
	version uint64 // of the manifest that was looked at
	tier    plan.Tier
	dirty   plan.Dirty
	scanned bool // dirty was read, it is not only a bound

	first    string             // object of the first entry that is not compacted
	oldest   protocol.Timestamp // of its first batch
	partial  partial
	judgedAt protocol.Timestamp // when the last pass judged tombstones, by the wall clock

	failures int
	retryAt  time.Time
	damaged  format.Entry // the entry whose object is damaged; the partition rests while the manifest names it
}

// partial remembers how far into an entry a map has gone that had no room for all its keys. It is lost
// with the process: the next pass then begins with the entry.
type partial struct {
	base protocol.Offset // of the entry
	upTo protocol.Offset // passes have covered all below; 0: none has
}

// NewCompactor makes a compactor that Run starts.
func NewCompactor(cfg CompactorConfig) *Compactor {
	cfg.Interval = or(cfg.Interval, 15*time.Second)
	cfg.MapBytes = or(cfg.MapBytes, 128<<20)
	cfg.MapLoad = or(cfg.MapLoad, 0.9)
	cfg.Deadline = or(cfg.Deadline, defaultDeadline)
	cfg.MinBytesPerSec = or(cfg.MinBytesPerSec, 1<<20)
	cfg.RetryBackoff = or(cfg.RetryBackoff, 5*time.Second)
	cfg.Rand, cfg.Logger = orRand(cfg.Rand), orLogger(cfg.Logger)
	return &Compactor{
		cfg: cfg, fetch: newFetcher(cfg.Store, cfg.Deadline, cfg.Rand), pages: cfg.Archiver.pages, owner: cfg.Archiver.owner,
		backoff: backoff{first: cfg.RetryBackoff, most: 5 * time.Minute, rand: cfg.Rand},
		pace:    pacer{perSec: cfg.BytesPerSec}, known: map[protocol.PartitionKey]*known{},
	}
}

// Run compacts until ctx ends.
func (c *Compactor) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if led, reason, ok := c.next(ctx); ok {
			c.compact(ctx, led, reason)
			continue
		}
		if sleep(ctx, c.cfg.Interval) != nil {
			return
		}
	}
}

// next gives the partition that needs a compaction most, if any does.
func (c *Compactor) next(ctx context.Context) (best Led, why plan.Reason, ok bool) {
	weight := map[plan.Reason]float64{plan.ByHorizon: 1, plan.ByRatio: 2, plan.ByLag: 4}
	img, most, stopped := c.cfg.Metadata.Image(), 0.0, int64(0)
	seen := map[protocol.PartitionKey]bool{}
	for _, led := range c.cfg.Hot.Led() {
		row, found := img.Partition(led.Key)
		if !led.Policy.Compact || led.Policy.CopyDisabled || !found || row.Manifest.Version == 0 || row.LeaderEpoch != led.Epoch {
			continue
		}
		seen[led.Key] = true
		k := c.known[led.Key]
		if k == nil {
			k = &known{}
			c.known[led.Key] = k
		}
		if time.Now().Before(k.retryAt) {
			continue
		}
		if err := c.look(ctx, led, row, k); err != nil {
			c.failed(ctx, led, err)
			continue
		}
		if k.damaged.ObjectKey != "" {
			stopped++
			continue
		}
		reason := plan.Due(led.Policy.Compaction, k.tier, k.dirty, nowMs())
		if w := weight[reason] + plan.Ratio(k.tier, k.dirty); reason != plan.NotDue && w > most {
			best, why, ok, most = led, reason, true, w
		}
	}
	c.stats.stopped.Store(stopped)
	maps.DeleteFunc(c.known, func(k protocol.PartitionKey, _ *known) bool { return !seen[k] })
	return best, why, ok
}

// look brings k up to the row's manifest version. Mostly the root page is enough: it tells how much can be dirty at most.
func (c *Compactor) look(ctx context.Context, led Led, row metadata.Partition, k *known) error {
	policy, now := led.Policy.Compaction, nowMs()
	fresh := k.looked && k.version == row.Manifest.Version
	if fresh && (k.dirty.Next == 0 || now < k.dirty.Next) && (k.scanned || !mayBeDue(policy, k.tier)) {
		return nil
	}
	m, load := c.cfg.Archiver.manifest(row.Manifest), c.pages.load(ctx)
	sum, err := m.Summary(load)
	if err != nil {
		return fmt.Errorf("read manifest version %d: %w", m.Version, err)
	}
	next := *k
	next.see(m.Version, sum, policy, now)
	if next.damaged.ObjectKey != "" {
		e, ok, err := m.Find(load, next.damaged.Base)
		if err != nil {
			return fmt.Errorf("read manifest version %d: %w", m.Version, err)
		}
		if !ok || e.ObjectKey != next.damaged.ObjectKey {
			next.damaged = format.Entry{}
		}
	}
	if mayBeDue(policy, next.tier) {
		if err := c.lookAtDirt(ctx, policy, m, &next); err != nil {
			return err
		}
	}
	*k = next
	return nil
}

// see takes over what the root page of a version says.
func (k *known) see(version uint64, sum format.Summary, policy plan.Compaction, now protocol.Timestamp) {
	if k.judgedAt > now {
		k.judgedAt = 0 // the clock was ahead during the pass: what it says of then would put all horizons off until then
	}
	k.looked, k.version, k.scanned, k.dirty = true, version, false, plan.Dirty{}
	k.tier = plan.Tier{Bytes: sum.Bytes, CompactedBytes: sum.CompactedBytes, DeleteHorizon: sum.DeleteHorizon}
	if h := sum.DeleteHorizon; h > 0 && h < k.judgedAt {
		// The pass of then had to leave it, and another would only read all again: below it may be a batch that cannot be decoded.
		k.tier.DeleteHorizon = k.judgedAt + protocol.Timestamp(max(policy.DeleteRetentionMs, horizonRest.Milliseconds()))
	}
}

// horizonRest is how long at least a tombstone rests that a pass could not let go.
const horizonRest = time.Hour

// mayBeDue tells whether a look at each dirty entry may show that a compaction is due by what is dirty.
func mayBeDue(policy plan.Compaction, t plan.Tier) bool {
	bound := plan.Dirty{Bytes: t.Bytes - t.CompactedBytes}
	return bound.Bytes > 0 && (policy.MaxLagMs >= 0 || plan.Ratio(t, bound) > policy.MinDirtyRatio)
}

// lookAtDirt reads the dirty part's entries, and with max.compaction.lag.ms its first batch.
func (c *Compactor) lookAtDirt(ctx context.Context, policy plan.Compaction, m format.Manifest, k *known) error {
	first, ok, err := m.FindUncompacted(c.pages.load(ctx))
	if err == nil && ok {
		k.dirty, err = plan.DirtyPart(policy, segmentsOf(c.dirtyEntries(ctx, m, first.Base)), nowMs())
	}
	if err != nil {
		return fmt.Errorf("read manifest version %d: %w", m.Version, err)
	}
	if ok && policy.MaxLagMs >= 0 && k.dirty.Bytes > 0 {
		if k.first != first.ObjectKey {
			if k.oldest, err = c.firstTime(ctx, first); err != nil {
				return err
			}
			k.first = first.ObjectKey
		}
		if k.oldest >= 0 && k.oldest < k.dirty.Oldest {
			k.dirty.Oldest = k.oldest
		}
	}
	k.scanned = true
	return nil
}

// dirtyEntries yields the entries from an offset on that a compaction can replace: up to one whose object goes on
// beyond it, of whose end no producer state is known.
func (c *Compactor) dirtyEntries(ctx context.Context, m format.Manifest, from protocol.Offset) iter.Seq2[format.Entry, error] {
	return func(yield func(format.Entry, error) bool) {
		for e, err := range m.Scan(c.pages.load(ctx), from) {
			if err == nil {
				name, bad := format.ParseKey(e.ObjectKey)
				if bad != nil || name.End != e.End {
					return
				}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func segmentsOf(entries iter.Seq2[format.Entry, error]) iter.Seq2[plan.Segment, error] {
	return func(yield func(plan.Segment, error) bool) {
		for e, err := range entries {
			if !yield(entrySegment(e), err) {
				return
			}
		}
	}
}

// firstTime is the greatest timestamp of an object's first batch: about as old as any in it.
func (c *Compactor) firstTime(ctx context.Context, e format.Entry) (protocol.Timestamp, error) {
	x, err := c.index(ctx, e)
	if err != nil {
		return 0, err
	}
	for b, err := range c.batches(ctx, e, x, e.Base) {
		if err != nil {
			return 0, err
		}
		return b.MaxTimestamp(), nil
	}
	return protocol.NoTimestamp, nil
}

// compact does one pass and files its outcome.
func (c *Compactor) compact(ctx context.Context, led Led, reason plan.Reason) {
	k := c.known[led.Key]
	p := &pass{Compactor: c, led: led, known: k, began: time.Now()}
	c.stats.running.Store(1)
	err := p.run(ctx)
	c.stats.running.Store(0)
	k.looked = false
	if err != nil {
		c.failed(ctx, led, err)
		return
	}
	k.failures, k.retryAt = 0, time.Time{}
	if reason == plan.ByHorizon {
		k.retryAt = time.Now().Add(c.cfg.Interval) // whatever it had to leave must not make the next at once
	}
	c.stats.passes.Add(1)
	s := p.stats()
	c.cfg.Logger.Info("cold compaction done", "topic", led.Topic, "partition", led.Key.Partition, "reason", string(reason),
		"up_to", p.covered, "bytes_read", s.BytesRead, "bytes_kept", s.BytesKept, "records_read", s.RecordsRead,
		"records_dropped", s.RecordsRead-s.RecordsKept, "tombstones", s.Tombstones, "took", time.Since(p.began))
}

// failed puts a partition off. A damaged object stops it until the manifest names that no more: what cannot be
// read in full cannot be compacted, and what lies above may need what is in it.
func (c *Compactor) failed(ctx context.Context, led Led, err error) {
	if ctx.Err() != nil {
		return
	}
	k := c.known[led.Key]
	k.failures++
	wait := c.backoff.after(k.failures)
	k.retryAt = time.Now().Add(wait)
	if errors.Is(err, errMoved) || errors.Is(err, errSuperseded) {
		c.cfg.Logger.Debug("cold compaction begins anew", "topic", led.Topic, "partition", led.Key.Partition, "retry_in", wait, "err", err)
		return
	}
	c.stats.errors.Add(1)
	c.mu.Lock()
	c.last = fmt.Sprintf("%s-%d: %v", led.Topic, led.Key.Partition, err)
	c.mu.Unlock()
	var bad *damagedError
	if errors.As(err, &bad) {
		k.damaged = bad.entry
		c.cfg.Logger.Error("cold compaction stands still: an object is damaged", "topic", led.Topic, "partition", led.Key.Partition,
			"object", bad.entry.ObjectKey, "base", bad.entry.Base, "end", bad.entry.End, "err", err)
		return
	}
	c.cfg.Logger.Warn("cold compaction failed", "topic", led.Topic, "partition", led.Key.Partition, "failures", k.failures, "retry_in", wait, "err", err)
}

// damagedError names the entry whose object is missing or not what was written. It is ErrCorrupt.
type damagedError struct {
	entry format.Entry
	err   error
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("%v: %s: %v", ErrCorrupt, e.entry.ObjectKey, e.err)
}

func (e *damagedError) Unwrap() []error { return []error{ErrCorrupt, e.err} }

// CompactorStats counts since the start of the process.
type CompactorStats struct {
	Passes         int64 // finished
	Steps          int64 // committed
	Objects        int64 // written
	BytesRead      int64 // of batches
	BytesWritten   int64 // of objects
	RecordsRead    int64
	RecordsDropped int64
	Errors         int64
	Running        int64  // 1 while a pass is under way
	Stopped        int64  // partitions that stand still because an object of theirs is damaged
	LastError      string // "" for none
}

type compactorCounters struct {
	passes, steps, objects, bytesRead, bytesWritten, recordsRead, recordsDropped, errors, running, stopped counter
}

// Stats are the counters now.
func (c *Compactor) Stats() CompactorStats {
	s := &c.stats
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	return CompactorStats{
		Passes: s.passes.Load(), Steps: s.steps.Load(), Objects: s.objects.Load(), BytesRead: s.bytesRead.Load(), BytesWritten: s.bytesWritten.Load(),
		RecordsRead: s.recordsRead.Load(), RecordsDropped: s.recordsDropped.Load(), Errors: s.errors.Load(),
		Running: s.running.Load(), Stopped: s.stopped.Load(), LastError: last,
	}
}

// pacer spreads bytes over time. It is for one goroutine.
type pacer struct {
	perSec int64
	next   time.Time // when all that was spent is paid for
}

// pacerSlack is what may be spent ahead of time: shorter sleeps are not worth it.
const pacerSlack = 50 * time.Millisecond

func (p *pacer) spend(ctx context.Context, bytes int64) error {
	if p.perSec <= 0 {
		return ctx.Err()
	}
	if now := time.Now(); p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(bytes) / float64(p.perSec) * float64(time.Second)))
	if wait := time.Until(p.next); wait > pacerSlack {
		return sleep(ctx, wait)
	}
	return ctx.Err()
}
