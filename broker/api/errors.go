package api

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/protocol"
)

func unknownPartition(topic string, partition int32) error {
	return protocol.Errorf(kerr.UnknownTopicOrPartition, "no partition %d of topic %q", partition, topic)
}

func unknownTopicID(id protocol.TopicID) error {
	return protocol.Errorf(kerr.UnknownTopicID, "no topic of id %s", id)
}

func apiName(key int16) string {
	api, _ := protocol.LookupAPI(key)
	return api.Name
}
