package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stratabroker/strata/integration/bench/lab"
	"github.com/stratabroker/strata/integration/bench/load"
	"github.com/stratabroker/strata/integration/bench/report"
)

const (
	latencyLeg  = 5 * time.Second
	latencySkip = 500 * time.Millisecond
	probeLimit  = 2 * time.Second
)

// probe is the load of the latency rows as a closed loop, which tells the maximum.
var probe = load.Spec{
	Kind: load.Produce, Topic: topic, Partitions: 6, Conns: 8, Window: 5, PerRequest: 1,
	BatchRecords: 16, RecordBytes: 1024, Acks: -1, Limit: probeLimit,
}

// maximum is the requests a second that a broker takes of the probe's load, once it is warm.
func (r *run) maximum(ctx context.Context, b *lab.Broker, topic string) (float64, error) {
	spec := probe
	spec.Topic = topic
	const requests = "requests"
	most := 0.0
	err := r.warm(ctx, requests, leg{side: "probe of " + b.Name, run: func(ctx context.Context) (map[string]float64, error) {
		m, err := r.Run(ctx, b, spec)
		rate := float64(m.Requests) / m.Seconds
		most = max(most, rate)
		return map[string]float64{requests: rate}, err
	}, renew: func(ctx context.Context) error { return b.Renew(ctx, topic) }})
	return most, err
}

// paced is the probe's load at a rate.
func paced(rate float64) load.Spec {
	s := probe
	s.Kind, s.Rate, s.Limit, s.Skip = load.Paced, rate, latencyLeg, latencySkip
	return s
}

func latencies(prefix string, m lab.Measured) map[string]float64 {
	return map[string]float64{prefix + p50: m.P50, prefix + p99: m.P99, prefix + p999: m.P999, prefix + cpu: m.BrokerCPU / float64(m.Bytes) * 1e9}
}

// Prefixes of the metrics under each promise.
const (
	ofCache = "cache_"
	ofFsync = "fsync_"
)

func latencyMetrics(prefix, title string) []report.Metric {
	return []report.Metric{
		{Key: prefix + p50, Title: "p50, " + title, Unit: "ms"},
		{Key: prefix + p99, Title: "p99, " + title, Unit: "ms"},
		{Key: prefix + p999, Title: "p99.9, " + title, Unit: "ms"},
		{Key: prefix + cpu, Title: "broker CPU, " + title, Unit: "s/GB"},
	}
}

func latencyRow(percent int, claims []report.Claim) row {
	about := report.Row{
		Name: fmt.Sprintf("latency-%d", percent), Title: fmt.Sprintf("Latency at %d %% of Kafka's maximum", percent),
		Method: fmt.Sprintf("Open loop: batches of 16 records of 1 KiB fall due at fixed times, at %d %% of the rate that Kafka takes of the same batches from the same 8 producers "+
			"in a closed loop (probed before until it no longer rose, noted below), over 6 partitions, acks=all. Latency runs from the time a batch was due, whenever it could be sent, to its answer. "+
			"A leg is 5 s, of which the first half second is left out. Once with the page-cache promise on both sides, once with fsync on both.", percent),
		Metrics: slices.Concat(latencyMetrics(ofCache, "page cache"), latencyMetrics(ofFsync, "fsync")),
		Claims:  claims,
	}
	return row{about, func(ctx context.Context, r *run) error {
		for _, of := range []struct {
			promise promise
			prefix  string
		}{{pageCache, ofCache}, {fsync, ofFsync}} {
			if err := r.latency(ctx, of.promise, of.prefix, percent); err != nil {
				return err
			}
			if err := r.close(); err != nil {
				return err
			}
		}
		return nil
	}, pacedDisk}
}

// pacedDisk is for a probe of some 500 MB/s, whose data goes before the legs, and legs at the half of it on both sides.
var pacedDisk = disk{warmLegs, 3}

func (r *run) latency(ctx context.Context, p promise, prefix string, percent int) error {
	ours, theirs, err := r.both(ctx, p, probe.Partitions)
	if err != nil {
		return err
	}
	most, err := r.maximum(ctx, theirs, topic)
	if err != nil {
		return err
	}
	rate := most * float64(percent) / 100
	spec := paced(rate)
	mb := float64(spec.BatchRecords*spec.RecordBytes) / 1e6
	r.note("%s Kafka's maximum was %.0f batches a second (%.0f MB/s); the legs sent %.0f a second (%.0f MB/s).",
		map[promise]string{pageCache: "Page cache:", fsync: "fsync:"}[p], most, most*mb, rate, rate*mb)
	legOf := func(side string, b *lab.Broker) leg {
		return leg{side: side, run: func(ctx context.Context) (map[string]float64, error) {
			m, err := r.Run(ctx, b, spec)
			return latencies(prefix, m), err
		}}
	}
	return r.interleave(ctx, r.pairs, legOf(strata, ours), legOf(kafka, theirs))
}

func latencyRows() []row {
	var half []report.Claim
	for _, prefix := range []string{ofCache, ofFsync} {
		half = append(half, shown(prefix+p50), atMost(prefix+p99, 0.5), atMost(prefix+p999, 0.3))
	}
	var tenth []report.Claim
	for _, prefix := range []string{ofCache, ofFsync} {
		tenth = append(tenth, shown(prefix+p50), shown(prefix+p99), shown(prefix+p999))
	}
	return []row{latencyRow(10, tenth), latencyRow(50, half)}
}
