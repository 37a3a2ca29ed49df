package integration_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

func (o *odd) produceRequest(topic string, partition int32, records []byte) *kmsg.ProduceRequest {
	req := at(9, kmsg.NewPtrProduceRequest())
	req.Acks, req.TimeoutMillis = -1, 5000
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, records
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.Partitions = o.prefix+topic, []kmsg.ProduceRequestTopicPartition{rp}
	req.Topics = []kmsg.ProduceRequestTopic{rt}
	return req
}

func (o *odd) produce(topic string, partition int32, records []byte) string {
	return o.sendProduce(o.produceRequest(topic, partition, records))
}

func (o *odd) sendProduce(req *kmsg.ProduceRequest) string {
	return answer(o, req, func(resp *kmsg.ProduceResponse) string {
		return each(resp.Topics, func(t kmsg.ProduceResponseTopic) string {
			return each(t.Partitions, func(p kmsg.ProduceResponseTopicPartition) string {
				return fmt.Sprintf("%s offset %d", code(p.ErrorCode), p.BaseOffset)
			})
		})
	})
}

// patched is a batch with one of its header's fields changed, and the right CRC.
func patched(change func(record.Batch)) record.Batch {
	b := batchAt(1_100_000)
	change(b)
	binary.BigEndian.PutUint32(b[17:], record.CRC(b[21:]))
	return b
}

func oddProduces() []oddity {
	to := func(topic string, partition int32, records func() []byte) func(*odd) string {
		return func(o *odd) string { return o.produce(topic, partition, records()) }
	}
	plain := func() []byte { return batchAt(1_100_000) }
	fixed := func(b []byte) func() []byte { return func() []byte { return b } }
	attributes := func(bits uint16) func() []byte {
		return fixed(patched(func(b record.Batch) { binary.BigEndian.PutUint16(b[21:], bits) }))
	}
	return []oddity{
		{"produce to an unknown topic", to("unknown", 0, plain)},
		{"produce to an unknown partition", to("plain", 99, plain)},
		{"produce to partition -1", to("plain", -1, plain)},
		{"produce with acks 2", func(o *odd) string {
			req := o.produceRequest("plain", 1, plain())
			req.Acks = 2
			return o.sendProduce(req)
		}},
		{"produce with acks 0 to an unknown topic", func(o *odd) string {
			req := o.produceRequest("unknown", 0, plain())
			req.Acks = 0
			return o.sendProduce(req)
		}},
		{"produce to an unknown topic id", func(o *odd) string {
			req := at(13, o.produceRequest("", 0, plain()))
			req.Topics[0].TopicID = [16]byte{1, 2, 3}
			return o.sendProduce(req)
		}},
		{"produce with the zero topic id", func(o *odd) string { return o.sendProduce(at(13, o.produceRequest("", 0, plain()))) }},
		{"produce a record above max.message.bytes", to("small", 0, func() []byte {
			b := record.NewBuilder(0)
			b.Add(record.Record{Timestamp: 1_100_000, Value: make([]byte, 600)})
			return b.Bytes()
		})},
		{"produce a null key to a compacted topic", to("compacted", 0, func() []byte {
			b := record.NewBuilder(0)
			b.Add(record.Record{Timestamp: 1_100_000, Value: []byte("v")})
			return b.Bytes()
		})},
		{"produce null records", to("plain", 1, fixed(nil))},
		{"produce no records", to("plain", 1, fixed([]byte{}))},
		{"produce magic 0", to("plain", 1, fixed(patched(func(b record.Batch) { b[16] = 0 })))},
		{"produce magic 1", to("plain", 1, fixed(patched(func(b record.Batch) { b[16] = 1 })))},
		{"produce magic 3", to("plain", 1, fixed(patched(func(b record.Batch) { b[16] = 3 })))},
		{"produce a wrong CRC", to("plain", 1, func() []byte {
			b := plain()
			b[len(b)-2] ^= 1
			return b
		})},
		{"produce half a batch", to("plain", 1, func() []byte { return plain()[:40] })},
		{"produce a batch shorter than its length", to("plain", 1, func() []byte { return plain()[:65] })},
		{"produce a batch with bytes behind it", to("plain", 1, func() []byte { return append(plain(), 1, 2, 3) })},
		{"produce two batches", to("plain", 1, func() []byte { return append(plain(), plain()...) })},
		{"produce a count that is not the offsets'", to("plain", 1, fixed(patched(func(b record.Batch) { binary.BigEndian.PutUint32(b[57:], 2) })))},
		{"produce a last offset delta that is not the count's", to("plain", 1, fixed(patched(func(b record.Batch) { binary.BigEndian.PutUint32(b[23:], 3) })))},
		{"produce a count of 0", to("plain", 1, fixed(patched(func(b record.Batch) { binary.BigEndian.PutUint32(b[57:], 0) })))},
		{"produce a base offset of 7", to("plain", 1, fixed(patched(func(b record.Batch) { b.SetBaseOffset(7) })))},
		{"produce a control batch", to("plain", 1, attributes(1<<5))},
		{"produce a transactional batch without a transaction", to("plain", 1, attributes(1<<4))},
		{"produce codec 7", to("plain", 1, attributes(7))},
		{"produce far ahead of now", to("plain", 1, func() []byte { return batchAt(time.Now().Add(48 * time.Hour).UnixMilli()) })},
		{"produce far behind now", to("recent", 1, func() []byte { return batchAt(time.Now().Add(-48 * time.Hour).UnixMilli()) })},
		{"produce timestamp -1", to("recent", 0, func() []byte { return batchAt(-1) })},
		{"produce timestamp -5", to("recent", 0, func() []byte { return batchAt(-5) })},
		{"produce no topics", func(o *odd) string {
			req := o.produceRequest("plain", 1, plain())
			req.Topics = nil
			return o.sendProduce(req)
		}},
	}
}

