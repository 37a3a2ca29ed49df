package protocol

// shapeOf gives the shape of an API's request body: its fields in order, with
// the versions that carry them (Kafka's message definitions), and for each list
// the memory an element takes once decoded by kmsg.
func shapeOf(key int16) []field {
	switch key {
	case KeyFetch:
		return fetchShape
	case KeyListOffsets:
		return listOffsetsShape
	case KeyMetadata:
		return metadataShape
	case KeyOffsetCommit:
		return offsetCommitShape
	case KeyOffsetFetch:
		return offsetFetchShape
	case KeyFindCoordinator:
		return findCoordinatorShape
	case KeyJoinGroup:
		return joinGroupShape
	case KeyHeartbeat:
		return heartbeatShape
	case KeyLeaveGroup:
		return leaveGroupShape
	case KeySyncGroup:
		return syncGroupShape
	case KeyAPIVersions:
		return apiVersionsShape
	}
	if shape := groupShapeOf(key); shape != nil {
		return shape
	}
	return adminShapeOf(key)
}

// adminShapeOf goes on where shapeOf ends.
func adminShapeOf(key int16) []field {
	switch key {
	case KeyCreateTopics:
		return createTopicsShape
	case KeyDeleteTopics:
		return deleteTopicsShape
	case KeyInitProducerID:
		return initProducerIDShape
	case KeyOffsetForLeaderEpoch:
		return offsetForLeaderEpochShape
	case KeyDescribeConfigs:
		return describeConfigsShape
	case KeyAlterConfigs:
		return alterConfigsShape
	case KeyUpdateFeatures:
		return updateFeaturesShape
	case KeyListConfigResources:
		return listConfigResourcesShape
	case KeyCreatePartitions:
		return createPartitionsShape
	case KeyIncrementalAlterConfigs:
		return incrementalAlterConfigsShape
	case KeyDescribeCluster:
		return describeClusterShape
	}
	return replicaShapeOf(key)
}

var fetchShape = []field{
	until(14, fixed(4)), // replica id, a tagged field since version 15
	fixed(4),            // max wait
	fixed(4),            // min bytes
	fixed(4),            // max bytes
	fixed(1),            // isolation level
	since(7, fixed(4)),  // session id
	since(7, fixed(4)),  // session epoch
	list(64,
		until(12, text()),
		since(13, fixed(16)),
		list(512, // decoded, and what a fetch keeps of it while it waits
			fixed(4),            // partition
			since(9, fixed(4)),  // current leader epoch
			fixed(8),            // fetch offset
			since(12, fixed(4)), // last fetched epoch
			since(5, fixed(8)),  // log start offset
			fixed(4),            // max bytes
		)),
	since(7, list(64, // forgotten topics
		until(12, text()),
		since(13, fixed(16)),
		plain(4, fixed(4)))),
	since(11, text()), // rack
}

var listOffsetsShape = []field{
	fixed(4),           // replica id
	since(2, fixed(1)), // isolation level
	list(48,
		text(),
		list(32,
			fixed(4),           // partition
			since(4, fixed(4)), // current leader epoch
			fixed(8),           // timestamp
		)),
	since(10, fixed(4)), // timeout
}

var metadataShape = []field{
	null(list(32,
		since(10, fixed(16)),
		until(9, pointed(text())),
		since(10, nullText()))),
	since(4, fixed(1)),      // allow auto creation
	within(8, 10, fixed(1)), // cluster authorized operations
	since(8, fixed(1)),      // topic authorized operations
}

var offsetCommitShape = []field{
	text(),                 // group
	fixed(4),               // generation or member epoch
	text(),                 // member
	since(7, nullText()),   // instance
	within(2, 4, fixed(8)), // retention time
	list(64,
		until(9, text()),
		since(10, fixed(16)),
		list(48,
			fixed(4),           // partition
			fixed(8),           // offset
			since(6, fixed(4)), // leader epoch
			nullText(),         // metadata
		)),
}

