package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stratabroker/strata/integration/bench/lab"
	"github.com/stratabroker/strata/integration/bench/load"
	"github.com/stratabroker/strata/integration/bench/report"
)

// Keys of the metrics of the rows about starts and memory.
const (
	startEmpty  = "empty"
	startMany   = "many"
	startMost   = "most"
	startKilled = "killed"

	rss        = "rss"
	rssWritten = "rss_written"
	rssEach    = "rss_each"
)

const (
	many        = 1000
	most        = 10_000
	topicSize   = 1000 // partitions of a topic of the rows with many
	idleFor     = 4 * time.Second
	connections = 10_000
	firstTopic  = "first"
)

// defaultSetup is a broker as its makers ship it, but for what both are given.
func defaultSetup(kind lab.Kind) lab.Setup { return lab.Setup{Kind: kind, Name: string(kind)} }

// firstAck starts a broker and returns the seconds until it has acknowledged a record.
func firstAck(ctx context.Context, b *lab.Broker, create bool) (float64, error) {
	begun := time.Now()
	if err := b.Launch(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	err := load.FirstAck(ctx, b.Addr, firstTopic, create, b.Err)
	return time.Since(begun).Seconds(), err
}

const startLimit = 5 * time.Minute

// populate makes topics with so many partitions in all, and writes a record to each.
func populate(ctx context.Context, r *run, b *lab.Broker, partitions int) error {
	for first := 0; first < partitions; first += topicSize {
		name := manyTopic(first / topicSize)
		if err := b.CreateTopic(ctx, name, topicSize); err != nil {
			return err
		}
		if err := writeEach(ctx, r, b, name); err != nil {
			return err
		}
	}
	return b.CreateTopic(ctx, firstTopic, 1)
}

// writeEach writes a record to each partition of one of populate's topics.
func writeEach(ctx context.Context, r *run, b *lab.Broker, topic string) error {
	spec := spread
	spec.Topic, spec.Conns, spec.PerRequest, spec.Window, spec.Limit = topic, 1, 100, 1, 0
	spec.Bytes = int64(topicSize) * int64(spec.RecordBytes)
	_, err := r.Run(ctx, b, spec)
	return err
}

// stocked makes a broker with so many partitions, and stops it.
func (r *run) stocked(ctx context.Context, kind lab.Kind, partitions int) (*lab.Broker, error) {
	b, err := r.start(ctx, defaultSetup(kind))
	if err != nil {
		return nil, err
	}
	if err := populate(ctx, r, b, partitions); err != nil {
		return nil, err
	}
	return b, b.Stop()
}

// eachKind gives both sides a broker, at the same time as nothing is measured yet, and then runs legs on them in turn.
func (r *run) eachKind(ctx context.Context, pairs int, prepare func(context.Context, lab.Kind) (*lab.Broker, error), measure func(context.Context, *lab.Broker) (map[string]float64, error)) error {
	legs := make([]leg, len(kinds))
	all, preparing := errgroup.WithContext(ctx)
	for i, of := range kinds {
		all.Go(func() error {
			b, err := prepare(preparing, of.kind)
			legs[i] = leg{side: of.side, run: func(ctx context.Context) (map[string]float64, error) { return measure(ctx, b) }}
			if err != nil {
				return fmt.Errorf("%s: %w", of.side, err)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	return errors.Join(r.interleave(ctx, pairs, legs...), r.close())
}

// kinds are the brokers and their sides.
var kinds = []struct {
	side string
	kind lab.Kind
}{{strata, lab.Strata}, {kafka, lab.Kafka}}

// fresh gives both sides a leg on a broker that has never run and is gone with the leg.
func (r *run) fresh(measure func(context.Context, *lab.Broker) (map[string]float64, error)) (legs []leg) {
	for _, of := range kinds {
		legs = append(legs, leg{side: of.side, run: func(ctx context.Context) (map[string]float64, error) {
			b, err := r.format(ctx, defaultSetup(of.kind))
			if err != nil {
				return nil, err
			}
			values, err := measure(ctx, b)
			return values, errors.Join(err, b.Close())
		}})
	}
	return legs
}

// startsEmpty: a formatted folder, no topic.
func (r *run) startsEmpty(ctx context.Context) error {
	legs := r.fresh(func(ctx context.Context, b *lab.Broker) (map[string]float64, error) {
		took, err := firstAck(ctx, b, true)
		return map[string]float64{startEmpty: took}, err
	})
	for _, l := range legs { // so that programs and jars are in the page cache
		if _, err := r.turn(ctx, "warm-up", l); err != nil {
			return err
		}
	}
	return r.interleave(ctx, r.pairs, legs...)
}

// startsMany: 1,000 partitions with a record each, after a clean stop.
func (r *run) startsMany(ctx context.Context) error {
	return r.eachKind(ctx, r.pairs, func(ctx context.Context, kind lab.Kind) (*lab.Broker, error) {
		return r.stocked(ctx, kind, many)
	}, func(ctx context.Context, b *lab.Broker) (map[string]float64, error) {
		took, err := firstAck(ctx, b, false)
		if err != nil {
			return nil, err
		}
		return map[string]float64{startMany: took}, b.Stop()
	})
}

// startsKilled: kill -9 after a gigabyte more of data.
func (r *run) startsKilled(ctx context.Context) error {
	return r.eachKind(ctx, r.pairs, func(ctx context.Context, kind lab.Kind) (*lab.Broker, error) {
		b, err := r.start(ctx, defaultSetup(kind))
		if err != nil {
			return nil, err
		}
		if err := b.CreateTopic(ctx, firstTopic, 1); err != nil {
			return nil, err
		}
		if err := b.CreateTopic(ctx, topic, batched.Partitions); err != nil {
			return nil, err
		}
		return b, b.Stop()
	}, func(ctx context.Context, b *lab.Broker) (map[string]float64, error) {
		if err := b.Start(ctx); err != nil {
			return nil, err
		}
		if err := b.AwaitTopic(ctx, topic, batched.Partitions); err != nil {
			return nil, err
		}
		if err := r.stock(ctx, b, legBytes); err != nil {
			return nil, err
		}
		b.Kill()
		took, err := firstAck(ctx, b, false)
		if err != nil {
			return nil, err
		}
		return map[string]float64{startKilled: took}, b.Stop()
	})
}

func startRows() []row {
	return []row{{report.Row{
		Name: "start", Title: "Start to the first acknowledged record",
		Method: "From the start of the process to the answer to a Produce (acks=all), asked for every millisecond. Empty: a formatted folder without a topic; the topic is made in that time. " +
			"1,000 partitions: each holds a record, the broker was stopped cleanly. After kill -9: while it held a gigabyte more of unsynced (Kafka) or just synced (strata) records in 6 partitions at each leg. " +
			"Both brokers in their default mode, of which strata's promises more (fsync). See partitions-10000 for the start with 10,000.",
		Metrics: []report.Metric{
			{Key: startEmpty, Title: "empty", Unit: "s"},
			{Key: startMany, Title: "1,000 partitions", Unit: "s"},
			{Key: startKilled, Title: "after kill -9", Unit: "s"},
		},
		Claims: []report.Claim{atMost(startEmpty, 0.1), atMost(startMany, 0.1), atMost(startKilled, 0.1)},
	}, func(ctx context.Context, r *run) error {
		for _, part := range []func(context.Context) error{r.startsEmpty, r.startsMany, r.startsKilled} {
			if err := part(ctx); err != nil {
				return err
			}
		}
		return nil
	}, disk{eachPair: 2}}}
}
