package integration_test

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetch asks partition 0 of a topic, which change may make odder.
func fetch(topic string, change func(*kmsg.FetchRequest, *kmsg.FetchRequestTopicPartition)) func(*odd) string {
	return func(o *odd) string {
		req := at(12, kmsg.NewPtrFetchRequest())
		req.MaxBytes, req.MaxWaitMillis = 1<<20, 10
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = 1<<20, -1
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic = o.prefix + topic
		change(req, &rp)
		rt.Partitions = []kmsg.FetchRequestTopicPartition{rp}
		if req.Version >= 13 {
			rt.TopicID = [16]byte{1, 2, 3}
		}
		req.Topics = []kmsg.FetchRequestTopic{rt}
		return answer(o, req, func(resp *kmsg.FetchResponse) string {
			if resp.ErrorCode != 0 {
				return code(resp.ErrorCode)
			}
			return each(resp.Topics, func(t kmsg.FetchResponseTopic) string {
				return each(t.Partitions, func(p kmsg.FetchResponseTopicPartition) string {
					return fmt.Sprintf("%s high watermark %d, %d bytes", code(p.ErrorCode), p.HighWatermark, len(p.RecordBatches))
				})
			})
		})
	}
}

func oddFetches() []oddity {
	type request = kmsg.FetchRequest
	type part = kmsg.FetchRequestTopicPartition
	from := func(offset int64) func(*request, *part) { return func(_ *request, p *part) { p.FetchOffset = offset } }
	return []oddity{
		{"fetch an unknown topic", fetch("unknown", from(0))},
		{"fetch an unknown partition", fetch("plain", func(_ *request, p *part) { p.Partition = 99 })},
		{"fetch partition -1", fetch("plain", func(_ *request, p *part) { p.Partition = -1 })},
		{"fetch an unknown topic id", fetch("plain", func(r *request, _ *part) { r.Version = 13 })},
		{"fetch offset -1", fetch("plain", from(-1))},
		{"fetch offset -5", fetch("plain", from(-5))},
		{"fetch at the high watermark", fetch("plain", from(10))},
		{"fetch beyond the high watermark", fetch("plain", from(11))},
		{"fetch the last record", fetch("plain", from(9))},
		{"fetch in a later leader epoch", fetch("plain", func(_ *request, p *part) { p.CurrentLeaderEpoch = 77 })},
		{"fetch with a last epoch that is not known yet", fetch("plain", func(_ *request, p *part) { p.FetchOffset, p.LastFetchedEpoch = 5, 77 })},
		{"fetch of max bytes 0", fetch("plain", func(r *request, _ *part) { r.MaxBytes = 0 })},
		{"fetch of partition max bytes 0", fetch("plain", func(_ *request, p *part) { p.PartitionMaxBytes = 0 })},
		{"fetch of partition max bytes 1", fetch("plain", func(_ *request, p *part) { p.PartitionMaxBytes = 1 })},
		{"fetch in an unknown session", fetch("plain", func(r *request, _ *part) { r.SessionID, r.SessionEpoch = 12345, 7 })},
		{"fetch with session epoch 5 and no session", fetch("plain", func(r *request, _ *part) { r.SessionID, r.SessionEpoch = 0, 5 })},
		{"fetch as a replica that is none", fetch("plain", func(r *request, _ *part) { r.ReplicaID = 42 })},
	}
}

// list asks ListOffsets for partition 0 of a topic.
func list(version int16, topic string, timestamp int64, change ...func(*kmsg.ListOffsetsRequestTopicPartition)) func(*odd) string {
	return func(o *odd) string {
		req := at(version, kmsg.NewPtrListOffsetsRequest())
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Timestamp, rp.CurrentLeaderEpoch = timestamp, -1
		for _, c := range change {
			c(&rp)
		}
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic, rt.Partitions = o.prefix+topic, []kmsg.ListOffsetsRequestTopicPartition{rp}
		req.Topics = []kmsg.ListOffsetsRequestTopic{rt}
		return answer(o, req, listed)
	}
}

func listed(resp *kmsg.ListOffsetsResponse) string {
	return each(resp.Topics, func(t kmsg.ListOffsetsResponseTopic) string {
		return each(t.Partitions, func(p kmsg.ListOffsetsResponseTopicPartition) string {
			return fmt.Sprintf("%s offset %d timestamp %d epoch %d", code(p.ErrorCode), p.Offset, p.Timestamp, p.LeaderEpoch)
		})
	})
}

func oddLookups() []oddity {
	type part = kmsg.ListOffsetsRequestTopicPartition
	out := []oddity{
		{"list offsets of an unknown topic", list(8, "unknown", -1)},
		{"list offsets of an unknown partition", list(8, "plain", -1, func(p *part) { p.Partition = 99 })},
		{"list offsets in a later leader epoch", list(8, "plain", -1, func(p *part) { p.CurrentLeaderEpoch = 77 })},
		{"list offsets by max timestamp in version 6", list(6, "plain", -3)},
		{"list offsets by earliest-local in version 7", list(7, "plain", -4)},
		{"list offsets by latest-tiered in version 8", list(8, "plain", -5)},
		{"list offsets by earliest-pending-upload in version 10", list(10, "plain", -6)},
		{"list offsets of a partition twice", func(o *odd) string {
			req := at(8, kmsg.NewPtrListOffsetsRequest())
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Timestamp = -1
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic, rt.Partitions = o.prefix+"plain", []part{rp, rp}
			req.Topics = []kmsg.ListOffsetsRequestTopic{rt}
			return answer(o, req, listed)
		}},
	}
	for _, ts := range []int64{-1, -2, -3, -4, -5, -6, -7, -100, 0, 1, 1_000_000, 1_000_001, 1_008_999, 1_009_000, 1_009_001, 1 << 60} {
		out = append(
			out,
			oddity{fmt.Sprintf("list offsets at %d", ts), list(11, "plain", ts)},
			oddity{fmt.Sprintf("list offsets of an empty partition at %d", ts), list(11, "compacted", ts, func(p *part) { p.Partition = 1 })},
		)
	}
	for _, epoch := range []int32{-1, 0, 99} {
		out = append(out, oddity{fmt.Sprintf("end of leader epoch %d", epoch), endOfEpoch("plain", 0, -1, epoch)})
	}
	return append(
		out,
		oddity{"end of a leader epoch of an unknown topic", endOfEpoch("unknown", 0, -1, 0)},
		oddity{"end of a leader epoch of an unknown partition", endOfEpoch("plain", 99, -1, 0)},
		oddity{"end of a leader epoch in a later one", endOfEpoch("plain", 0, 77, 0)},
	)
}

