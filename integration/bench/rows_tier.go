package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/stratabroker/strata/integration/bench/lab"
	"github.com/stratabroker/strata/integration/bench/load"
	"github.com/stratabroker/strata/integration/bench/report"
	"github.com/stratabroker/strata/integration/bench/store"
)

// Sides and metrics of the rows about the bucket.
const (
	rawGets = "raw GETs"
	alone   = "without"
	beside  = "with a catch-up"
	busy    = "with GETs by another"

	fetched = "fetched" // bytes from the bucket for each byte that the consumer got

	putSegments = "put"
	getObjects  = "get"
	lists       = "list"
	putOthers   = "put_other"
)

const (
	storeRate    = 200e6 // bytes a second that the proxy lets pass
	segmentBytes = 64 << 20
	coldBytes    = 1 << 30 // of a leg
	rawRange     = 4 << 20 // of a raw GET
	readers      = 10      // GETs at once: strata's default of remote.log.reader.threads
	tierLimit    = 3 * time.Minute
)

// tier is a broker whose topic lies in the bucket only.
type tier struct {
	broker *lab.Broker
	store  *store.MinIO
	bytes  int64 // in the bucket
}

// openTier starts MinIO and strata and puts the topic into the bucket. Store and proxy run on others, if that is given.
func (r *run) openTier(ctx context.Context, partitions int, bytes int64, others *store.Background) (t *tier, err error) {
	t = &tier{}
	if t.store, err = store.Start(ctx, r.Bench, others); err != nil {
		return nil, err
	}
	r.closers = append(r.closers, t.store.Close)
	t.broker, err = r.start(ctx, lab.Setup{Kind: lab.Strata, Name: "strata", Env: t.store.Env, Settings: map[string]string{
		"strata.bucket.url": t.store.URL, "log.retention.check.interval.ms": "500",
	}})
	if err != nil {
		return nil, err
	}
	if err := t.archive(ctx, r, topic, partitions, bytes); err != nil {
		return nil, err
	}
	return t, t.store.Throttle(storeRate)
}

// archive fills a topic, seals all of it and waits until nothing of it is left on the local disk.
func (t *tier) archive(ctx context.Context, r *run, topic string, partitions int, bytes int64) error {
	err := t.broker.CreateTopic(ctx, topic, partitions, "segment.bytes", fmt.Sprint(segmentBytes), "local.retention.bytes", "0")
	if err != nil {
		return err
	}
	spec := batched
	spec.Topic, spec.Partitions, spec.PerRequest, spec.Limit, spec.Bytes = topic, partitions, min(partitions, spec.PerRequest), 0, bytes
	m, err := r.Run(ctx, t.broker, spec)
	if err != nil {
		return err
	}
	t.bytes = m.Bytes
	if err := t.broker.SetTopic(ctx, topic, "segment.ms", "1000"); err != nil {
		return err
	}
	if err := t.broker.AwaitTiered(ctx, topic, tierLimit); err != nil {
		return err
	}
	// Else what is produced on it later would be sealed every second.
	return t.broker.SetTopic(ctx, topic, "segment.ms", "604800000")
}

// catchUp is a consumer that reads the topic from the bucket, once.
func catchUp(partitions int) load.Spec {
	return load.Spec{Kind: load.Consume, Topic: topic, Partitions: partitions, Groups: 1, Members: 1, Bytes: coldBytes}
}

func catchUpRow(partitions int, stored int64) row {
	about := report.Row{
		Name: fmt.Sprintf("catchup-%d", partitions), Title: fmt.Sprintf("Catch-up from the bucket, %d partition(s)", partitions),
		Method: fmt.Sprintf("strata alone. %d partition(s) in 64 MiB segments that lie in MinIO only; a proxy holds the store to 200 MB/s, all connections together. One consumer with one connection reads 1 GiB of them, "+
			"against plain ranged GETs of 4 MiB of the same objects on %d connections, as many as strata may use (remote.log.reader.threads). MinIO, proxy, broker and consumer share this machine.", partitions, readers),
		Metrics: []report.Metric{
			{Key: mbps, Title: "throughput", Unit: "MB/s"},
			{Key: cpu, Title: "broker CPU", Unit: "s/GB"},
			{Key: fetched, Title: "bytes from the bucket a byte read", Unit: "x"},
		},
		Claims: []report.Claim{{Metric: mbps, A: strata, B: rawGets, Target: 0.8}},
	}
	return row{about, func(ctx context.Context, r *run) error {
		t, err := r.openTier(ctx, partitions, stored, nil)
		if err != nil {
			return err
		}
		return r.interleave(ctx, r.pairs, leg{side: strata, run: func(ctx context.Context) (map[string]float64, error) {
			_, before, err := t.store.Counts()
			if err != nil {
				return nil, err
			}
			m, err := r.Run(ctx, t.broker, catchUp(partitions))
			if err != nil {
				return nil, err
			}
			_, after, err := t.store.Counts()
			return map[string]float64{mbps: m.MBps(), cpu: m.BrokerCPU / float64(m.Bytes) * 1e9, fetched: float64(after-before) / float64(m.Bytes)}, err
		}}, leg{side: rawGets, run: func(ctx context.Context) (map[string]float64, error) {
			rate, err := t.store.ReadRate(ctx, readers, rawRange, coldBytes)
			return map[string]float64{mbps: rate / 1e6}, err
		}})
	}, disk{always: 4}} // on the local disk, and in the bucket
}

