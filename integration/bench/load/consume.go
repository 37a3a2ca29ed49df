package load

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol/record"
)

// position is where a member stands in one partition.
type position struct {
	partition int32
	offset    int64
	atEnd     bool // it has read all there was
}

// consumer reads with Fetch requests, one in flight a connection, and checks
// the CRC of each batch and that no offset is left out. It does not take
// records out of the batches: that costs the same whoever the broker is. See
// skimmer for the cheaper one.
type consumer struct {
	spec      Spec
	positions [][]position // by connection
	requests  []*kmsg.FetchRequest
	frames    [][]byte // by connection: the room of its request
	formatter *kmsg.RequestFormatter
	begun     time.Time
	last      time.Time
	waiting   int
	open      int // positions that are not at the end
	stopped   bool
	result    Result
}

func newConsumer(s Spec) *consumer {
	n := s.Groups * s.Members
	k := &consumer{
		spec: s, positions: make([][]position, n), requests: make([]*kmsg.FetchRequest, n), frames: make([][]byte, n),
		formatter: kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")),
	}
	for i := range n {
		for p := i % s.Members; p < s.Partitions; p += s.Members {
			k.positions[i] = append(k.positions[i], position{partition: int32(p)})
			k.open++
		}
		k.requests[i] = kmsg.NewPtrFetchRequest()
	}
	return k
}

func (k *consumer) next(c *conn) []byte {
	s := &k.spec
	if !k.stopped && (s.Bytes > 0 && k.result.Bytes >= s.Bytes || s.Limit > 0 && time.Since(k.begun) >= s.Limit) {
		k.stopped = true
	}
	if k.stopped || k.open == 0 || c.inflight > 0 {
		return nil
	}
	k.waiting++
	k.frames[c.number] = fetchFrame(k.frames[c.number][:0], k.formatter, k.requests[c.number], s.Topic, k.positions[c.number])
	return k.frames[c.number]
}

func (k *consumer) answer(c *conn, body []byte) error {
	k.waiting--
	k.result.Requests++
	r := reader{b: body}
	r.take(4 + 4) // correlation id, throttle time
	if code := r.int16(); code != 0 {
		return fmt.Errorf("fetch: %w", kerr.ErrorForCode(code))
	}
	r.take(4) // session
	for range r.int32() {
		r.take(int(r.int16())) // topic
		for range r.int32() {
			if err := k.partition(c, &r); err != nil {
				return err
			}
		}
	}
	if r.cut {
		return fmt.Errorf("fetch: %w", errCut)
	}
	k.last = time.Now()
	return nil
}

func (k *consumer) partition(c *conn, r *reader) error {
	number, code, highWatermark := r.int32(), r.int16(), r.int64()
	r.take(8 + 8) // last stable offset, log start
	for range max(r.int32(), 0) {
		r.take(16) // aborted transaction
	}
	r.take(4) // preferred replica
	batches := r.take(max(int(r.int32()), 0))
	if code != 0 {
		return fmt.Errorf("fetch of partition %d: %w", number, kerr.ErrorForCode(code))
	}
	p := k.position(c, number)
	if p == nil {
		return fmt.Errorf("fetch: an answer for partition %d, which was not asked for", number)
	}
	return k.read(p, batches, highWatermark)
}

// position is that of one of a connection's partitions, nil where it is none.
func (k *consumer) position(c *conn, partition int32) *position {
	for i := range k.positions[c.number] {
		if p := &k.positions[c.number][i]; p.partition == partition {
			return p
		}
	}
	return nil
}

// read takes the whole batches of one partition.
func (k *consumer) read(p *position, batches []byte, highWatermark int64) error {
	for len(batches) >= record.HeaderLen {
		size, err := record.TotalLen(batches)
		if err != nil {
			return fmt.Errorf("partition %d at %d: %w", p.partition, p.offset, err)
		}
		if size > len(batches) {
			break // cut by the limit of the answer
		}
		b := record.Batch(batches[:size])
		if err := b.Check(); err != nil {
			return fmt.Errorf("partition %d at %d: %w", p.partition, p.offset, err)
		}
		if err := k.passed(p, b, size); err != nil {
			return err
		}
		batches = batches[size:]
	}
	k.reached(p, highWatermark)
	return nil
}

// passed counts a batch, of whose bytes the head is needed only.
func (k *consumer) passed(p *position, b record.Batch, size int) error {
	if int64(b.BaseOffset()) != p.offset {
		return fmt.Errorf("partition %d: a batch at %d where %d is next", p.partition, b.BaseOffset(), p.offset)
	}
	p.offset = int64(b.NextOffset())
	k.result.Bytes += int64(size)
	k.result.Records += int64(b.Count())
	return nil
}

// reached ends a partition, or starts it over, once all of it was read.
func (k *consumer) reached(p *position, highWatermark int64) {
	switch {
	case p.offset < highWatermark || p.atEnd:
	case k.spec.Wrap:
		p.offset = 0
	default:
		p.atEnd = true
		k.open--
	}
}

func (k *consumer) finished() bool { return (k.stopped || k.open == 0) && k.waiting == 0 }

func (k *consumer) measured() Result {
	k.result.Seconds = k.last.Sub(k.begun).Seconds()
	return k.result
}
