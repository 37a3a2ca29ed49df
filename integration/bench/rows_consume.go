package main

import (
	"context"
	"fmt"

	"github.com/stratabroker/strata/integration/bench/lab"
	"github.com/stratabroker/strata/integration/bench/load"
	"github.com/stratabroker/strata/integration/bench/report"
)

const (
	storedBytes  = 2 << 30 // what the consume rows read, again and again
	consumeBytes = 4 << 30 // of a leg
)

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

func consumeRow(about report.Row, groups int) row {
	return row{about, func(ctx context.Context, r *run) error {
		ours, theirs, err := r.both(ctx, pageCache, batched.Partitions)
		if err != nil {
			return err
		}
		for _, b := range []*lab.Broker{ours, theirs} {
			if err := r.stock(ctx, b, storedBytes); err != nil {
				return err
			}
		}
		spec := consume(groups)
		return r.interleave(ctx, warmRounds, r.pairs, r.loadLeg(strata, ours, spec), r.loadLeg(kafka, theirs, spec))
	}}
}

func consumeRows() []row {
	targets := []report.Claim{atLeast(mbps, 1.2), atMost(cpu, 0.7)}
	return []row{
		consumeRow(report.Row{
			Name: "consume-1", Title: "Hot consume by 1 group",
			Method:  "A group of 3 members reads 2 GiB in 6 partitions from the page cache, over and over. Fetches as Kafka's consumer sends them: 1 MiB a partition, 50 MiB in all, one in flight a member. Each batch's CRC and offset are checked.",
			Metrics: loadMetrics, Claims: targets,
		}, 1),
		consumeRow(report.Row{
			Name: "consume-8", Title: "Hot consume by 8 groups",
			Method:  "As consume-1, with 8 groups that each read everything.",
			Metrics: loadMetrics, Claims: targets,
		}, 8),
	}
}
