package integration_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/integration/harness"
)

// mostForAnswers is how much more memory the broker may have held after all requests whose answers multiply.
const mostForAnswers = 256 << 20

// TestASmallRequestHasNoHugeAnswer: requests that ask for the same thing again and again, or name a long thing for
// each of many elements. Each of these once took gigabytes.
func TestASmallRequestHasNoHugeAnswer(t *testing.T) {
	broker := harness.Start(t, harness.Options{})
	w := dialWire(t, broker.Addr)
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "wide", 100, 1
	create := at(7, kmsg.NewPtrCreateTopicsRequest())
	create.TimeoutMillis, create.Topics = 30_000, []kmsg.CreateTopicsRequestTopic{topic}
	id := must[*kmsg.CreateTopicsResponse](w, create).Topics[0].TopicID
	before := peakMemory(t, broker.PID())

	metadata := at(12, kmsg.NewPtrMetadataRequest())
	for range 40_000 {
		topic := kmsg.NewMetadataRequestTopic()
		topic.TopicID = id
		metadata.Topics = append(metadata.Topics, topic)
	}
	if got := must[*kmsg.MetadataResponse](w, metadata); len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 100 {
		t.Errorf("Metadata tells %d topics", len(got.Topics))
	}

	configs := at(4, kmsg.NewPtrDescribeConfigsRequest())
	configs.IncludeDocumentation, configs.IncludeSynonyms = true, true
	for range 80_000 {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, "wide"
		configs.Resources = append(configs.Resources, r)
	}
	if got := must[*kmsg.DescribeConfigsResponse](w, configs); len(got.Resources) != 1 || len(got.Resources[0].Configs) == 0 {
		t.Errorf("DescribeConfigs tells %d resources", len(got.Resources))
	}

	elect := at(2, kmsg.NewPtrElectLeadersRequest())
	missing := kmsg.NewElectLeadersRequestTopic()
	missing.Topic = strings.Repeat("x", 30_000)
	for n := range int32(60_000) {
		missing.Partitions = append(missing.Partitions, n)
	}
	elect.Topics = append(elect.Topics, missing)
	if got := must[*kmsg.ElectLeadersResponse](w, elect); len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 60_000 {
		t.Errorf("ElectLeaders tells %d topics", len(got.Topics))
	} else if message := got.Topics[0].Partitions[0].ErrorMessage; message == nil || len(*message) > 400 {
		t.Errorf("the message is %v", message)
	}

	producers := at(0, kmsg.NewPtrDescribeProducersRequest())
	for range 20_000 {
		topic := kmsg.NewDescribeProducersRequestTopic()
		topic.Topic, topic.Partitions = "wide", []int32{1, 1, 1, 1}
		producers.Topics = append(producers.Topics, topic)
	}
	told := 0
	for _, topic := range must[*kmsg.DescribeProducersResponse](w, producers).Topics {
		told += len(topic.Partitions)
	}
	if told != 1 {
		t.Errorf("DescribeProducers tells %d partitions", told)
	}

	// Kafka's longest string has 32767 bytes, however a length is written.
	long := binary.AppendUvarint(nil, 1<<15+1)
	closes(t, broker, "a topic name of 32768 bytes", framed(bytes.Join([][]byte{
		header(int16(kmsg.Metadata), 9, true), {2}, long, bytes.Repeat([]byte{'a'}, 1<<15), make([]byte, 8),
	}, nil)))

	if grown := peakMemory(t, broker.PID()) - before; grown > mostForAnswers {
		t.Errorf("the broker's memory grew by %d MiB", grown>>20)
	}
	client := broker.Client(kgo.DefaultProduceTopic("wide"))
	if err := client.ProduceSync(t.Context(), kgo.StringRecord("alive")).FirstErr(); err != nil {
		t.Error(err)
	}
}
