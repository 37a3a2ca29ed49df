package api

import (
	"time"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/broker/server"
	"github.com/stratabroker/strata/protocol"
)

// Produce begins a Produce of partitions of one topic and gives what answers
// each of them, as a Leader would.
func Produce(r *server.Request, acks replica.Acks, partitions int, timeout time.Duration) []func(replica.Appended, error) {
	req := &protocol.ProduceRequest{Topics: []protocol.ProduceTopic{{Name: "t", Partitions: make([]protocol.ProducePartition, partitions)}}}
	p := &produce{r: r, acks: acks, resp: newProduceResponse(req), pending: partitions + 1}
	out := make([]func(replica.Appended, error), partitions)
	for i := range out {
		at := &p.resp.Topics[0].Partitions[i]
		out[i] = func(a replica.Appended, err error) { p.done(at, a, err) }
	}
	p.started(timeout)
	return out
}
