package integration_test

import "testing"

// brokerMeasured holds Kafka's whole answers to what tools ask of one broker:
// -run TestBrokerAnswersAreKafkas -measure HOST:PORT writes it, as for measured.
const brokerMeasured = "testdata/answers-broker-kafka-4.3.1.txt"

// brokerDifferences are strata's answers where they are not Kafka's, each with its reason.
var brokerDifferences = map[string]difference{
	"end of leader epoch -2":                         {"NONE epoch -1 ends at -1", "there is none below 0"},
	"fetch of isolation level 7":                     {"NONE high watermark 10, 700 bytes", "what is not 1 is read_uncommitted; Kafka's breaks"},
	"fetch what was deleted":                         {outOfRange, "the high watermark is known"},
	"fetch the last that was deleted":                {outOfRange, "the high watermark is known"},
	"list the offset of the greatest time after all": {"NONE offset -1 timestamp -1 epoch -1", "Kafka tells a record that was deleted"},
	"topic partitions, no name":                      {"Topics[{INVALID_TOPIC_EXCEPTION Topic= AuthorizedOperations=3576}]", "Kafka's breaks"},
	"reassign, no topic":                             {"AllowReplicationFactorChange=true", "no message, as where there is a topic"},
	"producers, of a partition twice":                {"Topics[{Topic=producers Partitions[{ActiveProducers[{ProducerID=7001 ProducerEpoch=3 LastSequence=1 LastTimestamp=? CoordinatorEpoch=-1 CurrentTxnStartOffset=-1}]}]}]", "each is told once: a request could ask for large ones without end"},
	"quorum, describe":                               {"ErrorMessage= Topics[{" + quorumTold + "}] Nodes[{NodeID=1}]", "Kafka with controller.quorum.voters tells no directory; there is no controller listener here"},
}

const quorumTold = "Topic=__cluster_metadata Partitions[{ErrorMessage= LeaderID=1 HighWatermark=1 CurrentVoters[{ReplicaID=1 ReplicaDirectoryID=? LogEndOffset=1 LastFetchTimestamp=? LastCaughtUpTimestamp=?}]}]"

// TestBrokerAnswersAreKafkas compares all fields, messages too, but for ids,
// times, places and sizes.
func TestBrokerAnswersAreKafkas(t *testing.T) {
	var oddities []oddity
	for _, some := range [][]oddity{
		oddEpochs(), oddCuts(), oddDescribed(), oddLogDirs(), oddProducers(), oddElections(), oddReassignments(), oddQuorum(),
	} {
		oddities = append(oddities, some...)
	}
	asKafka(t, brokerMeasured, oddities, brokerDifferences)
}
