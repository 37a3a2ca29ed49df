package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/stratabroker/strata/integration/bench/lab"
	"github.com/stratabroker/strata/integration/bench/load"
	"github.com/stratabroker/strata/integration/bench/report"
)

// row is a benchmark row and how it is run.
type row struct {
	report.Row
	run  func(context.Context, *run) error
	disk disk
}

// disk is what a row's data takes of it at most, in GiB; the zero is little.
type disk struct{ always, eachPair int64 }

// littleDisk is for what every row has: journals, indexes, some files for each partition.
const littleDisk = 4

// spareDisk stays free beside what a row writes: a nearly full file system gives space in small pieces, and
// writes to it were seen to take half as long again.
const spareDisk = 24

func (d disk) bytes(pairs int) int64 {
	return (littleDisk + spareDisk + d.always + d.eachPair*int64(pairs)) << 30
}

// run is one run of one row.
type run struct {
	*lab.Lab
	pairs   int
	out     io.Writer // progress
	env     []string  // of the brokers, beside a setup's own
	samples []report.Sample
	notes   []string
	mu      sync.Mutex
	brokers []*lab.Broker // all that were formatted, closed with the run; guarded by mu while sides are prepared at once
	closers []func() error
}

func (r *run) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *run) say(format string, args ...any) { _, _ = fmt.Fprintf(r.out, format+"\n", args...) }

// format makes a broker that does not run yet.
func (r *run) format(ctx context.Context, s lab.Setup) (*lab.Broker, error) {
	s.Env = append(slices.Clone(s.Env), r.env...)
	b, err := r.Format(ctx, s)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.brokers = append(r.brokers, b)
	return b, nil
}

// start makes a broker and starts it.
func (r *run) start(ctx context.Context, s lab.Setup) (*lab.Broker, error) {
	b, err := r.format(ctx, s)
	if err != nil {
		return nil, err
	}
	return b, b.Start(ctx)
}

func (r *run) close() error {
	var errs []error
	for _, b := range r.brokers {
		errs = append(errs, b.Close())
	}
	for _, f := range r.closers {
		errs = append(errs, f())
	}
	r.brokers, r.closers = nil, nil
	return errors.Join(errs...)
}

// leg is one side's turn.
type leg struct {
	side  string
	run   func(context.Context) (map[string]float64, error)
	renew func(context.Context) error // deletes what the legs so far have written; nil where that is little or still needed
}

// How many legs a side may take to become as fast as it gets: the JVM compiles
// while it runs, which takes it ten times as long as a leg.
const (
	warmLegs = 12 // at most
	warmIdle = 3  // legs in a row that brought nothing: one of them may have met a disturbance
)

// warm runs each leg until warmIdle in a row were no more than a twentieth better than the best before.
func (r *run) warm(ctx context.Context, metric string, legs ...leg) error {
	for _, l := range legs {
		best, idle := 0.0, 0
		for i := 0; i < warmLegs && idle < warmIdle; i++ {
			values, err := r.turn(ctx, "warm-up", l)
			if err != nil {
				return err
			}
			if values[metric] > best*1.05 {
				idle = 0
			} else {
				idle++
			}
			best = max(best, values[metric])
		}
		if l.renew != nil {
			if err := l.renew(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// interleave runs the legs in turn, A B B A A B B A.
func (r *run) interleave(ctx context.Context, pairs int, legs ...leg) error {
	for pair := range pairs {
		for i := range legs {
			l := legs[i]
			if pair%2 == 1 {
				l = legs[len(legs)-1-i]
			}
			if err := r.sample(ctx, pair, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// sample runs one leg of a pair and keeps what it measured.
func (r *run) sample(ctx context.Context, pair int, l leg) error {
	values, err := r.turn(ctx, fmt.Sprintf("pair %d", pair+1), l)
	if err == nil {
		r.samples = append(r.samples, report.Sample{Side: l.side, Pair: pair, Values: values})
	}
	return err
}

// turn runs one leg.
func (r *run) turn(ctx context.Context, name string, l leg) (map[string]float64, error) {
	if err := r.Settle(); err != nil {
		return nil, err
	}
	values, err := l.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.side, err)
	}
	r.say("  %-8s %-17s %s", name, l.side, inBrief(values))
	return values, nil
}

// measure warms the legs up and then runs them in turn.
func (r *run) measure(ctx context.Context, metric string, legs ...leg) error {
	if err := r.warm(ctx, metric, legs...); err != nil {
		return err
	}
	return r.interleave(ctx, r.pairs, legs...)
}

// loadLeg is a leg that runs the load generator.
func (r *run) loadLeg(side string, b *lab.Broker, spec load.Spec) leg {
	l := leg{side: side, run: func(ctx context.Context) (map[string]float64, error) {
		m, err := r.Run(ctx, b, spec)
		return throughput(m), err
	}}
	if spec.Kind == load.Produce && spec.Bytes > 0 {
		l.renew = func(ctx context.Context) error { return b.Renew(ctx, spec.Topic) }
	}
	return l
}

// Keys of the metrics that legs with the load generator give.
const (
	mbps    = "mbps"
	records = "records"
	cpu     = "cpu"
	client  = "client"
	p50     = "p50"
	p99     = "p99"
	p999    = "p999"
)

var loadMetrics = []report.Metric{
	{Key: mbps, Title: "throughput", Unit: "MB/s"},
	{Key: cpu, Title: "broker CPU", Unit: "s/GB"},
	{Key: client, Title: "load generator's share of the CPU time used", Unit: "%"},
}

func throughput(m lab.Measured) map[string]float64 {
	gigabytes := float64(m.Bytes) / 1e9
	return map[string]float64{
		mbps:    m.MBps(),
		records: float64(m.Records) / m.Seconds,
		cpu:     m.BrokerCPU / gigabytes,
		client:  100 * m.CPUSeconds / (m.CPUSeconds + m.BrokerCPU),
	}
}
