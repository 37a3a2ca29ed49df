package protocol

// replicaShapeOf goes on where adminShapeOf ends: what tools ask about replicas, logs and the quorum.
func replicaShapeOf(key int16) []field {
	switch key {
	case KeyDeleteRecords:
		return deleteRecordsShape
	case KeyAlterReplicaLogDirs:
		return alterReplicaLogDirsShape
	case KeyDescribeLogDirs:
		return describeLogDirsShape
	case KeyElectLeaders:
		return electLeadersShape
	case KeyAlterPartitionReassignments:
		return alterPartitionReassignmentsShape
	case KeyListPartitionReassignments:
		return listPartitionReassignmentsShape
	case KeyDescribeQuorum:
		return describeQuorumShape
	case KeyDescribeProducers:
		return describeProducersShape
	case KeyUnregisterBroker:
		return unregisterBrokerShape
	case KeyDescribeTopicPartitions:
		return describeTopicPartitionsShape
	}
	panic("protocol: API served without a shape")
}

var deleteRecordsShape = []field{
	list(48,
		text(),
		list(24,
			fixed(4),   // partition
			fixed(8))), // offset
	fixed(4), // timeout
}

var alterReplicaLogDirsShape = []field{
	list(48,
		text(), // directory
		list(48,
			text(),
			plain(4, fixed(4)))),
}

var describeLogDirsShape = []field{
	null(list(48,
		text(),
		plain(4, fixed(4)))),
}

var electLeadersShape = []field{
	since(1, fixed(1)), // election type
	null(list(48,
		text(),
		plain(4, fixed(4)))),
	fixed(4), // timeout
}

var alterPartitionReassignmentsShape = []field{
	fixed(4),           // timeout
	since(1, fixed(1)), // allow replication factor change
	list(48,
		text(),
		list(40,
			fixed(4), // partition
			null(plain(4, fixed(4))))),
}

var listPartitionReassignmentsShape = []field{
	fixed(4), // timeout
	null(list(48,
		text(),
		plain(4, fixed(4)))),
}

var describeQuorumShape = []field{
	list(48,
		text(),
		list(16,
			fixed(4))), // partition
}

var describeProducersShape = []field{
	list(48,
		text(),
		plain(4, fixed(4))),
}

var unregisterBrokerShape = []field{
	fixed(4), // broker
}

var describeTopicPartitionsShape = []field{
	list(24,
		text()),
	fixed(4), // response partition limit
	maybe(40,
		text(),
		fixed(4)), // cursor: topic, partition
}
