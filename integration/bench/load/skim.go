package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sys/unix"

	"github.com/stratabroker/strata/protocol/record"
)

// skimmer is a consumer that looks at the head of each batch only and has the
// kernel drop the rest (MSG_TRUNC): offsets are checked, the CRC is not. So the
// client costs little beside a broker that sends gigabytes a second. A run with
// Verify checks the same data whole.
//
// An answer is taken in pieces of known length; step says what the piece was
// that has arrived, and what comes next.
type skimmer struct {
	*consumer
	parts []skim // by connection
}

// skim is where one connection stands in its answer.
type skim struct {
	step       func(*skimmer, *skim, []byte) error
	head       []byte // the piece; head[:have] has arrived
	have, need int
	skip       int // bytes to drop before the next piece

	conn       *conn
	partitions int32 // that are still to come
	position   *position
	high       int64 // high watermark of the partition
	left       int   // bytes of its batches that are still to come
}

// Lengths of the pieces, but for the topic's name.
const (
	answerHead    = 4 + 4 + 4 + 2 + 4 + 4 + 2 + 4 // length, correlation id, throttle, error, session, topics, name, partitions
	partitionHead = 4 + 2 + 8 + 8 + 8 + 4 + 4 + 4 // number, error, high watermark, LSO, start, aborted, preferred, length
	dropAtOnce    = 8 << 20
)

var errUnread = errors.New("an answer of a shape that is not read here")

func newSkimmer(s Spec) *skimmer {
	k := &skimmer{consumer: newConsumer(s), parts: make([]skim, s.Groups*s.Members)}
	for i := range k.parts {
		k.parts[i].head = make([]byte, answerHead+len(s.Topic)+record.HeaderLen)
		k.parts[i].expect((*skimmer).begin, answerHead+len(s.Topic))
	}
	return k
}

// dropped is never written to: with MSG_TRUNC a TCP socket does not copy.
var dropped = make([]byte, dropAtOnce)

// receive reads what there is.
func (k *skimmer) receive(c *conn) error {
	s := &k.parts[c.number]
	s.conn = c
	for {
		var n int
		var err error
		if s.skip > 0 {
			n, _, err = unix.Recvfrom(c.fd, dropped[:min(s.skip, dropAtOnce)], unix.MSG_TRUNC)
		} else {
			n, err = unix.Read(c.fd, s.head[s.have:s.need])
		}
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		case n == 0:
			return errors.New("the broker closed a connection")
		case s.skip > 0:
			s.skip -= n
		default:
			s.have += n
		}
		if s.skip == 0 && s.have == s.need {
			if err := s.step(k, s, s.head[:s.need]); err != nil {
				return err
			}
			if c.inflight == 0 {
				return nil // the answer is whole, nothing can follow it
			}
		}
	}
}

// expect says what the next piece is.
func (s *skim) expect(step func(*skimmer, *skim, []byte) error, need int) {
	s.step, s.have, s.need = step, 0, need
}

// begin takes the head of an answer.
func (k *skimmer) begin(s *skim, head []byte) error {
	r := reader{b: head}
	if size := r.int32(); int(size) < len(head)-4 {
		return fmt.Errorf("fetch: %w: %d bytes", errUnread, size)
	}
	r.take(4 + 4)
	if code := r.int16(); code != 0 {
		return fmt.Errorf("fetch: %w", kerr.ErrorForCode(code))
	}
	r.take(4)
	if topics := r.int32(); topics != 1 {
		return fmt.Errorf("fetch: %w: %d topics", errUnread, topics)
	}
	r.take(int(r.int16()))
	s.partitions = r.int32()
	return k.nextPartition(s)
}

// nextPartition goes on to the next partition, or ends the answer.
func (k *skimmer) nextPartition(s *skim) error {
	if s.partitions > 0 {
		s.partitions--
		s.expect((*skimmer).partition, partitionHead)
		return nil
	}
	k.waiting--
	k.result.Requests++
	k.last = time.Now()
	s.conn.inflight--
	s.expect((*skimmer).begin, answerHead+len(k.spec.Topic))
	return nil
}

func (k *skimmer) partition(s *skim, head []byte) error {
	r := reader{b: head}
	number, code := r.int32(), r.int16()
	s.high = r.int64()
	r.take(8 + 8)
	if aborted := r.int32(); aborted > 0 {
		return fmt.Errorf("fetch: %w: aborted transactions", errUnread)
	}
	r.take(4)
	s.left = int(r.int32())
	if code != 0 {
		return fmt.Errorf("fetch of partition %d: %w", number, kerr.ErrorForCode(code))
	}
	if s.position = k.position(s.conn, number); s.position == nil {
		return fmt.Errorf("fetch: an answer for partition %d, which was not asked for", number)
	}
	return k.nextBatch(s)
}

// nextBatch goes on to the next batch, or drops the part of one that the limit of the answer left.
func (k *skimmer) nextBatch(s *skim) error {
	if s.left >= record.HeaderLen {
		s.expect((*skimmer).batch, record.HeaderLen)
		return nil
	}
	s.skip += max(s.left, 0)
	k.reached(s.position, s.high)
	return k.nextPartition(s)
}

func (k *skimmer) batch(s *skim, head []byte) error {
	b := record.Batch(head)
	size := int(binary.BigEndian.Uint32(head[8:])) + record.PrefixLen
	if size < record.HeaderLen || b.Magic() != record.Magic {
		return fmt.Errorf("partition %d at %d: no batch", s.position.partition, s.position.offset)
	}
	s.skip += min(size, s.left) - record.HeaderLen
	if size <= s.left {
		if err := k.passed(s.position, b, size); err != nil {
			return err
		}
	}
	s.left -= min(size, s.left)
	return k.nextBatch(s)
}
