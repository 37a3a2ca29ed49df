package load_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/integration/bench/load"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

func TestQuantilesAreWithinASixtyFourth(t *testing.T) {
	var h load.Histogram
	for i := 1; i <= 10_000; i++ {
		h.Add(time.Duration(i) * 100 * time.Microsecond) // 0.1 ms to 1 s
	}
	for q, want := range map[float64]float64{0.5: 500, 0.99: 990, 0.999: 999, 1: 1000} {
		if got := h.Quantile(q); got < want || got > want*65/64 {
			t.Errorf("quantile %v is %v ms, want %v", q, got, want)
		}
	}
	if got := new(load.Histogram).Quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %v", got)
	}
}

// broker is a listener that answers each frame by a function; nil closes the connection.
func broker(t *testing.T, answer func(frame []byte) []byte) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn, answer)
		}
	}()
	return listener.Addr().String()
}

func serve(conn net.Conn, answer func([]byte) []byte) {
	defer func() { _ = conn.Close() }()
	for {
		var size [4]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(conn, frame); err != nil {
			return
		}
		body := answer(frame)
		if body == nil {
			return
		}
		out := binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))
		out = append(out, 0, 0, 0, 0) // correlation id
		if _, err := conn.Write(append(out, body...)); err != nil {
			return
		}
	}
}

// produced answers a Produce with a code for each partition.
func produced(code int16) func([]byte) []byte {
	return func([]byte) []byte {
		resp := kmsg.NewPtrProduceResponse()
		resp.Version = 7
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic = "t"
		for p := range int32(2) {
			part := kmsg.NewProduceResponseTopicPartition()
			part.Partition, part.ErrorCode = p, code
			topic.Partitions = append(topic.Partitions, part)
		}
		resp.Topics = append(resp.Topics, topic)
		return resp.AppendTo(nil)
	}
}

var producing = load.Spec{
	Kind: load.Produce, Topic: "t", Partitions: 2, Conns: 3, Window: 2, PerRequest: 2,
	BatchRecords: 4, RecordBytes: 1000, Acks: -1, Bytes: 1 << 20,
}

func TestTheProducerCountsWhatIsAcknowledged(t *testing.T) {
	s := producing
	var frames atomic.Int64
	answer := produced(0)
	s.Addr = broker(t, func(frame []byte) []byte { frames.Add(1); return answer(frame) })
	r, err := load.Run(s)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(load.Batch(s.BatchRecords, s.RecordBytes)))
	if r.Bytes < s.Bytes || r.Requests != frames.Load() || r.Bytes != r.Requests*2*size || r.Records != r.Requests*8 {
		t.Errorf("%+v after %d frames of 2 batches of %d bytes", r, frames.Load(), size)
	}
}

func TestAnErrorCodeEndsTheRun(t *testing.T) {
	s := producing
	s.Addr = broker(t, produced(6))
	if _, err := load.Run(s); err == nil || !strings.Contains(err.Error(), "NOT_LEADER") {
		t.Errorf("error %v, want NOT_LEADER_OR_FOLLOWER", err)
	}
}

// TestTheOpenLoopCountsFromTheIntendedTime: a broker that answers nothing for a
// while costs all requests that fell due meanwhile, not only the one that waited.
func TestTheOpenLoopCountsFromTheIntendedTime(t *testing.T) {
	s := producing
	s.Kind, s.Rate, s.Limit, s.Conns, s.Window, s.Bytes = load.Paced, 1000, 500*time.Millisecond, 1, 1, 0
	const pause = 200 * time.Millisecond
	var paused atomic.Bool
	answer := produced(0)
	s.Addr = broker(t, func(frame []byte) []byte {
		if paused.CompareAndSwap(false, true) {
			<-time.After(pause)
		}
		return answer(frame)
	})
	r, err := load.Run(s)
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != 500 {
		t.Errorf("%d requests, want 500", r.Requests)
	}
	// 200 of 500 fell due in the pause and waited for its end: a fifth of all for 100 ms or more.
	if r.Max < 190 || r.P99 < 150 {
		t.Errorf("p99 %v ms, largest %v ms after a pause of %s", r.P99, r.Max, pause)
	}
}