// sequenced is a batch of an idempotent producer.
func sequenced(id int64, epoch int16, sequence int32) record.Batch {
	b := record.NewBuilder(0)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = protocol.ProducerID(id), protocol.ProducerEpoch(epoch), sequence
	b.Add(record.Record{Timestamp: 1_100_000, Key: []byte("k"), Value: []byte("v")})
	return b.Bytes()
}

// oddIdempotence sends (epoch, sequence) pairs of one producer to a topic of its own.
func oddIdempotence() []oddity {
	script := func(steps ...[2]int) func(*odd) string {
		return func(o *odd) string {
			topic := kmsg.NewCreateTopicsRequestTopic()
			name := fmt.Sprintf("idempotent-%s", strings.Trim(strings.ReplaceAll(fmt.Sprint(steps), " ", "."), "[]"))
			name = strings.NewReplacer("[", "", "]", "").Replace(name)
			topic.Topic, topic.NumPartitions, topic.ReplicationFactor = o.prefix+name, 1, 1
			if got := o.create(topic); got != "NONE" {
				return got
			}
			id := must[*kmsg.InitProducerIDResponse](o.wire, at(2, kmsg.NewPtrInitProducerIDRequest())).ProducerID
			return each(steps, func(s [2]int) string { return o.produce(name, 0, sequenced(id, int16(s[0]), int32(s[1]))) })
		}
	}
	return []oddity{
		{"a producer's first batch with sequence 5", script([2]int{0, 5})},
		{"a producer's batch after a gap", script([2]int{0, 0}, [2]int{0, 2}, [2]int{0, 1})},
		{"a producer's batches again", script([2]int{0, 0}, [2]int{0, 0}, [2]int{0, 1}, [2]int{0, 0})},
		{
			"a producer's batch again after five others",
			script([2]int{0, 0}, [2]int{0, 1}, [2]int{0, 2}, [2]int{0, 3}, [2]int{0, 4}, [2]int{0, 5}, [2]int{0, 0}, [2]int{0, 1}),
		},
		{"a producer's epoch goes back", script([2]int{3, 0}, [2]int{2, 0}, [2]int{2, 1})},
		{"a producer's new epoch not at sequence 0", script([2]int{0, 0}, [2]int{1, 1}, [2]int{1, 0})},
		{"a producer without an epoch", script([2]int{-1, 0})},
		{"a producer without a sequence", script([2]int{0, -1})},
		{"InitProducerId with an id and no transaction", func(o *odd) string {
			req := at(3, kmsg.NewPtrInitProducerIDRequest())
			req.ProducerID, req.ProducerEpoch = 5, 1
			return answer(o, req, func(r *kmsg.InitProducerIDResponse) string { return code(r.ErrorCode) })
		}},
		{"InitProducerId with an empty transactional id", func(o *odd) string {
			req := at(3, kmsg.NewPtrInitProducerIDRequest())
			req.TransactionalID = ptr("")
			return answer(o, req, func(r *kmsg.InitProducerIDResponse) string { return code(r.ErrorCode) })
		}},
	}
}