const (
	liveTopic = "live"
	besideLeg = 10 * time.Second
	archived  = 32 // partitions in the bucket
)

// catchUpProduce measures a producer with and without a catch-up beside it.
func catchUpProduce(ctx context.Context, r *run) error {
	others, err := store.NewBackground()
	if err != nil {
		return err
	}
	t, err := r.openTier(ctx, archived, archived*(segmentBytes-(1<<20)), others)
	r.closers = append(r.closers, others.Close) // after what was started on it
	if err != nil {
		return err
	}
	if err := t.broker.CreateTopic(ctx, liveTopic, probe.Partitions, "remote.storage.enable", "false"); err != nil {
		return err
	}
	most, err := r.maximum(ctx, t.broker, liveTopic)
	if err != nil {
		return err
	}
	spec := paced(most * 0.3)
	spec.Topic, spec.Limit = liveTopic, besideLeg
	r.note("The maximum was %.0f batches a second; the legs sent %.0f a second.", most, spec.Rate)
	n := neighbours{r, t, others, spec}
	return r.interleave(ctx, r.pairs, leg{side: beside, run: n.catchUp}, leg{side: alone, run: n.produce}, leg{side: busy, run: n.gets})
}

// neighbours are a producer, whose latency is measured, and what runs beside it.
type neighbours struct {
	r      *run
	t      *tier
	others *store.Background
	spec   load.Spec // of the producer
}

// produce is the producer with nothing beside it.
func (n neighbours) produce(ctx context.Context) (map[string]float64, error) {
	if err := n.t.warm(ctx); err != nil {
		return nil, err
	}
	return n.measure(ctx)
}

func (n neighbours) measure(ctx context.Context) (map[string]float64, error) {
	m, err := n.r.Run(ctx, n.t.broker, n.spec)
	return latencies("", m), err
}

