package main

import (
	"context"
	"encoding/binary"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/integration/bench/report"
	"github.com/stratabroker/strata/protocol/record"
)

func TestADoublingIsTheRatioOfCostsWhereTheSizeIsTwice(t *testing.T) {
	plain, floored := cost{}, cost{floor: 10}
	for name, tc := range map[string]struct {
		cost                 cost
		small, large         int
		costSmall, costLarge float64
		want                 float64
	}{
		"twice the size":                   {plain, 100, 200, 5, 11, 2.2},
		"four times the size":              {plain, 100, 400, 5, 20, 2},
		"ten times, in proportion":         {plain, 100, 1000, 3, 30, 2},
		"two and a half, in proportion":    {plain, 200, 500, 2, 5, 2},
		"the square of the size":           {plain, 10, 1000, 1, 10_000, 4},
		"no more than before":              {plain, 10, 1000, 7, 7, 1},
		"less than before":                 {plain, 100, 200, 8, 4, 0.5},
		"both below the floor":             {floored, 100, 200, 0, 9, 1},
		"from below the floor":             {floored, 100, 200, 0, 15, 1.5},
		"from below the floor, four times": {floored, 100, 400, 1, 40, 2},
	} {
		if got := tc.cost.doubling(tc.small, tc.large, tc.costSmall, tc.costLarge); math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// curveOf is a curve whose sizes cost what a list says, but for two legs of each, which are disturbed.
func curveOf(costs map[int]float64, sizes ...int) curve {
	legs := map[int]int{}
	return curve{
		Row: report.Row{Name: "x"}, of: "things", sizes: sizes,
		costs: []cost{{Metric: report.Metric{Key: "ms", Title: "time", Unit: "ms"}}},
		measure: func(_ context.Context, _ *run, size int) (map[string]float64, error) {
			legs[size]++
			return map[string]float64{"ms": costs[size] * [curveLegs]float64{1, 100, 1, 0.01, 1}[(size+legs[size])%curveLegs]}, nil
		},
	}
}

func TestACurveIsJudgedByItsWorstNeighbours(t *testing.T) {
	for name, tc := range map[string]struct {
		costs map[int]float64
		worst float64
		want  report.Verdict
	}{
		"in proportion":              {map[int]float64{1: 1, 2: 2, 4: 4, 16: 16}, 2, report.Met},
		"one step is too steep":      {map[int]float64{1: 1, 2: 2, 4: 5, 16: 6}, 2.5, report.NotMet},
		"a wide step is too steep":   {map[int]float64{1: 1, 2: 1, 4: 1, 16: 9}, 3, report.NotMet},
		"a wide step is not so much": {map[int]float64{1: 1, 2: 1, 4: 1, 16: 4}, 2, report.Met},
	} {
		c := curveOf(tc.costs, 1, 2, 4, 16)
		r := &run{out: io.Discard}
		row := c.row()
		if err := row.run(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		result := report.Result{Row: row.Name, Samples: r.samples}
		if len(row.Claims) != 1 {
			t.Fatalf("%d claims", len(row.Claims))
		}
		got, spread := report.Judge(nil, &result, row.Claims[0])
		if got != tc.want || math.Abs(spread.Median-tc.worst) > 1e-9 {
			t.Errorf("%s: %q at %v, want %q at %v", name, got, spread.Median, tc.want, tc.worst)
		}
	}
}

func TestTheCostOfAnArchiveIsMeasured(t *testing.T) {
	values, err := archiveCost(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range archiveCurve.costs {
		if values[c.Key] <= 0 {
			t.Errorf("%s: %v %s", c.Title, values[c.Key], c.Unit)
		}
	}
}

// answerer is a broker that gives every request the same answer and counts them by connection.
func answerer(t *testing.T, conns int) (addr string, counts []atomic.Int64) {
	t.Helper()
	part := kmsg.NewFetchResponseTopicPartition()
	part.RecordBatches = []byte("a batch")
	topic := kmsg.NewFetchResponseTopic()
	topic.Partitions = append(topic.Partitions, part)
	resp := kmsg.NewPtrFetchResponse()
	resp.Version, resp.Topics = 11, append(resp.Topics, topic)
	body := resp.AppendTo(make([]byte, 8)) // length, correlation id
	binary.BigEndian.PutUint32(body, uint32(len(body)-4))
	counts = make([]atomic.Int64, conns)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for i := range conns {
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			all.Go(func() {
				defer func() { _ = c.Close() }()
				var size [4]byte
				for {
					if _, err := io.ReadFull(c, size[:]); err != nil {
						return // the client has gone
					}
					if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(size[:]))); err != nil {
						t.Error(err)
					}
					counts[i].Add(1)
					if _, err := c.Write(body); err != nil {
						t.Error(err)
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().String(), counts
}

func TestAPoolGoesRoundOverItsConnections(t *testing.T) {
	const conns, inFlight, requests = 20, 4, 400
	addr, counts := answerer(t, conns)
	p, err := openPool(t.Context(), addr, conns)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.ask(requests, inFlight); err != nil {
		t.Fatal(err)
	}
	for i := range counts {
		if got := counts[i].Load(); got != 1+requests/conns {
			t.Errorf("connection %d was asked %d times, not %d", i, got, 1+requests/conns)
		}
	}
}

func TestABatchOf100HasTheSizeThatEndsARun(t *testing.T) {
	b := record.NewBuilder(0)
	b.Add(record.Record{Value: make([]byte, 100)})
	if got := len(b.Bytes()); got != batchOf100 {
		t.Errorf("%d bytes, not %d", got, batchOf100)
	}
}
