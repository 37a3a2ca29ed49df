package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/drivers"
)

// How long a start waits for the bucket: the first one needs it, later ones go
// on without and ask again.
const (
	bindTimeout   = 10 * time.Second
	rebindTimeout = time.Second
)

// bucket is the cold tier of this broker.
type bucket struct {
	url       object.URL
	logger    *slog.Logger // its lines name the bucket
	store     object.Store
	reader    *tiering.Reader
	archiver  *tiering.Archiver
	compactor *tiering.Compactor
	sweeper   *tiering.Sweeper
	roots     *tiering.RootWriter
	bind      func(context.Context) error // nil once the bucket is ours
	broker    *Broker
}

// openStore opens the store that strata.bucket.url names; nothing is sent to it.
func (b *Broker) openStore(ctx context.Context) error {
	raw := b.cfg.Static.String("strata.bucket.url")
	if raw == "" {
		return nil
	}
	url, err := object.ParseURL(raw)
	if err != nil {
		return fmt.Errorf("strata.bucket.url: %w", err)
	}
	k := &bucket{url: url, logger: b.loggers.Logger("tiering").With("bucket", url.String()), store: b.cfg.Store, broker: b}
	if k.store == nil {
		if k.store, err = drivers.Open(ctx, url, b.loggers.Logger("tiering.object")); err != nil {
			return fmt.Errorf("strata.bucket.url=%s: %w", url, err)
		}
	}
	b.bucket = k
	return nil
}

// bindBucket ties the cluster to its bucket. One that is not
// ours stops the start, untouched. One that does not answer stops the first
// start only: later ones go on and ask again (DESIGN D22).
func (b *Broker) bindBucket(ctx context.Context) error {
	k, bound := b.bucket, b.node.Image().Bucket()
	if k == nil && bound.Generation != 0 {
		return fmt.Errorf("strata.bucket.url is not set, but part of this cluster's data is in %s: set it", bound.URL)
	}
	if k == nil {
		return nil
	}
	url := k.url
	first := bound.Generation == 0
	k.bind = func(ctx context.Context) error { return k.bindOnce(ctx, first) }
	timeout := rebindTimeout
	if first {
		timeout = bindTimeout
	}
	bindCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := k.bind(bindCtx)
	switch {
	case err == nil:
		k.bind = nil
	case first, errors.Is(err, tiering.ErrRefused), errors.Is(err, format.ErrNewerFormat):
		return fmt.Errorf("strata.bucket.url=%s: %w", url, err)
	default:
		k.logger.Error("the bucket does not answer: the broker starts without it and asks again", "error", err)
	}
	k.reader = tiering.NewReader(tiering.ReaderConfig{
		Store: k.store, Metadata: b.node, CacheBytes: b.cfg.Static.Int("strata.cache.bytes"), IndexCacheBytes: b.cfg.Static.Int("strata.cache.index.bytes"),
		Parallel: int(b.cfg.Static.Int("remote.log.reader.threads")), Logger: k.named("tiering.reader"),
	})
	return nil
}

// named is a logger whose lines name the bucket.
func (k *bucket) named(name string) *slog.Logger {
	return k.broker.loggers.Logger(name).With("bucket", k.url.String())
}

func (k *bucket) bindOnce(ctx context.Context, first bool) error {
	if err := drivers.Probe(ctx, k.store); err != nil {
		return err
	}
	_, err := tiering.Bind(ctx, tiering.BindConfig{
		Store: k.store, Metadata: k.broker.node, URL: k.url.String(), Region: k.broker.cfg.Static.String("broker.rack"),
		NewDataFolder: first, Logger: k.named("tiering.bind"),
	})
	return err
}

// compose makes the parts that write the bucket; run starts them.
func (k *bucket) compose() {
	b := k.broker
	s, named := b.cfg.Static, k.named
	k.archiver = tiering.NewArchiver(tiering.ArchiverConfig{
		Store: k.store, Metadata: b.node, Hot: hot{b.replicas}, Parallel: int(s.Int("remote.log.manager.copier.thread.pool.size")),
		Interval: s.Millis("remote.log.manager.task.interval.ms"), Deadline: s.Millis("strata.upload.timeout.ms"), Logger: named("tiering.archiver"),
	})
	k.compactor = tiering.NewCompactor(tiering.CompactorConfig{
		Store: k.store, Metadata: b.node, Hot: hot{b.replicas}, Archiver: k.archiver, Spool: b.spool, Producers: producersAt,
		Interval: s.Millis("strata.cold.compaction.interval.ms"), MapBytes: s.Int("strata.cold.compaction.map.bytes"),
		BytesPerSec: s.Int("strata.cold.compaction.max.bytes.per.second"), Deadline: s.Millis("strata.upload.timeout.ms"), Logger: named("tiering.compactor"),
	})
	k.sweeper = tiering.NewSweeper(tiering.SweeperConfig{
		Store: k.store, Metadata: b.node, Grace: s.Millis("strata.sweep.grace.ms"), Interval: s.Millis("strata.sweep.interval.ms"),
		Active: b.isController, Logger: named("tiering.sweeper"),
	})
	k.roots = tiering.NewRootWriter(tiering.RootWriterConfig{Store: k.store, Metadata: b.node, Active: b.isController, Logger: named("tiering.roots")})
}

func (k *bucket) onImage(d metadata.Delta, img *metadata.Image) {
	k.roots.Changed(d, img)
	for _, p := range d.Partitions {
		k.archiver.Notify(p)
	}
	k.notify(d.Configs)
}

// run works on the bucket until ctx ends.
func (k *bucket) run(ctx context.Context) {
	for delay := time.Second; k.bind != nil; delay = min(2*delay, time.Minute) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		if err := k.bind(ctx); err == nil {
			k.bind = nil
		} else if ctx.Err() == nil {
			k.logger.Warn("the bucket cannot be bound", "error", err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { k.archiver.Run(ctx) })
	if k.broker.cfg.Static.Bool("log.cleaner.enable") {
		wg.Go(func() { k.compactor.Run(ctx) })
	}
	wg.Go(func() { k.sweeper.Run(ctx) })
	wg.Go(func() { k.roots.Run(ctx) })
	wg.Go(func() { k.sealInternal(ctx) })
	wg.Wait()
}

// lag is what is sealed and not in the bucket; nothing on a broker without one.
func (k *bucket) lag(l *replica.Leader) tiering.Lag {
	if k == nil {
		return tiering.Lag{}
	}
	return k.archiver.Lag(l.Key())
}

func (k *bucket) close() error {
	if k.reader != nil {
		k.reader.Close()
	}
	return k.store.Close()
}
