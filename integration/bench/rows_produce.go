package main

import (
	"context"
	"time"

	"github.com/stratabroker/strata/integration/bench/lab"
	"github.com/stratabroker/strata/integration/bench/load"
	"github.com/stratabroker/strata/integration/bench/report"
)

// Sides. A row between the two brokers has the first two, and says in its
// method which promise they keep.
const (
	strata     = "strata"
	kafka      = "Kafka"
	kafkaCache = "Kafka, page cache"
)

// promise is what an acknowledgement rests on, the same on both sides.
type promise bool

const (
	pageCache promise = false
	fsync     promise = true
)

// setups are the two brokers with that promise. Kafka's is a setting of the topic.
func (p promise) strata() lab.Setup {
	durability := "replicated"
	if p == fsync {
		durability = "fsync"
	}
	return lab.Setup{Kind: lab.Strata, Name: "strata", Settings: map[string]string{"strata.durability": durability}}
}

func (p promise) kafkaTopic() []string {
	if p == fsync {
		return []string{"flush.messages", "1"}
	}
	return nil
}

func kafkaSetup(name string) lab.Setup { return lab.Setup{Kind: lab.Kafka, Name: name} }

const (
	topic    = "bench"
	topicTwo = "bench-two"

	legBytes   = 1 << 30
	legLimit   = 4 * time.Second
	shortLimit = 2 * time.Second // of small requests: bytes are few
)

// batched is the load of 1 KiB records in batches.
var batched = load.Spec{
	Kind: load.Produce, Topic: topic, Partitions: 6, Conns: 4, Window: 5, PerRequest: 6,
	BatchRecords: 128, RecordBytes: 1024, Acks: -1, Bytes: legBytes, Limit: legLimit,
}

func withAcks(s load.Spec, acks int16) load.Spec { s.Acks = acks; return s }

// produceRow is a row of a produce load on both brokers, under one promise.
func produceRow(about report.Row, p promise, spec load.Spec, needs disk) row {
	return row{about, func(ctx context.Context, r *run) error {
		ours, theirs, err := r.both(ctx, p, spec.Partitions)
		if err != nil {
			return err
		}
		legs := []leg{r.loadLeg(strata, ours, spec), r.loadLeg(kafka, theirs, spec)}
		if p == fsync && spec.BatchRecords > 1 {
			if err := theirs.CreateTopic(ctx, topicTwo, spec.Partitions); err != nil {
				return err
			}
			relaxed := spec
			relaxed.Topic = topicTwo
			legs = append(legs, r.loadLeg(kafkaCache, theirs, relaxed))
		}
		return r.measure(ctx, mbps, legs...)
	}, needs}
}

// both starts the two brokers with a topic.
func (r *run) both(ctx context.Context, p promise, partitions int) (ours, theirs *lab.Broker, err error) {
	if ours, err = r.start(ctx, p.strata()); err != nil {
		return nil, nil, err
	}
	if theirs, err = r.start(ctx, kafkaSetup("kafka")); err != nil {
		return nil, nil, err
	}
	if err = ours.CreateTopic(ctx, topic, partitions); err != nil {
		return nil, nil, err
	}
	return ours, theirs, theirs.CreateTopic(ctx, topic, partitions, p.kafkaTopic()...)
}

// atLeast and atMost are targets of strata against Kafka.
func atLeast(metric string, target float64) report.Claim {
	return report.Claim{Metric: metric, A: strata, B: kafka, Target: target}
}

func atMost(metric string, target float64) report.Claim {
	return report.Claim{Metric: metric, A: strata, B: kafka, AtMost: true, Target: target}
}

// shown is a comparison without a target.
func shown(metric string) report.Claim { return report.Claim{Metric: metric, A: strata, B: kafka} }

// Loads of the rows with small requests.
var (
	unbatched = load.Spec{
		Kind: load.Produce, Topic: topic, Partitions: 6, Conns: 16, Window: 1, PerRequest: 1,
		BatchRecords: 1, RecordBytes: 100, Acks: -1, Limit: shortLimit,
	}
	spread = load.Spec{
		Kind: load.Produce, Topic: topic, Partitions: 1000, Conns: 16, Window: 5, PerRequest: 25,
		BatchRecords: 1, RecordBytes: 1024, Acks: -1, Limit: legLimit,
	}
)

var smallMetrics = append([]report.Metric{{Key: records, Title: "throughput", Unit: "records/s"}}, loadMetrics[1:]...)

func produceRows() []row {
	return []row{
		produceRow(report.Row{
			Name: "produce-acks1", Title: "Produce 1 KiB, acks=1, page cache",
			Method: "4 producers with 5 requests in flight each; a request holds a batch of 128 records of 1 KiB for each of 6 partitions. " +
				"Page-cache promise on both sides. A leg is 1 GiB, or what 4 s take.",
			Metrics: loadMetrics, Claims: []report.Claim{atLeast(mbps, 1.3), atMost(cpu, 0.4)},
		}, pageCache, withAcks(batched, 1), disk{warmLegs, 2}),
		produceRow(report.Row{
			Name: "produce-cache", Title: "Produce 1 KiB, acks=all, page cache",
			Method:  "As produce-acks1, with acks=all.",
			Metrics: loadMetrics, Claims: []report.Claim{atLeast(mbps, 1.3), atMost(cpu, 0.4)},
		}, pageCache, batched, disk{warmLegs, 2}),
		produceRow(report.Row{
			Name: "produce-fsync", Title: "Produce 1 KiB, acks=all, fsync",
			Method: "As produce-cache, but every acknowledgement rests on stable storage: strata.durability=fsync, and flush.messages=1 on Kafka's topic. " +
				"Beside it the same load on a topic of Kafka that is not synced.",
			Metrics: loadMetrics,
			Claims: []report.Claim{
				atLeast(mbps, 3), {Metric: mbps, A: strata, B: kafkaCache, Target: 1}, shown(cpu),
			},
		}, fsync, batched, disk{warmLegs, 3}),
		produceRow(report.Row{
			Name: "produce-small", Title: "Produce 100 B unbatched, page cache",
			Method:  "16 producers that each wait for the answer to one record of 100 B before they send the next; 6 partitions, acks=all, page-cache promise on both sides. A leg is 2 s.",
			Metrics: smallMetrics, Claims: []report.Claim{atLeast(records, 1.5), shown(cpu)},
		}, pageCache, unbatched, disk{}),
		produceRow(report.Row{
			Name: "produce-small-fsync", Title: "Produce 100 B unbatched, fsync",
			Method:  "As produce-small, with fsync on both sides.",
			Metrics: smallMetrics, Claims: []report.Claim{atLeast(records, 1.5), shown(cpu)},
		}, fsync, unbatched, disk{}),
		produceRow(report.Row{
			Name: "produce-1000", Title: "Produce to 1,000 partitions, fsync",
			Method:  "16 producers with 5 requests in flight each; a request holds one record of 1 KiB for each of 25 partitions of 1,000, as a producer with keys and a linger of some milliseconds sends them. acks=all, fsync on both sides. A leg is 4 s.",
			Metrics: smallMetrics, Claims: []report.Claim{atLeast(records, 5), shown(cpu)},
		}, fsync, spread, disk{warmLegs, 1}),
	}
}