var offsetFetchShape = []field{
	until(7, text()), // group
	until(7, null(list(48,
		text(),
		plain(4, fixed(4))))),
	since(8, list(64,
		text(),               // group
		since(9, nullText()), // member
		since(9, fixed(4)),   // member epoch
		null(list(64,
			until(9, text()),
			since(10, fixed(16)),
			plain(4, fixed(4)))))),
	since(7, fixed(1)), // require stable
}

var findCoordinatorShape = []field{
	until(3, text()),
	since(1, fixed(1)), // key type
	since(4, plain(16, text())),
}

var joinGroupShape = []field{
	text(),               // group
	fixed(4),             // session timeout
	since(1, fixed(4)),   // rebalance timeout
	text(),               // member
	since(5, nullText()), // instance
	text(),               // protocol type
	list(48,
		text(),
		blob()),
	since(8, nullText()), // reason
}

var heartbeatShape = []field{
	text(),               // group
	fixed(4),             // generation
	text(),               // member
	since(3, nullText()), // instance
}

var leaveGroupShape = []field{
	text(),           // group
	until(2, text()), // member
	since(3, list(40,
		text(),               // member
		nullText(),           // instance
		since(5, nullText()), // reason
	)),
}

var syncGroupShape = []field{
	text(),               // group
	fixed(4),             // generation
	text(),               // member
	since(3, nullText()), // instance
	since(5, nullText()), // protocol type
	since(5, nullText()), // protocol
	list(48,
		text(),
		blob()),
}

var apiVersionsShape = []field{
	since(3, text()),     // software name
	since(3, text()),     // software version
	since(5, nullText()), // cluster id
	since(5, fixed(4)),   // node id
}

var createTopicsShape = []field{
	list(80,
		text(),
		fixed(4), // partitions
		fixed(2), // replication factor
		list(40,
			fixed(4), // partition
			plain(4, fixed(4))),
		list(32,
			text(),
			nullText())),
	fixed(4), // timeout
	fixed(1), // validate only
}

var deleteTopicsShape = []field{
	until(5, plain(16, text())),
	since(6, list(32,
		nullText(),
		fixed(16))),
	fixed(4), // timeout
}

var initProducerIDShape = []field{
	nullText(),         // transactional id
	fixed(4),           // transaction timeout
	since(3, fixed(8)), // producer id
	since(3, fixed(2)), // producer epoch
}

var offsetForLeaderEpochShape = []field{
	since(3, fixed(4)), // replica id
	list(48,
		text(),
		list(24,
			fixed(4),   // partition
			fixed(4),   // current leader epoch
			fixed(4))), // leader epoch
}

var describeConfigsShape = []field{
	list(56,
		fixed(1), // resource type
		text(),
		null(plain(16, text()))),
	fixed(1),           // include synonyms
	since(3, fixed(1)), // include documentation
}

var alterConfigsShape = []field{
	list(56,
		fixed(1), // resource type
		text(),
		list(32,
			text(),
			nullText())),
	fixed(1), // validate only
}

var updateFeaturesShape = []field{
	fixed(4), // timeout
	list(32,
		text(),
		fixed(2),           // level
		until(0, fixed(1)), // allow downgrade
		since(1, fixed(1)), // upgrade type
	),
	since(1, fixed(1)), // validate only
}

var listConfigResourcesShape = []field{
	since(1, plain(1, fixed(1))), // resource types
}

var createPartitionsShape = []field{
	list(56,
		text(),
		fixed(4), // count
		null(list(32,
			plain(4, fixed(4))))),
	fixed(4), // timeout
	fixed(1), // validate only
}

var incrementalAlterConfigsShape = []field{
	list(56,
		fixed(1), // resource type
		text(),
		list(40,
			text(),
			fixed(1), // operation
			nullText())),
	fixed(1), // validate only
}

var describeClusterShape = []field{
	fixed(1),           // cluster authorized operations
	since(1, fixed(1)), // endpoint type
	since(2, fixed(1)), // include fenced brokers
}