// fetched answers Fetch requests out of one batch a partition, over and over, up to end.
func fetched(t *testing.T, end int64, spoil func(record.Batch)) func([]byte) []byte {
	t.Helper()
	const count = 4
	plain := load.Batch(count, 100)
	return func(frame []byte) []byte {
		req := kmsg.NewPtrFetchRequest()
		req.Version = 11
		client := int(binary.BigEndian.Uint16(frame[8:]))
		if err := req.ReadFrom(frame[10+client:]); err != nil {
			return nil
		}
		resp := kmsg.NewPtrFetchResponse()
		resp.Version = 11
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic = req.Topics[0].Topic
		for _, asked := range req.Topics[0].Partitions {
			part := kmsg.NewFetchResponseTopicPartition()
			part.Partition, part.HighWatermark = asked.Partition, end
			for offset := asked.FetchOffset; offset < min(end, asked.FetchOffset+2*count); offset += count {
				batch := record.Batch(append([]byte(nil), plain...))
				batch.SetBaseOffset(protocol.Offset(offset))
				spoil(batch)
				part.RecordBatches = append(part.RecordBatches, batch...)
			}
			// What the limit of an answer cuts.
			part.RecordBatches = append(part.RecordBatches, plain[:70]...)
			topic.Partitions = append(topic.Partitions, part)
		}
		resp.Topics = append(resp.Topics, topic)
		return resp.AppendTo(nil)
	}
}

var consuming = load.Spec{Kind: load.Consume, Topic: "t", Partitions: 3, Groups: 2, Members: 2}

func TestTheConsumerReadsAllOnceForEachGroup(t *testing.T) {
	for _, verify := range []bool{false, true} {
		s := consuming
		s.Verify = verify
		s.Addr = broker(t, fetched(t, 40, func(record.Batch) {}))
		r, err := load.Run(s)
		if err != nil {
			t.Fatalf("verify %v: %v", verify, err)
		}
		batches := int64(2 * 3 * 10)
		if r.Records != batches*4 || r.Bytes != batches*int64(len(load.Batch(4, 100))) {
			t.Errorf("verify %v: %+v, want %d batches of 4 records", verify, r, batches)
		}
	}
}

func TestTheConsumerStartsOverAtTheEnd(t *testing.T) {
	s := consuming
	s.Wrap, s.Bytes = true, 100_000
	s.Addr = broker(t, fetched(t, 40, func(record.Batch) {}))
	if r, err := load.Run(s); err != nil || r.Bytes < s.Bytes {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestTheConsumerSeesAGap(t *testing.T) {
	for _, verify := range []bool{false, true} {
		s := consuming
		s.Verify = verify
		s.Addr = broker(t, fetched(t, 40, func(b record.Batch) {
			if b.BaseOffset() == 20 {
				b.SetBaseOffset(21)
			}
		}))
		if _, err := load.Run(s); err == nil || !strings.Contains(err.Error(), "a batch at 21 where 20 is next") {
			t.Errorf("verify %v: %v", verify, err)
		}
	}
}

func TestTheVerifyingConsumerSeesABadCRC(t *testing.T) {
	s := consuming
	s.Verify = true
	s.Addr = broker(t, fetched(t, 40, func(b record.Batch) { b[len(b)-1] ^= 1 }))
	if _, err := load.Run(s); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("error %v, want corruption", err)
	}
}

func TestTheFirstAckIsAskedForUntilItComes(t *testing.T) {
	var asked atomic.Int64
	refuse, accept := produced(5), produced(0)
	addr := broker(t, func(frame []byte) []byte {
		switch asked.Add(1) {
		case 1:
			return nil // the connection breaks
		case 2, 3:
			return refuse(frame)
		default:
			return accept(frame)
		}
	})
	if err := load.FirstAck(t.Context(), addr, "t", false, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if asked.Load() != 4 {
		t.Errorf("asked %d times, want 4", asked.Load())
	}
}
