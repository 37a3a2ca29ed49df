package protocol

import "iter"

// API keys that this release serves, by their numbers on the wire.
const (
	KeyProduce                     int16 = 0
	KeyFetch                       int16 = 1
	KeyListOffsets                 int16 = 2
	KeyMetadata                    int16 = 3
	KeyOffsetCommit                int16 = 8
	KeyOffsetFetch                 int16 = 9
	KeyFindCoordinator             int16 = 10
	KeyJoinGroup                   int16 = 11
	KeyHeartbeat                   int16 = 12
	KeyLeaveGroup                  int16 = 13
	KeySyncGroup                   int16 = 14
	KeyDescribeGroups              int16 = 15
	KeyListGroups                  int16 = 16
	KeyAPIVersions                 int16 = 18
	KeyCreateTopics                int16 = 19
	KeyDeleteTopics                int16 = 20
	KeyDeleteRecords               int16 = 21
	KeyInitProducerID              int16 = 22
	KeyOffsetForLeaderEpoch        int16 = 23
	KeyDescribeConfigs             int16 = 32
	KeyAlterConfigs                int16 = 33
	KeyAlterReplicaLogDirs         int16 = 34
	KeyDescribeLogDirs             int16 = 35
	KeyCreatePartitions            int16 = 37
	KeyDeleteGroups                int16 = 42
	KeyElectLeaders                int16 = 43
	KeyIncrementalAlterConfigs     int16 = 44
	KeyAlterPartitionReassignments int16 = 45
	KeyListPartitionReassignments  int16 = 46
	KeyOffsetDelete                int16 = 47
	KeyDescribeQuorum              int16 = 55
	KeyUpdateFeatures              int16 = 57
	KeyDescribeCluster             int16 = 60
	KeyDescribeProducers           int16 = 61
	KeyUnregisterBroker            int16 = 64
	KeyListConfigResources         int16 = 74
	KeyDescribeTopicPartitions     int16 = 75
)

// API is one row of the table of served APIs: versions from Min to Max are
// answered as Kafka would. From version Flexible on, the request header and
// body carry tagged fields (KIP-482).
type API struct {
	Key        int16
	Name       string
	Min, Max   int16
	Advertised int16 // minimum told to clients; Min but for Produce (KAFKA-18659)
	Flexible   int16
	Priority   bool // served from the memory reserve: what keeps groups alive
}

