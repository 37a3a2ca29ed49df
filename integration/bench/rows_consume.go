package main

import (
	"context"
	"fmt"
	"time"

	"github.com/stratabroker/strata/integration/bench/lab"
	"github.com/stratabroker/strata/integration/bench/load"
	"github.com/stratabroker/strata/integration/bench/report"
)

const (
	storedBytes  = 2 << 30 // what the consume rows read, again and again
	consumeBytes = 4 << 30 // of a leg
)

var storedTwice = disk{always: 2 * storedBytes >> 30}

func consume(groups int) load.Spec {
	return load.Spec{Kind: load.Consume, Topic: topic, Partitions: 6, Groups: groups, Members: 3, Wrap: true, Bytes: consumeBytes, Limit: legLimit}
}

// stock fills the topic of a broker.
func (r *run) stock(ctx context.Context, b *lab.Broker, bytes int64) error {
	spec := batched
	spec.Bytes, spec.Limit = bytes, 0
	if _, err := r.Run(ctx, b, spec); err != nil {
		return fmt.Errorf("fill the topic: %w", err)
	}
	return nil
}

// stockBoth starts both brokers with the same data, and has all of it checked once.
func (r *run) stockBoth(ctx context.Context) (ours, theirs *lab.Broker, err error) {
	ours, theirs, err = r.both(ctx, pageCache, batched.Partitions)
	if err != nil {
		return nil, nil, err
	}
	verify := consume(1)
	verify.Wrap, verify.Verify, verify.Bytes, verify.Limit = false, true, 0, 0
	for _, b := range []*lab.Broker{ours, theirs} {
		if err := r.stock(ctx, b, storedBytes); err != nil {
			return nil, nil, err
		}
		if _, err := r.Run(ctx, b, verify); err != nil {
			return nil, nil, err
		}
	}
	return ours, theirs, nil
}

func consumeRow(about report.Row, groups int) row {
	return row{about, func(ctx context.Context, r *run) error {
		ours, theirs, err := r.stockBoth(ctx)
		if err != nil {
			return err
		}
		spec := consume(groups)
		return r.measure(ctx, mbps, r.loadLeg(strata, ours, spec), r.loadLeg(kafka, theirs, spec))
	}, storedTwice}
}

// diskRow reads what is on the disk only.
func diskRow(about report.Row) row {
	return row{about, func(ctx context.Context, r *run) error {
		ours, theirs, err := r.stockBoth(ctx)
		if err != nil {
			return err
		}
		spec := consume(1)
		spec.Wrap, spec.Bytes = false, 0
		spec.Limit = diskLimit
		cold := func(side string, b *lab.Broker) leg {
			inner := r.loadLeg(side, b, spec)
			return leg{side: side, run: func(ctx context.Context) (map[string]float64, error) {
				if err := b.Evict(); err != nil {
					return nil, err
				}
				if err := r.Settle(); err != nil { // what was evicted is free memory now
					return nil, err
				}
				return inner.run(ctx)
			}}
		}
		return r.measure(ctx, mbps, cold(strata, ours), cold(kafka, theirs))
	}, storedTwice}
}

const diskLimit = 20 * time.Second

func consumeRows() []row {
	targets := []report.Claim{atLeast(mbps, 1.2), atMost(cpu, 0.7)}
	return []row{
		consumeRow(report.Row{
			Name: "consume-1", Title: "Hot consume by 1 group",
			Method: "A group of 3 members reads 2 GiB in 6 partitions from the page cache, over and over. Fetches as Kafka's consumer sends them: " +
				"1 MiB a partition, 50 MiB in all, one in flight a member. All data is checked once before (CRC, offsets); " +
				"in the legs only the head of each batch is, and the kernel drops the rest unread. A leg is 4 GiB, or what 4 s take.",
			Metrics: loadMetrics, Claims: targets,
		}, 1),
		consumeRow(report.Row{
			Name: "consume-8", Title: "Hot consume by 8 groups",
			Method:  "As consume-1, with 8 groups that each read everything.",
			Metrics: loadMetrics, Claims: targets,
		}, 8),
		diskRow(report.Row{
			Name: "consume-disk", Title: "Consume from disk",
			Method:  "As consume-1, once over the 2 GiB, after the pages of the log files were dropped from the page cache (posix_fadvise DONTNEED on each file; the rest of the cache stays full).",
			Metrics: loadMetrics, Claims: []report.Claim{shown(mbps), shown(cpu)},
		}),
	}
}
