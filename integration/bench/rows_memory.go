package main

import (
	"context"
	"time"

	"github.com/stratabroker/strata/integration/bench/lab"
	"github.com/stratabroker/strata/integration/bench/load"
	"github.com/stratabroker/strata/integration/bench/report"
)

// rssAfter is the resident memory in MB once the broker was left alone for a while.
func rssAfter(ctx context.Context, b *lab.Broker) (float64, error) {
	select {
	case <-time.After(idleFor):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	bytes, err := b.RSS()
	return float64(bytes) / 1e6, err
}

// rssIdle is a broker that has just begun.
func rssIdle(ctx context.Context, r *run) error {
	return r.interleave(ctx, r.pairs, r.fresh(func(ctx context.Context, b *lab.Broker) (map[string]float64, error) {
		if err := b.Start(ctx); err != nil {
			return nil, err
		}
		mb, err := rssAfter(ctx, b)
		return map[string]float64{rss: mb}, err
	})...)
}

// withMost is a broker of 10,000 partitions: its start and its memory.
func withMost(ctx context.Context, r *run) error {
	return r.eachKind(ctx, r.pairs, func(ctx context.Context, kind lab.Kind) (*lab.Broker, error) {
		return r.stocked(ctx, kind, most)
	}, func(ctx context.Context, b *lab.Broker) (map[string]float64, error) {
		took, err := firstAck(ctx, b, false)
		if err != nil {
			return nil, err
		}
		started, err := rssAfter(ctx, b)
		if err != nil {
			return nil, err
		}
		for i := range most / topicSize {
			if err := b.AwaitTopic(ctx, manyTopic(i), topicSize); err != nil {
				return nil, err
			}
			if err := writeEach(ctx, r, b, manyTopic(i)); err != nil {
				return nil, err
			}
		}
		written, err := rssAfter(ctx, b)
		if err != nil {
			return nil, err
		}
		return map[string]float64{startMost: took, rss: started, rssWritten: written}, b.Stop()
	})
}

// rssConnections is a broker with 10,000 connections.
func rssConnections(ctx context.Context, r *run) error {
	return r.eachKind(ctx, r.pairs, func(ctx context.Context, kind lab.Kind) (*lab.Broker, error) {
		return r.format(ctx, defaultSetup(kind))
	}, func(ctx context.Context, b *lab.Broker) (map[string]float64, error) {
		if err := b.Start(ctx); err != nil {
			return nil, err
		}
		before, err := rssAfter(ctx, b)
		if err != nil {
			return nil, err
		}
		release, err := load.Hold(ctx, b.Addr, connections)
		if err != nil {
			return nil, err
		}
		defer release()
		after, err := rssAfter(ctx, b)
		if err != nil {
			return nil, err
		}
		return map[string]float64{rss: after, rssEach: (after - before) / connections * 1000}, b.Stop()
	})
}

func memoryRows() []row {
	memory := report.Metric{Key: rss, Title: "RSS", Unit: "MB"}
	return []row{
		{report.Row{
			Name: "rss-idle", Title: "Memory of an idle broker",
			Method:  "VmRSS, 4 s after a broker without topics became ready.",
			Metrics: []report.Metric{memory},
			Claims:  []report.Claim{{Metric: rss, A: strata, AtMost: true, Target: 60}, shown(rss)},
		}, rssIdle, disk{}},
		{report.Row{
			Name: "partitions-10000", Title: "Start and memory with 10,000 partitions",
			Method: "10 topics of 1,000 partitions that hold a record each, after a clean stop. From the start of the process to the first acknowledged record (as in row start); " +
				"VmRSS 4 s after that, and 4 s after one more record to each partition.",
			Metrics: []report.Metric{
				{Key: startMost, Title: "start", Unit: "s"},
				{Key: rss, Title: "RSS after the start", Unit: "MB"},
				{Key: rssWritten, Title: "RSS after a record to each", Unit: "MB"},
			},
			Claims: []report.Claim{atMost(startMost, 0.1), atMost(rss, 0.25), atMost(rssWritten, 0.25)},
		}, withMost, disk{}},
		{report.Row{
			Name: "conns-10000", Title: "Memory with 10,000 connections",
			Method:  "VmRSS 4 s after 10,000 connections were opened, which have each asked for ApiVersions and then hold still.",
			Metrics: []report.Metric{memory, {Key: rssEach, Title: "more than without, a connection", Unit: "kB"}},
			Claims:  []report.Claim{shown(rss), shown(rssEach)},
		}, rssConnections, disk{}},
	}
}