// apis is the table, in key order; it is never changed. The minima are those
// of Kafka 4.0, the maxima those of kmsg.
var apis = [...]API{
	{Key: KeyProduce, Name: "Produce", Min: 3, Max: 13, Advertised: 0, Flexible: 9},
	{Key: KeyFetch, Name: "Fetch", Min: 4, Max: 18, Advertised: 4, Flexible: 12},
	{Key: KeyListOffsets, Name: "ListOffsets", Min: 1, Max: 11, Advertised: 1, Flexible: 6},
	{Key: KeyMetadata, Name: "Metadata", Min: 0, Max: 13, Advertised: 0, Flexible: 9},
	{Key: KeyOffsetCommit, Name: "OffsetCommit", Min: 2, Max: 10, Advertised: 2, Flexible: 8, Priority: true},
	{Key: KeyOffsetFetch, Name: "OffsetFetch", Min: 1, Max: 10, Advertised: 1, Flexible: 6, Priority: true},
	{Key: KeyFindCoordinator, Name: "FindCoordinator", Min: 0, Max: 6, Advertised: 0, Flexible: 3, Priority: true},
	{Key: KeyJoinGroup, Name: "JoinGroup", Min: 0, Max: 9, Advertised: 0, Flexible: 6, Priority: true},
	{Key: KeyHeartbeat, Name: "Heartbeat", Min: 0, Max: 4, Advertised: 0, Flexible: 4, Priority: true},
	{Key: KeyLeaveGroup, Name: "LeaveGroup", Min: 0, Max: 5, Advertised: 0, Flexible: 4, Priority: true},
	{Key: KeySyncGroup, Name: "SyncGroup", Min: 0, Max: 5, Advertised: 0, Flexible: 4, Priority: true},
	{Key: KeyDescribeGroups, Name: "DescribeGroups", Min: 0, Max: 6, Advertised: 0, Flexible: 5},
	{Key: KeyListGroups, Name: "ListGroups", Min: 0, Max: 5, Advertised: 0, Flexible: 3},
	{Key: KeyAPIVersions, Name: "ApiVersions", Min: 0, Max: 5, Advertised: 0, Flexible: 3, Priority: true},
	{Key: KeyCreateTopics, Name: "CreateTopics", Min: 2, Max: 7, Advertised: 2, Flexible: 5},
	{Key: KeyDeleteTopics, Name: "DeleteTopics", Min: 1, Max: 6, Advertised: 1, Flexible: 4},
	{Key: KeyDeleteRecords, Name: "DeleteRecords", Min: 0, Max: 2, Advertised: 0, Flexible: 2},
	{Key: KeyInitProducerID, Name: "InitProducerId", Min: 0, Max: 5, Advertised: 0, Flexible: 2},
	{Key: KeyOffsetForLeaderEpoch, Name: "OffsetForLeaderEpoch", Min: 2, Max: 4, Advertised: 2, Flexible: 4},
	{Key: KeyDescribeConfigs, Name: "DescribeConfigs", Min: 1, Max: 4, Advertised: 1, Flexible: 4},
	{Key: KeyAlterConfigs, Name: "AlterConfigs", Min: 0, Max: 2, Advertised: 0, Flexible: 2},
	{Key: KeyAlterReplicaLogDirs, Name: "AlterReplicaLogDirs", Min: 1, Max: 2, Advertised: 1, Flexible: 2},
	{Key: KeyDescribeLogDirs, Name: "DescribeLogDirs", Min: 1, Max: 5, Advertised: 1, Flexible: 2},
	{Key: KeyCreatePartitions, Name: "CreatePartitions", Min: 0, Max: 3, Advertised: 0, Flexible: 2},
	{Key: KeyDeleteGroups, Name: "DeleteGroups", Min: 0, Max: 3, Advertised: 0, Flexible: 2},
	{Key: KeyElectLeaders, Name: "ElectLeaders", Min: 0, Max: 2, Advertised: 0, Flexible: 2},
	{Key: KeyIncrementalAlterConfigs, Name: "IncrementalAlterConfigs", Min: 0, Max: 1, Advertised: 0, Flexible: 1},
	{Key: KeyAlterPartitionReassignments, Name: "AlterPartitionReassignments", Min: 0, Max: 1, Advertised: 0, Flexible: 0},
	{Key: KeyListPartitionReassignments, Name: "ListPartitionReassignments", Min: 0, Max: 0, Advertised: 0, Flexible: 0},
	{Key: KeyOffsetDelete, Name: "OffsetDelete", Min: 0, Max: 0, Advertised: 0, Flexible: 1},
	{Key: KeyDescribeQuorum, Name: "DescribeQuorum", Min: 0, Max: 2, Advertised: 0, Flexible: 0},
	{Key: KeyUpdateFeatures, Name: "UpdateFeatures", Min: 0, Max: 2, Advertised: 0, Flexible: 0},
	{Key: KeyDescribeCluster, Name: "DescribeCluster", Min: 0, Max: 2, Advertised: 0, Flexible: 0},
	{Key: KeyDescribeProducers, Name: "DescribeProducers", Min: 0, Max: 0, Advertised: 0, Flexible: 0},
	{Key: KeyUnregisterBroker, Name: "UnregisterBroker", Min: 0, Max: 0, Advertised: 0, Flexible: 0},
	{Key: KeyListConfigResources, Name: "ListConfigResources", Min: 0, Max: 1, Advertised: 0, Flexible: 0},
	{Key: KeyDescribeTopicPartitions, Name: "DescribeTopicPartitions", Min: 0, Max: 0, Advertised: 0, Flexible: 0},
}

// APIs yields the served APIs in key order.
func APIs() iter.Seq[API] {
	return func(yield func(API) bool) {
		for i := range apis {
			if !yield(apis[i]) {
				return
			}
		}
	}
}

// LookupAPI finds the row of an API key; ok is false for a key not served.
func LookupAPI(key int16) (api API, ok bool) {
	for i := range apis {
		if apis[i].Key == key {
			return apis[i], true
		}
	}
	return API{}, false
}

// Serves tells whether requests of that version are answered.
func (a *API) Serves(version int16) bool { return version >= a.Min && version <= a.Max }

// IsFlexible tells whether that version carries tagged fields.
func (a *API) IsFlexible(version int16) bool { return version >= a.Flexible }
