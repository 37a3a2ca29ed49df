package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/stratabroker/strata/integration/bench/lab"
	"github.com/stratabroker/strata/integration/bench/load"
	"github.com/stratabroker/strata/integration/bench/report"
)

// mostADoubling is how many times the cost of half the size may be.
const mostADoubling = 2.2

// cost is one metric of a curve. What is below the floor counts as the floor: ratios of what is next
// to nothing, or below what the clock tells apart, say nothing.
type cost struct {
	report.Metric
	floor float64 // in the metric's unit
}

// doubling is how many times more a size costs than a smaller one, for each
// doubling between them: their ratio to the power of 1/log2(size ratio).
func (c cost) doubling(small, large int, costSmall, costLarge float64) float64 {
	ratio := max(costLarge, c.floor) / max(costSmall, c.floor)
	return math.Pow(ratio, 1/math.Log2(float64(large)/float64(small)))
}

// grew is the key of what a doubling costs in a metric.
func grew(key string) string { return "doubling_" + key }

// anySize is the side that holds the worst of all neighbours.
const anySize = "worst of all sizes"

// curve measures costs at sizes, the smallest first.
type curve struct {
	report.Row
	of      string // what is counted
	sizes   []int
	costs   []cost
	disk    disk
	measure func(ctx context.Context, r *run, size int) (map[string]float64, error)
}

// row is the curve as a row: a side is a size, a claim is about the worst doubling.
func (c curve) row() row {
	c.Curve = &report.Curve{Axis: c.of, Doubling: mostADoubling}
	for _, cost := range c.costs {
		c.Metrics = append(c.Metrics, cost.Metric)
		c.Curve.Metrics = append(c.Curve.Metrics, cost.Key)
	}
	for _, cost := range c.costs {
		title := cost.Title + ", a doubling"
		if cost.floor > 0 {
			title += fmt.Sprintf(" (%g %s at least)", cost.floor, cost.Unit)
		}
		c.Metrics = append(c.Metrics, report.Metric{Key: grew(cost.Key), Title: title, Unit: "x"})
		c.Claims = append(c.Claims, report.Claim{Metric: grew(cost.Key), A: anySize, AtMost: true, Target: mostADoubling})
	}
	c.Method += fmt.Sprintf(" %d legs a size, whatever PAIRS says: up the sizes, down and up again. A doubling is the ratio of the median to that of the size before, "+
		"to the power of 1/log2 of the ratio of the sizes; it should be %g at most. Costs below the floor that a title names count as the floor.", curveLegs, mostADoubling)
	return row{c.Row, c.run, c.disk}
}

func (c curve) side(size int) string { return fmt.Sprintf("%d %s", size, c.of) }

// curveLegs is odd, so that a median is a leg's own.
const curveLegs = 5

func (c curve) run(ctx context.Context, r *run) error {
	for pass := range curveLegs {
		sizes := slices.Clone(c.sizes)
		if pass%2 == 1 {
			slices.Reverse(sizes)
		}
		for _, size := range sizes {
			values, err := c.measure(ctx, r, size)
			if err != nil {
				return fmt.Errorf("%s: %w", c.side(size), err)
			}
			r.say("  %-18s %s", c.side(size), inBrief(values))
			r.samples = append(r.samples, report.Sample{Side: c.side(size), Pair: pass, Values: values})
		}
	}
	c.judge(r)
	return nil
}

// judge adds samples with what each doubling cost, by the medians of the legs, and the worst of them.
func (c curve) judge(r *run) {
	measured := report.Result{Samples: r.samples}
	median := func(size int, key string) float64 { return measured.Side(c.side(size), key).Median }
	worst := map[string]float64{}
	for i, size := range c.sizes[1:] {
		values := map[string]float64{}
		for _, cost := range c.costs {
			d := cost.doubling(c.sizes[i], size, median(c.sizes[i], cost.Key), median(size, cost.Key))
			values[grew(cost.Key)] = d
			worst[grew(cost.Key)] = max(worst[grew(cost.Key)], d)
		}
		r.samples = append(r.samples, report.Sample{Side: c.side(size), Values: values})
	}
	r.samples = append(r.samples, report.Sample{Side: anySize, Values: worst})
	r.say("  %-18s %s", anySize, inBrief(worst))
}

// Keys of the metrics of curves.
const (
	idle  = "idle"
	made  = "made"
	round = "round"
	begin = "begin"
	each  = "each"
)