func endOfEpoch(topic string, partition, current, epoch int32) func(*odd) string {
	return func(o *odd) string {
		req := at(4, kmsg.NewPtrOffsetForLeaderEpochRequest())
		req.ReplicaID = -1
		rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		rp.Partition, rp.CurrentLeaderEpoch, rp.LeaderEpoch = partition, current, epoch
		rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
		rt.Topic, rt.Partitions = o.prefix+topic, []kmsg.OffsetForLeaderEpochRequestTopicPartition{rp}
		req.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{rt}
		return answer(o, req, func(resp *kmsg.OffsetForLeaderEpochResponse) string {
			return each(resp.Topics, func(t kmsg.OffsetForLeaderEpochResponseTopic) string {
				return each(t.Partitions, func(p kmsg.OffsetForLeaderEpochResponseTopicPartition) string {
					return fmt.Sprintf("%s epoch %d ends at %d", code(p.ErrorCode), p.LeaderEpoch, p.EndOffset)
				})
			})
		})
	}
}

func oddMetadata() []oddity {
	metadata := func(version int16, topics ...func(*odd) kmsg.MetadataRequestTopic) func(*odd) string {
		return func(o *odd) string {
			req := at(version, kmsg.NewPtrMetadataRequest())
			req.Topics = []kmsg.MetadataRequestTopic{}
			for _, t := range topics {
				req.Topics = append(req.Topics, t(o))
			}
			return answer(o, req, func(resp *kmsg.MetadataResponse) string {
				return fmt.Sprintf("%d topics: ", len(resp.Topics)) + each(resp.Topics, func(t kmsg.MetadataResponseTopic) string {
					return fmt.Sprintf("%s of %d partitions", code(t.ErrorCode), len(t.Partitions))
				})
			})
		}
	}
	named := func(name string) func(*odd) kmsg.MetadataRequestTopic {
		return func(*odd) kmsg.MetadataRequestTopic { return kmsg.MetadataRequestTopic{Topic: &name} }
	}
	known := func(o *odd) kmsg.MetadataRequestTopic {
		return kmsg.MetadataRequestTopic{Topic: ptr(o.prefix + "plain")}
	}
	identified := func(id [16]byte) func(*odd) kmsg.MetadataRequestTopic {
		return func(*odd) kmsg.MetadataRequestTopic { return kmsg.MetadataRequestTopic{TopicID: id} }
	}
	return []oddity{
		{"metadata of no topics", metadata(9)},
		{"metadata of an unknown topic, not to be created", metadata(9, named("unknown"))},
		{"metadata of an invalid name", metadata(9, named("a/b"))},
		{"metadata of an empty name", metadata(9, named(""))},
		{"metadata of a topic twice", metadata(9, known, known)},
		{"metadata of an unknown id", metadata(12, identified([16]byte{1, 2, 3}))},
		{"metadata of a null name and the zero id", metadata(12, identified([16]byte{}))},
		{"metadata of an id in version 10", metadata(10, identified([16]byte{1, 2, 3}))},
		{"metadata of a name and an id", metadata(12, func(o *odd) kmsg.MetadataRequestTopic {
			return kmsg.MetadataRequestTopic{Topic: ptr(o.prefix + "plain"), TopicID: [16]byte{1, 2, 3}}
		})},
		{"ApiVersions in version 99", func(o *odd) string {
			o.send(at(99, kmsg.NewPtrApiVersionsRequest()))
			frame, err := o.receive()
			if err != nil {
				return err.Error()
			}
			var resp kmsg.ApiVersionsResponse // of version 0, whatever was asked for
			if err := resp.ReadFrom(frame[4:]); err != nil {
				return err.Error()
			}
			return code(resp.ErrorCode)
		}},
		{"ApiVersions of a client without a name", apiVersions("", "1")},
		{"ApiVersions of a client with an odd name", apiVersions("a b!", "1")},
		{"describe cluster for endpoint type 2", describeCluster(2)},
		{"describe cluster for endpoint type 9", describeCluster(9)},
	}
}

func apiVersions(name, version string) func(*odd) string {
	return func(o *odd) string {
		req := at(3, kmsg.NewPtrApiVersionsRequest())
		req.ClientSoftwareName, req.ClientSoftwareVersion = name, version
		return answer(o, req, func(r *kmsg.ApiVersionsResponse) string { return code(r.ErrorCode) })
	}
}

func describeCluster(endpoints int8) func(*odd) string {
	return func(o *odd) string {
		req := at(1, kmsg.NewPtrDescribeClusterRequest())
		req.EndpointType = endpoints
		return answer(o, req, func(r *kmsg.DescribeClusterResponse) string { return code(r.ErrorCode) })
	}
}