// catchUp is the producer beside a consumer that reads from the bucket.
func (n neighbours) catchUp(ctx context.Context) (values map[string]float64, err error) {
	if err := n.t.warm(ctx); err != nil {
		return nil, err
	}
	reader := catchUp(archived)
	reader.Addr, reader.Bytes, reader.Wrap, reader.Limit = n.t.broker.Addr, 0, true, besideLeg+time.Second
	var g *lab.Generator
	err = n.others.Do(func() error {
		g, err = n.r.Prepare(ctx, reader)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := g.Begin(); err != nil {
		return nil, err
	}
	values, err = n.measure(ctx)
	read, readErr := g.Await()
	if err := errors.Join(err, readErr); err != nil {
		return nil, err
	}
	values[mbps] = read.MBps()
	return values, nil
}

// gets is the producer beside a process that reads the store as fast, past the broker.
func (n neighbours) gets(ctx context.Context) (values map[string]float64, err error) {
	if err := n.t.warm(ctx); err != nil {
		return nil, err
	}
	var other *exec.Cmd
	err = n.others.Do(func() error {
		other, err = n.t.store.Gets(n.r.Bench, readers, rawRange, besideLeg+time.Second)
		return err
	})
	if err != nil {
		return nil, err
	}
	values, err = n.measure(ctx)
	return values, errors.Join(err, other.Wait())
}

// warm has MinIO read from memory: the broker's disk is its own.
func (t *tier) warm(ctx context.Context) error {
	if err := t.store.Throttle(0); err != nil {
		return err
	}
	return errors.Join(t.store.Warm(ctx, readers, rawRange), t.store.Throttle(storeRate))
}

const countedTopics = 3

// countRequests archives a topic and reads it back once.
func countRequests(ctx context.Context, r *run) error {
	const partitions, stored = 6, 2 << 30
	t, err := r.openTier(ctx, 1, coldBytes/16, nil) // a small topic, so that the broker's own first objects are not counted
	if err != nil {
		return err
	}
	if err := t.store.Throttle(0); err != nil {
		return err
	}
	for i := range min(r.pairs, countedTopics) {
		name := fmt.Sprintf("counted-%d", i)
		err := r.sample(ctx, i, leg{side: strata, run: func(ctx context.Context) (map[string]float64, error) {
			before, _, err := t.store.Counts()
			if err != nil {
				return nil, err
			}
			if err := t.archive(ctx, r, name, partitions, stored); err != nil {
				return nil, err
			}
			archived, _, err := t.store.Counts()
			if err != nil {
				return nil, err
			}
			spec := catchUp(partitions)
			spec.Topic, spec.Bytes = name, 0
			m, err := r.Run(ctx, t.broker, spec)
			if err != nil {
				return nil, err
			}
			read, _, err := t.store.Counts()
			gib := float64(m.Bytes) / (1 << 30)
			up, down := archived.Since(before), read.Since(archived)
			r.note("Topic %d, %.2f GiB: archiving %v; reading %v.", i+1, gib, up, down)
			return map[string]float64{
				putSegments: float64(up.Sum("PUT segment")+up.Sum("PUT manifest")) / gib,
				putOthers:   float64(up.Sum("PUT root")+up.Sum("PUT other")) / gib,
				getObjects:  float64(down.Sum("GET")) / gib,
				lists:       float64(up.Sum("LIST") + down.Sum("LIST")),
			}, err
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

func tierRows() []row {
	limit := func(metric string, target float64) report.Claim {
		return report.Claim{Metric: metric, A: strata, AtMost: true, Target: target}
	}
	return []row{
		catchUpRow(1, coldBytes+2*segmentBytes),
		catchUpRow(32, 32*(segmentBytes-(1<<20))),
		{report.Row{
			Name: "catchup-produce", Title: "Producer's latency beside a catch-up",
			Method: "strata alone, fsync. The open loop of the latency rows at 30 % of what strata takes of it, on a topic of its own, with and without the consumer of catchup-32 beside it. A leg is 10 s, so that a stall of some 50 ms does not decide its p99. " +
				"As the store and the consumer would be other machines, MinIO, proxy and consumer run only when a core is idle (SCHED_IDLE), and MinIO has its objects in the page cache, so that it leaves the broker its disk. " +
				"What they cost all the same is shown by the third side: the store is read as fast, but by a process beside the broker that drops what it gets.",
			Metrics: []report.Metric{
				{Key: p50, Title: "p50", Unit: "ms"},
				{Key: p99, Title: "p99", Unit: "ms"},
				{Key: p999, Title: "p99.9", Unit: "ms"},
				{Key: mbps, Title: "catch-up", Unit: "MB/s"},
			},
			Claims: []report.Claim{
				{Metric: p99, A: beside, B: alone, AtMost: true, Target: 1.2},
				{Metric: p50, A: beside, B: alone},
				{Metric: p99, A: busy, B: alone},
				{Metric: p50, A: busy, B: alone},
				{Metric: p99, A: beside, B: busy},
				{Metric: p50, A: beside, B: busy},
			},
		}, catchUpProduce, disk{warmLegs, 2}},
		{report.Row{
			Name: "requests", Title: "Object requests a GiB at 64 MiB segments",
			Method: "strata alone. A topic of 6 partitions is produced (2 GiB), archived, and read once by one consumer after nothing of it is left on the local disk; the proxy counts. Roots, which are written every few seconds however much is archived, are shown apart. Counts of one side, not times of pairs: three topics at most.",
			Metrics: []report.Metric{
				{Key: putSegments, Title: "PUT of segments and manifests", Unit: "/GiB"},
				{Key: putOthers, Title: "other PUT", Unit: "/GiB"},
				{Key: getObjects, Title: "GET, read once", Unit: "/GiB"},
				{Key: lists, Title: "LIST", Unit: ""},
			},
			Claims: []report.Claim{limit(putSegments, 36), limit(getObjects, 130), {Metric: lists, A: strata, AtMost: true, Zero: true}},
		}, countRequests, disk{always: 2 + 2*countedTopics}},
	}
}
