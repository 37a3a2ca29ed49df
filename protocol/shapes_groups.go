package protocol

// groupShapeOf is shapeOf for the APIs of those who look after groups, nil for others.
func groupShapeOf(key int16) []field {
	switch key {
	case KeyDescribeGroups:
		return describeGroupsShape
	case KeyListGroups:
		return listGroupsShape
	case KeyDeleteGroups:
		return deleteGroupsShape
	case KeyOffsetDelete:
		return offsetDeleteShape
	}
	return nil
}

var describeGroupsShape = []field{
	plain(16, text()),  // groups
	since(3, fixed(1)), // include authorized operations
}

var listGroupsShape = []field{
	since(4, plain(16, text())), // states
	since(5, plain(16, text())), // types
}

var deleteGroupsShape = []field{
	plain(16, text()), // groups
}

var offsetDeleteShape = []field{
	text(), // group
	list(40,
		text(),
		list(4, fixed(4))), // partitions
}
