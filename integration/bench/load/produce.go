package load

import "time"

// producer is the closed loop: each connection keeps its window full.
type producer struct {
	spec    Spec
	frames  [][]byte
	batch   int64   // its size in bytes
	batches []int64 // in each frame
	turn    []int   // by connection: the frame that is next
	begun   time.Time
	last    time.Time // of the last answer
	sent    int64     // bytes of batches
	waiting int       // requests without an answer
	stopped bool
	result  Result
}

func newProducer(s Spec) *producer {
	p := &producer{spec: s, frames: ProduceFrames(s.Topic, s.Partitions, s.PerRequest, s.BatchRecords, s.RecordBytes, s.Acks), turn: make([]int, s.Conns)}
	p.batch = int64(len(batch(s.BatchRecords, s.RecordBytes)))
	left := s.Partitions
	for range p.frames {
		p.batches = append(p.batches, int64(min(left, s.PerRequest)))
		left -= s.PerRequest
	}
	for i := range p.turn {
		p.turn[i] = i * len(p.frames) / s.Conns // not all on the same partitions
	}
	return p
}

// take is the next frame of a connection.
func (p *producer) take(c *conn) []byte {
	turn := p.turn[c.number]
	p.turn[c.number] = (turn + 1) % len(p.frames)
	p.sent += p.batches[turn] * p.batch
	p.waiting++
	return p.frames[turn]
}

func (p *producer) next(c *conn) []byte {
	if p.stopped {
		return nil
	}
	if p.spec.Bytes > 0 && p.sent >= p.spec.Bytes || p.spec.Limit > 0 && time.Since(p.begun) >= p.spec.Limit {
		p.stopped = true
		return nil
	}
	return p.take(c)
}

func (p *producer) answer(_ *conn, body []byte) error {
	p.waiting--
	p.result.Requests++
	if p.waiting == 0 {
		p.last = time.Now()
	}
	return CheckProduced(body)
}

func (p *producer) finished() bool { return p.stopped && p.waiting == 0 }

// measured is the result; all that was sent has been answered.
func (p *producer) measured() Result {
	p.result.Bytes = p.sent
	p.result.Records = p.sent / p.batch * int64(p.spec.BatchRecords)
	p.result.Seconds = p.last.Sub(p.begun).Seconds()
	return p.result
}
