package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/stratabroker/strata/integration/bench/lab"
	"github.com/stratabroker/strata/integration/bench/load"
	"github.com/stratabroker/strata/integration/bench/report"
)

// row is a benchmark row and how it is run.
type row struct {
	report.Row
	run func(context.Context, *run) error
}

// run is one run of one row.
type run struct {
	*lab.Lab
	pairs   int
	out     io.Writer // progress
	samples []report.Sample
	notes   []string
	brokers []*lab.Broker // all that were formatted, closed with the run
}

func (r *run) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *run) say(format string, args ...any) { _, _ = fmt.Fprintf(r.out, format+"\n", args...) }

// format makes a broker that does not run yet.
func (r *run) format(ctx context.Context, s lab.Setup) (*lab.Broker, error) {
	b, err := r.Format(ctx, s)
	if err != nil {
		return nil, err
	}
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
	return errors.Join(errs...)
}

// leg is one side's turn.
type leg struct {
	side string
	run  func(context.Context) (map[string]float64, error)
}

// interleave runs the legs in turn, A B B A A B B A, after warm rounds that do not count.
func (r *run) interleave(ctx context.Context, warm, pairs int, legs ...leg) error {
	for round := range warm + pairs {
		for i := range legs {
			l := legs[i]
			if round%2 == 1 {
				l = legs[len(legs)-1-i]
			}
			if err := r.Settle(); err != nil {
				return err
			}
			values, err := l.run(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", l.side, err)
			}
			pair := round - warm
			if pair < 0 {
				r.say("  warm-up  %-14s %s", l.side, inBrief(values))
				continue
			}
			r.say("  pair %-3d %-14s %s", pair+1, l.side, inBrief(values))
			r.samples = append(r.samples, report.Sample{Side: l.side, Pair: pair, Values: values})
		}
	}
	return nil
}

// loadLeg is a leg that runs the load generator.
func (r *run) loadLeg(side string, b *lab.Broker, spec load.Spec) leg {
	return leg{side, func(ctx context.Context) (map[string]float64, error) {
		m, err := r.Run(ctx, b, spec)
		return throughput(m), err
	}}
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