// curveRecords is how many a leg of curve-partitions writes, whatever its size: some seconds of CPU, so that
// what the runtime does beside the work, which comes and goes, weighs little.
const curveRecords = 300_000

var partitionsCurve = curve{
	Row: report.Row{
		Name: "curve-partitions", Title: "Cost against partitions",
		Method: fmt.Sprintf("strata alone, fsync, one topic. A first record of 100 B to each partition, which makes its files; then %d records, one a partition in turn: broker CPU for one to each is its share of that. "+
			"100 partitions a request, one request in flight. Then the CPU used in %.0f s without clients, and VmRSS; then a clean stop and the start to the first acknowledged record.", curveRecords, curveIdle.Seconds()),
	},
	of:    "partitions",
	sizes: []int{100, 200, 500, 1000, 2000, 5000, 10_000},
	costs: []cost{
		{Metric: report.Metric{Key: rss, Title: "RSS", Unit: "MB"}},
		{Metric: report.Metric{Key: idle, Title: "CPU when idle", Unit: "ms/s"}, floor: 10},
		{Metric: report.Metric{Key: made, Title: "CPU for the first record to each partition", Unit: "ms"}, floor: 100},
		{Metric: report.Metric{Key: round, Title: "CPU for a record to each partition", Unit: "ms"}},
		{Metric: report.Metric{Key: begin, Title: "start", Unit: "s"}, floor: 0.1},
	},
	disk:    disk{always: 8}, // of all legs
	measure: partitionsCost,
}

func partitionsCost(ctx context.Context, r *run, partitions int) (map[string]float64, error) {
	setup := fsync.strata()
	setup.Name = fmt.Sprintf("%s-%d", setup.Name, len(r.brokers)) // its files stay until the row ends: new ones look for inodes that were not deleted lately
	b, err := r.start(ctx, setup)
	if err != nil {
		return nil, err
	}
	for topic, n := range map[string]int{manyTopic(0): partitions, firstTopic: 1} {
		if err := b.CreateTopic(ctx, topic, n); err != nil {
			return nil, err
		}
	}
	if err := r.Settle(); err != nil {
		return nil, err
	}
	values := map[string]float64{}
	if values[made], err = writeRounds(ctx, r, b, partitions, 1); err != nil {
		return nil, err
	}
	if values[round], err = writeRounds(ctx, r, b, partitions, curveRecords/partitions); err != nil {
		return nil, err
	}
	if values[idle], err = idleCPU(ctx, b); err != nil {
		return nil, err
	}
	resident, err := b.RSS()
	if err != nil {
		return nil, err
	}
	values[rss] = float64(resident) / 1e6
	if err := b.Stop(); err != nil {
		return nil, err
	}
	if values[begin], err = firstAck(ctx, b, false); err != nil {
		return nil, err
	}
	return values, b.Stop()
}

// batchOf100 is the size of a batch with one record of 100 B.
const batchOf100 = 170

func manyTopic(i int) string { return fmt.Sprintf("many-%d", i) }

// writeRounds writes a record to each partition so many times, and returns the
// broker's CPU time for one time, in ms.
func writeRounds(ctx context.Context, r *run, b *lab.Broker, partitions, rounds int) (float64, error) {
	spec := spread
	spec.Topic, spec.Partitions, spec.RecordBytes, spec.Conns, spec.PerRequest, spec.Window, spec.Limit = manyTopic(0), partitions, 100, 1, 100, 1, 0
	spec.Bytes = int64(batchOf100) * int64(partitions*rounds) // whole batches: it ends with the request that reaches them
	before, err := b.CPUSeconds()
	if err != nil {
		return 0, err
	}
	m, err := r.Run(ctx, b, spec)
	if err != nil {
		return 0, err
	}
	after, err := b.CPUSeconds()
	return (after - before) * 1000 * float64(partitions) / float64(m.Records), err
}

// idleCPU is the CPU time in ms a second that a broker takes when nobody asks
// anything, once it has come to rest.
func idleCPU(ctx context.Context, b *lab.Broker) (float64, error) {
	var at [2]float64
	for i, pause := range []time.Duration{time.Second, curveIdle} {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		var err error
		if at[i], err = b.CPUSeconds(); err != nil {
			return 0, err
		}
	}
	return (at[1] - at[0]) * 1000 / curveIdle.Seconds(), nil
}

const curveIdle = 3 * time.Second

// What a leg of curve-connections does, whatever it is.
const (
	curveRequests = 50_000
	curveInFlight = 10
)

