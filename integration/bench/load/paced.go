package load

import "time"

// pacer is the open loop: request i is due at begun + i/rate, whether or not
// earlier ones were answered, and its latency counts from then. A request that
// could not be sent in time, because the window was full or this process late,
// therefore shows the wait (no coordinated omission).
type pacer struct {
	*producer
	issued int64         // requests that became due and were given to a connection
	due    [][]time.Time // by connection: of requests not sent yet, in order
	sentAt [][]time.Time // by connection: intended times of requests in flight, in order
	seen   histogram
}

func newPacer(s Spec) *pacer {
	return &pacer{producer: newProducer(s), due: make([][]time.Time, s.Conns), sentAt: make([][]time.Time, s.Conns)}
}

// issue gives what has become due to the connections in turn.
func (p *pacer) issue(now time.Time) {
	elapsed := now.Sub(p.begun)
	if elapsed > p.spec.Limit {
		elapsed, p.stopped = p.spec.Limit, true
	}
	for ; p.issued < int64(elapsed.Seconds()*p.spec.Rate); p.issued++ {
		i := int(p.issued % int64(p.spec.Conns))
		p.due[i] = append(p.due[i], p.begun.Add(time.Duration(float64(p.issued)/p.spec.Rate*float64(time.Second))))
	}
}

func (p *pacer) next(c *conn) []byte {
	if !p.stopped {
		p.issue(time.Now())
	}
	due := p.due[c.number]
	if len(due) == 0 {
		return nil
	}
	p.sentAt[c.number] = append(p.sentAt[c.number], due[0])
	p.due[c.number] = shift(due)
	return p.take(c)
}

func (p *pacer) answer(c *conn, body []byte) error {
	inflight := p.sentAt[c.number]
	intended := inflight[0]
	p.sentAt[c.number] = shift(inflight)
	if intended.Sub(p.begun) >= p.spec.Skip {
		p.seen.add(time.Since(intended))
	}
	return p.producer.answer(c, body)
}

// shift removes the first element and keeps the room.
func shift(times []time.Time) []time.Time { return times[:copy(times, times[1:])] }

func (p *pacer) finished() bool {
	if !p.stopped || p.waiting > 0 {
		return false
	}
	for _, due := range p.due {
		if len(due) > 0 {
			return false
		}
	}
	return true
}

func (p *pacer) measured() Result {
	r := p.producer.measured()
	r.P50, r.P99, r.P999, r.Max = p.seen.quantile(0.5), p.seen.quantile(0.99), p.seen.quantile(0.999), p.seen.quantile(1)
	return r
}
