package coordinator

import (
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/group"
)

// parts is how a request about many groups is answered piece by piece: Q is what it asks
// of one group, R the answer to that.
type parts[Q, R any] struct {
	// decide handles what is asked of groups of one shard.
	decide func(s *group.Shard, now time.Time, t group.Token, some []Q) group.Output
	writes bool
	// results takes what decide replied apart: one for each of some, in their order.
	results func(kmsg.Response) []R
	// refuse is the answer for a group whose shard does not answer.
	refuse func(q Q, why refusal) R
	reply  func([]R)
}

// piece is what is asked of the groups of one shard, and where in the answer it goes.
type piece[Q any] struct {
	shard *shard
	asked []Q
	at    []int
}

// fanOut asks each shard that coordinates some of the groups once, however many they are,
// and replies in the order of asked when the last has answered.
func fanOut[Q, R any](c *Coordinator, asked []Q, id func(Q) string, p parts[Q, R]) {
	pieces := split(c, asked, id)
	results := make([]R, len(asked)) // each entry is written once, by its piece
	var left atomic.Int64
	left.Store(int64(len(pieces)) + 1)
	done := func() {
		if left.Add(-1) == 0 {
			p.reply(results)
		}
	}
	defer done()
	for _, piece := range pieces {
		op := operation{
			writes: p.writes,
			decide: func(s *group.Shard, now time.Time, t group.Token) group.Output {
				return p.decide(s, now, t, piece.asked)
			},
			reply: func(r kmsg.Response) {
				for i, result := range p.results(r) {
					results[piece.at[i]] = result
				}
				done()
			},
			refuse: func(why refusal) {
				for i, q := range piece.asked {
					results[piece.at[i]] = p.refuse(q, why)
				}
				done()
			},
		}
		if piece.shard == nil {
			op.refuse(moved)
		} else {
			piece.shard.submit(op)
		}
	}
}

// split sorts what is asked by the shards that coordinate the groups; nil is the shard of
// those that are not coordinated here.
func split[Q any](c *Coordinator, asked []Q, id func(Q) string) []piece[Q] {
	var out []piece[Q]
	places := map[*shard]int{}
	for i, q := range asked {
		s := c.shardOf(id(q))
		place, ok := places[s]
		if !ok {
			place = len(out)
			places[s] = place
			out = append(out, piece[Q]{shard: s})
		}
		out[place].asked = append(out[place].asked, q)
		out[place].at = append(out[place].at, i)
	}
	return out
}
