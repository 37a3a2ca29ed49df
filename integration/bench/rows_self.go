package main

import (
	"context"

	"github.com/stratabroker/strata/integration/bench/lab"
	"github.com/stratabroker/strata/integration/bench/report"
)

// Sides of the self-check.
const (
	kafkaA = "Kafka A"
	kafkaB = "Kafka B"
)

const ofRead = "read_"

// selfRows is the row that sets two equal things against each other.
func selfRows() []row {
	about := report.Row{
		Name: "self", Title: "Self-check: Kafka against Kafka",
		Method: "Two Kafka brokers, same version, same settings, under the loads of produce-cache, consume-1 and latency-50 (page cache). What differs here is not a difference: " +
			"no other row claims a ratio whose median is nearer to 1 than the second furthest of this row's pairs.",
		Metrics: append(append([]report.Metric{}, loadMetrics...),
			report.Metric{Key: ofRead + mbps, Title: "throughput, consume", Unit: "MB/s"},
			report.Metric{Key: ofRead + cpu, Title: "broker CPU, consume", Unit: "s/GB"},
			report.Metric{Key: p50, Title: "p50", Unit: "ms"},
			report.Metric{Key: p99, Title: "p99", Unit: "ms"},
			report.Metric{Key: p999, Title: "p99.9", Unit: "ms"}),
	}
	for _, metric := range []string{mbps, cpu, ofRead + mbps, ofRead + cpu, p50, p99, p999} {
		about.Claims = append(about.Claims, report.Claim{Metric: metric, A: kafkaA, B: kafkaB})
	}
	return []row{{about, selfCheck, pacedDisk}}
}

func selfCheck(ctx context.Context, r *run) error {
	sides := []string{kafkaA, kafkaB}
	brokers := map[string]*lab.Broker{}
	for i, side := range sides {
		b, err := r.start(ctx, kafkaSetup([]string{"kafka-a", "kafka-b"}[i]))
		if err != nil {
			return err
		}
		if err := b.CreateTopic(ctx, topic, batched.Partitions); err != nil {
			return err
		}
		brokers[side] = b
	}
	legs := func(run func(context.Context, *lab.Broker) (map[string]float64, error)) (out []leg) {
		for _, side := range sides {
			out = append(out, leg{side: side, run: func(ctx context.Context) (map[string]float64, error) { return run(ctx, brokers[side]) }})
		}
		return out
	}
	var produce []leg
	for _, side := range sides {
		produce = append(produce, r.loadLeg(side, brokers[side], batched))
	}
	err := r.measure(ctx, mbps, produce...)
	if err != nil {
		return err
	}
	err = r.measure(ctx, ofRead+mbps, legs(func(ctx context.Context, b *lab.Broker) (map[string]float64, error) {
		m, err := r.Run(ctx, b, consume(1))
		all := throughput(m)
		return map[string]float64{ofRead + mbps: all[mbps], ofRead + cpu: all[cpu]}, err
	})...)
	if err != nil {
		return err
	}
	most, err := r.maximum(ctx, brokers[kafkaA], topic)
	if err != nil {
		return err
	}
	if _, err := r.maximum(ctx, brokers[kafkaB], topic); err != nil { // so that it is as warm
		return err
	}
	return r.interleave(ctx, r.pairs, legs(func(ctx context.Context, b *lab.Broker) (map[string]float64, error) {
		m, err := r.Run(ctx, b, paced(most/2))
		all := latencies("", m)
		delete(all, cpu)
		return all, err
	})...)
}
