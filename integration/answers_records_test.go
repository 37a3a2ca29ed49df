package integration_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/protocol/record"
)

// cut asks DeleteRecords for one partition; "~" in a topic's name stands for the prefix.
type cut struct {
	topic     string
	partition int32
	before    int64
}

func (o *odd) cutRequest(cuts ...cut) kmsg.Request {
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 10_000
	for _, c := range cuts {
		t := kmsg.NewDeleteRecordsRequestTopic()
		t.Topic = strings.ReplaceAll(c.topic, "~", o.prefix)
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Partition, p.Offset = c.partition, c.before
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	return req
}

// oddCuts are DeleteRecords, and what is seen of a partition before and after.
func oddCuts() []oddity {
	remove := func(name string, cuts ...cut) oddity {
		return told(name, 2, func(o *odd) kmsg.Request { return o.cutRequest(cuts...) })
	}
	return []oddity{
		{"delete records, the topic of the next ones", func(o *odd) string { return o.furnishCut() }},
		remove("delete records below 4", cut{"~cut", 0, 4}),
		{"list the earliest offset after that", list(8, "cut", -2)},
		{"list the earliest local offset after that", list(8, "cut", -4)},
		{"list the offset of a time that was deleted", list(8, "cut", 1_001_000)},
		{"list the offset of a time that is there", list(8, "cut", 1_006_000)},
		{"list the offset of the greatest time after that", list(8, "cut", -3)},
		{"fetch what was deleted", fetch("cut", fetchFrom(3))},
		{"fetch the first that is left", fetch("cut", fetchFrom(4))},
		{"find the end of epoch 0 after that", endOfEpoch("cut", 0, -1, 0)},
		remove("delete records below what is deleted", cut{"~cut", 0, 2}),
		remove("delete records below the same again", cut{"~cut", 0, 4}),
		remove("delete records below 0", cut{"~cut", 0, 0}),
		remove("delete records beyond the high watermark", cut{"~cut", 0, 11}),
		remove("delete records below -2", cut{"~cut", 0, -2}),
		remove("delete records of an unknown topic", cut{"unknown", 0, 1}),
		remove("delete records of an unknown partition", cut{"~cut", 99, 1}),
		remove("delete records of partition -1", cut{"~cut", -1, 1}),
		remove("delete records of a topic without a name", cut{"", 0, 1}),
		remove("delete records of a compacted topic", cut{"~compacted", 0, -1}),
		remove("delete records of an empty partition", cut{"~cut", 1, -1}),
		remove("delete records of an empty partition below 1", cut{"~cut", 1, 1}),
		remove("delete records of the offsets topic", cut{"__consumer_offsets", 0, -1}),
		remove("delete records of no topic"),
		remove("delete records, good and bad", cut{"~cut", 0, 5}, cut{"unknown", 0, 5}),
		remove("delete records of a partition twice", cut{"~cut", 0, 6}, cut{"~cut", 0, 7}),
		told("delete records of a topic without partitions", 2, func(o *odd) kmsg.Request {
			req := o.cutRequest(cut{"~cut", 0, 1}).(*kmsg.DeleteRecordsRequest)
			req.Topics[0].Partitions = nil
			return req
		}),
		told("delete records with timeout 0", 2, func(o *odd) kmsg.Request {
			req := o.cutRequest(cut{"~cut", 0, 7}).(*kmsg.DeleteRecordsRequest)
			req.TimeoutMillis = 0
			return req
		}),
		told("delete records with timeout -5", 2, func(o *odd) kmsg.Request {
			req := o.cutRequest(cut{"~cut", 0, 8}).(*kmsg.DeleteRecordsRequest)
			req.TimeoutMillis = -5
			return req
		}),
		told("delete records in version 0", 0, func(o *odd) kmsg.Request { return o.cutRequest(cut{"~cut", 0, 8}) }),
		told("delete records in version 1", 1, func(o *odd) kmsg.Request { return o.cutRequest(cut{"~cut", 0, 8}) }),
		remove("delete all records", cut{"~cut", 0, -1}),
		{"list the earliest offset after all", list(8, "cut", -2)},
		{"list the latest offset after all", list(8, "cut", -1)},
		{"list the offset of the greatest time after all", list(8, "cut", -3)},
		{"list the offset of a time after all", list(8, "cut", 1_000_000)},
		{"find the end of epoch 0 after all", endOfEpoch("cut", 0, -1, 0)},
		{"fetch the last that was deleted", fetch("cut", fetchFrom(9))},
		{"fetch at the end after all", fetch("cut", fetchFrom(10))},
		{"produce after all", func(o *odd) string { return o.produce("cut", 0, batchAt(1_100_000)) }},
		{"fetch what was produced after all", fetch("cut", fetchFrom(10))},
		remove("delete records of compact,delete", cut{"~both", 0, 1}),
	}
}

func fetchFrom(offset int64) func(*kmsg.FetchRequest, *kmsg.FetchRequestTopicPartition) {
	return func(_ *kmsg.FetchRequest, p *kmsg.FetchRequestTopicPartition) { p.FetchOffset = offset }
}

// furnishCut makes two topics: "cut" with ten records in partition 0, and "both", compacted and deleted.
func (o *odd) furnishCut() string {
	o.make("cut", 2)
	o.make("both", 1, "cleanup.policy", "compact,delete")
	for n := range 10 {
		o.led("cut", 0, batchAt(1_000_000+1000*int64(n)))
	}
	o.led("both", 0, batchAt(1_000_000))
	o.led("both", 0, batchAt(1_000_000))
	return "there"
}

// make creates a topic, whose settings come as "name", "value", ...
func (o *odd) make(name string, partitions int32, settings ...string) {
	o.t.Helper()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = o.prefix+name, partitions, 1
	for i := 0; i+1 < len(settings); i += 2 {
		t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: settings[i], Value: &settings[i+1]})
	}
	if got := o.create(t); got != "NONE" {
		o.t.Fatal(got)
	}
	for p := range partitions {
		harness.Eventually(o.t, wireLimit, fmt.Sprintf("%s-%d is led", name, p), func() error {
			if got := list(8, name, -1, func(rp *kmsg.ListOffsetsRequestTopicPartition) { rp.Partition = p })(o); !strings.HasPrefix(got, "NONE") {
				return errors.New(got)
			}
			return nil
		})
	}
}

// led appends a batch.
func (o *odd) led(topic string, partition int32, b record.Batch) {
	o.t.Helper()
	if got := o.produce(topic, partition, b); !strings.HasPrefix(got, "NONE") {
		o.t.Fatal(got)
	}
}