var connectionsCurve = curve{
	Row: report.Row{
		Name: "curve-connections", Title: "Cost against connections",
		Method: fmt.Sprintf("strata alone. %d sessionless Fetch requests of one partition, each answered with one record of 100 B, go round over all connections, %d in flight at any time. "+
			"VmRSS after that, with all connections open.", curveRequests, curveInFlight),
	},
	of:    "connections",
	sizes: []int{10, 100, 1000, 2000, 5000, 10_000},
	costs: []cost{
		{Metric: report.Metric{Key: each, Title: "CPU a request", Unit: "us"}},
		{Metric: report.Metric{Key: rss, Title: "RSS", Unit: "MB"}},
	},
	measure: connectionsCost,
}

func connectionsCost(ctx context.Context, r *run, conns int) (map[string]float64, error) {
	b, err := r.start(ctx, fsync.strata())
	if err != nil {
		return nil, err
	}
	if err := load.FirstAck(ctx, b.Addr, firstTopic, true, b.Err); err != nil {
		return nil, err
	}
	p, err := openPool(ctx, b.Addr, conns)
	if err != nil {
		return nil, err
	}
	defer p.close()
	before, err := b.CPUSeconds()
	if err != nil {
		return nil, err
	}
	if err := p.ask(curveRequests, curveInFlight); err != nil {
		return nil, err
	}
	after, err := b.CPUSeconds()
	if err != nil {
		return nil, err
	}
	resident, err := b.RSS()
	if err != nil {
		return nil, err
	}
	return map[string]float64{each: (after - before) / curveRequests * 1e6, rss: float64(resident) / 1e6}, b.Close()
}

// pool are connections that all send the same request and get the same answer.
type pool struct {
	conns   []net.Conn
	request []byte
	want    []byte // the answer without its length
}

// openPool opens n connections, and sends the request once on each.
func openPool(ctx context.Context, addr string, n int) (*pool, error) {
	part := kmsg.NewFetchRequestTopicPartition()
	part.PartitionMaxBytes = 1 << 20
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.Partitions = firstTopic, append(t.Partitions, part)
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MinBytes, req.MaxBytes, req.SessionEpoch = 11, -1, 1, 1<<20, -1
	req.Topics = append(req.Topics, t)
	p := &pool{request: kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, req, 0)}
	var dialer net.Dialer
	for i := range n {
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err == nil {
			p.conns = append(p.conns, conn)
			err = p.exchange(conn, make([]byte, maxPoolAnswer))
		}
		if err != nil {
			p.close()
			return nil, fmt.Errorf("connection %d to %s: %w", i, addr, err)
		}
	}
	return p, nil
}

func (p *pool) close() {
	for _, conn := range p.conns {
		_ = conn.Close() // nothing is lost with it
	}
}

const maxPoolAnswer = 4096

// exchange sends the request and checks the answer.
func (p *pool) exchange(conn net.Conn, buffer []byte) error {
	if _, err := conn.Write(p.request); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, buffer[:4]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(buffer)
	if n < 4 || n > maxPoolAnswer {
		return fmt.Errorf("an answer of %d bytes", n)
	}
	if _, err := io.ReadFull(conn, buffer[:n]); err != nil {
		return err
	}
	if p.want == nil {
		p.want = bytes.Clone(buffer[:n])
		return checkFetched(p.want[4:])
	}
	if !bytes.Equal(p.want, buffer[:n]) {
		return errors.New("the answers differ")
	}
	return nil
}

// checkFetched tells whether an answer to the pool's request holds a record.
func checkFetched(body []byte) error {
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = 11
	if err := resp.ReadFrom(body); err != nil {
		return err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || len(resp.Topics[0].Partitions[0].RecordBatches) == 0 {
		return fmt.Errorf("an answer without records: %+v", resp)
	}
	return nil
}

// ask sends so many requests, going round over the connections, of which so
// many at once wait for an answer.
func (p *pool) ask(requests, inFlight int) error {
	var all errgroup.Group
	for first := range inFlight {
		all.Go(func() error {
			buffer := make([]byte, maxPoolAnswer)
			at := first
			for range requests / inFlight {
				if err := p.exchange(p.conns[at], buffer); err != nil {
					return err
				}
				if at += inFlight; at >= len(p.conns) {
					at = first
				}
			}
			return nil
		})
	}
	return all.Wait()
}

func curveRows() []row {
	return []row{partitionsCurve.row(), connectionsCurve.row(), archiveCurve.row()}
}
