package integration_test

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// oddEpochs are leader epochs, topic ids and isolation levels of ListOffsets,
// OffsetForLeaderEpoch, Fetch and Produce. Epoch -2 is older than any.
func oddEpochs() []oddity {
	type part = kmsg.ListOffsetsRequestTopicPartition
	out := []oddity{
		{"list offsets in an older leader epoch", list(8, "plain", -1, func(p *part) { p.CurrentLeaderEpoch = -2 })},
		{"list offsets by time in an older leader epoch", list(8, "plain", 1_000_000, func(p *part) { p.CurrentLeaderEpoch = -2 })},
		{"list the earliest offset in a later leader epoch", list(8, "plain", -2, func(p *part) { p.CurrentLeaderEpoch = 77 })},
		{"end of a leader epoch in an older one", endOfEpoch("plain", 0, -2, 0)},
		{"end of leader epoch -2", endOfEpoch("plain", 0, -1, -2)},
		{"end of a leader epoch of an empty partition", endOfEpoch("compacted", 1, -1, 0)},
		{"fetch in an older leader epoch", fetch("plain", func(_ *kmsg.FetchRequest, p *kmsg.FetchRequestTopicPartition) { p.CurrentLeaderEpoch = -2 })},
		{"fetch with last epoch -2", fetch("plain", func(_ *kmsg.FetchRequest, p *kmsg.FetchRequestTopicPartition) { p.LastFetchedEpoch = -2 })},
		{"fetch with last epoch 0", fetch("plain", func(_ *kmsg.FetchRequest, p *kmsg.FetchRequestTopicPartition) {
			p.FetchOffset, p.LastFetchedEpoch = 5, 0
		})},
		{"fetch beyond the end of its last epoch", diverged(12, 0)},
		{"fetch at the end of its last epoch", diverged(10, 0)},
		{"fetch of isolation level 1", fetch("plain", func(r *kmsg.FetchRequest, _ *kmsg.FetchRequestTopicPartition) { r.IsolationLevel = 1 })},
		{"fetch of isolation level 7", fetch("plain", func(r *kmsg.FetchRequest, _ *kmsg.FetchRequestTopicPartition) { r.IsolationLevel = 7 })},
		{"fetch an unknown partition by id", byID(func(_ *kmsg.FetchRequest, p *kmsg.FetchRequestTopicPartition) { p.Partition = 99 })},
		{"fetch by id", byID(func(*kmsg.FetchRequest, *kmsg.FetchRequestTopicPartition) {})},
		{"produce to an unknown topic id", func(o *odd) string {
			req := at(13, o.produceRequest("", 0, batchAt(1_100_000)))
			req.Topics[0].Topic, req.Topics[0].TopicID = "", [16]byte{1, 2, 3}
			return o.sendProduce(req)
		}},
		{"produce to the zero topic id", func(o *odd) string {
			req := at(13, o.produceRequest("", 0, batchAt(1_100_000)))
			req.Topics[0].Topic = ""
			return o.sendProduce(req)
		}},
		{"produce to an unknown partition by id", func(o *odd) string {
			req := at(13, o.produceRequest("", 99, batchAt(1_100_000)))
			req.Topics[0].Topic, req.Topics[0].TopicID = "", o.idOf("plain")
			return o.sendProduce(req)
		}},
	}
	for _, ts := range []int64{-1, -2, -3, -4, -5, -6, 1_005_000, 1 << 60} {
		out = append(out, oddity{fmt.Sprintf("list committed offsets at %d", ts), func(o *odd) string {
			req := at(11, kmsg.NewPtrListOffsetsRequest())
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Timestamp, rp.CurrentLeaderEpoch = ts, -1
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic, rt.Partitions = o.prefix+"plain", []part{rp}
			req.Topics, req.IsolationLevel = []kmsg.ListOffsetsRequestTopic{rt}, 1
			return answer(o, req, listed)
		}})
	}
	for version := int16(1); version <= 11; version++ {
		out = append(out, oddity{fmt.Sprintf("list the latest offset in version %d", version), list(version, "plain", -1)})
	}
	return out
}

// diverged tells where the broker's log and the reader's part (KIP-595).
func diverged(from int64, epoch int32) func(*odd) string {
	return func(o *odd) string {
		req := at(12, kmsg.NewPtrFetchRequest())
		req.MaxBytes, req.MaxWaitMillis = 1<<20, 10
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.FetchOffset, rp.LastFetchedEpoch = 1<<20, -1, from, epoch
		req.Topics = []kmsg.FetchRequestTopic{{Topic: o.prefix + "plain", Partitions: []kmsg.FetchRequestTopicPartition{rp}}}
		return answer(o, req, func(resp *kmsg.FetchResponse) string {
			p := resp.Topics[0].Partitions[0]
			return fmt.Sprintf("%s epoch %d ends at %d, %d bytes", code(p.ErrorCode), p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset, len(p.RecordBatches))
		})
	}
}

// byID fetches of partition 0 of "plain" by the topic's id.
func byID(change func(*kmsg.FetchRequest, *kmsg.FetchRequestTopicPartition)) func(*odd) string {
	return func(o *odd) string {
		req := at(13, kmsg.NewPtrFetchRequest())
		req.MaxBytes, req.MaxWaitMillis = 1<<20, 10
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = 1<<20, -1
		change(req, &rp)
		req.Topics = []kmsg.FetchRequestTopic{{TopicID: o.idOf("plain"), Partitions: []kmsg.FetchRequestTopicPartition{rp}}}
		return answer(o, req, func(resp *kmsg.FetchResponse) string {
			p := resp.Topics[0].Partitions[0]
			return fmt.Sprintf("%s high watermark %d, %d bytes", code(p.ErrorCode), p.HighWatermark, len(p.RecordBatches))
		})
	}
}

// idOf is the id of a topic.
func (o *odd) idOf(topic string) [16]byte {
	req := at(12, kmsg.NewPtrMetadataRequest())
	req.Topics = []kmsg.MetadataRequestTopic{{Topic: ptr(o.prefix + topic)}}
	return must[*kmsg.MetadataResponse](o.wire, req).Topics[0].TopicID
}
