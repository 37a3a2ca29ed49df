package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// Versions that both brokers serve and whose answers are read by hand here.
const (
	produceVersion = 7
	fetchVersion   = 11
)

const produceTimeout = 30 * time.Second

// batch is one uncompressed batch of random values.
func batch(records, size int) []byte {
	source := rand.NewChaCha8([32]byte{1})
	builder := record.NewBuilder(0)
	now := protocol.Timestamp(time.Now().UnixMilli())
	for range records {
		value := make([]byte, size)
		_, _ = source.Read(value) // never fails
		builder.Add(record.Record{Timestamp: now, Value: value})
	}
	return builder.Bytes()
}

// ProduceFrames are the Produce requests that go once over all partitions.
// They differ in their partitions only.
func ProduceFrames(topic string, partitions, perRequest, records, size int, acks int16) [][]byte {
	formatter := kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench"))
	body := batch(records, size)
	var frames [][]byte
	for first := 0; first < partitions; first += perRequest {
		t := kmsg.NewProduceRequestTopic()
		t.Topic = topic
		for p := first; p < min(first+perRequest, partitions); p++ {
			part := kmsg.NewProduceRequestTopicPartition()
			part.Partition, part.Records = int32(p), body
			t.Partitions = append(t.Partitions, part)
		}
		req := kmsg.NewPtrProduceRequest()
		req.Version, req.Acks, req.TimeoutMillis = produceVersion, acks, int32(produceTimeout.Milliseconds())
		req.Topics = append(req.Topics, t)
		frames = append(frames, formatter.AppendRequest(nil, req, 0))
	}
	return frames
}

// FetchFrame appends a Fetch request of whole-partition positions to dst. It is
// sessionless, with the limits of Kafka's consumer.
func fetchFrame(dst []byte, formatter *kmsg.RequestFormatter, req *kmsg.FetchRequest, topic string, positions []position) []byte {
	req.Version, req.ReplicaID, req.MaxWaitMillis, req.MinBytes = fetchVersion, -1, 500, 1
	req.MaxBytes, req.SessionEpoch = 50<<20, -1
	if len(req.Topics) == 0 {
		t := kmsg.NewFetchRequestTopic()
		t.Topic = topic
		for range positions {
			t.Partitions = append(t.Partitions, kmsg.NewFetchRequestTopicPartition())
		}
		req.Topics = append(req.Topics, t)
	}
	for i, p := range positions {
		part := &req.Topics[0].Partitions[i]
		part.Partition, part.FetchOffset, part.PartitionMaxBytes = p.partition, p.offset, 1<<20
	}
	return formatter.AppendRequest(dst, req, 0)
}

// errCut is an answer that ends too early.
var errCut = errors.New("an answer is cut short")

// reader takes an answer apart. After the first short read it gives zeros.
type reader struct {
	b   []byte
	cut bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.cut, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) int16() int16 {
	if b := r.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *reader) int64() int64 {
	if b := r.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// CheckProduced returns the first error code in an answer to a ProduceFrames
// request, which begins with its correlation id.
func CheckProduced(body []byte) error {
	r := reader{b: body}
	r.take(4) // correlation id
	for range r.int32() {
		r.take(int(r.int16())) // topic
		for range r.int32() {
			partition, code := r.int32(), r.int16()
			r.take(24) // base offset, time, log start
			if code != 0 {
				return fmt.Errorf("produce to partition %d: %w", partition, kerr.ErrorForCode(code))
			}
		}
	}
	if r.cut {
		return fmt.Errorf("produce: %w", errCut)
	}
	return nil
}
