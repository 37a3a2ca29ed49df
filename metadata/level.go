package metadata

import (
	"math"

	"github.com/stratabroker/strata/metadata/metadatapb"
)

// VersionFeature is the name of the feature that gates what the metadata log may carry.
const VersionFeature = "strata.version"

// MinVersion and MaxVersion are the levels of the feature strata.version that
// this binary can apply. A new command kind, or a new field of an old one that
// Apply reads, raises MaxVersion; see README.md.
const (
	MinVersion uint32 = 1
	MaxVersion uint32 = 1
)

// UnknownLevel is the level of a kind that this binary does not know.
const UnknownLevel uint32 = math.MaxUint32

// LevelOf is the level of strata.version from which on a command of this kind
// may be proposed: the finalised level of the image must not be below it.
// InitCluster finalises the first level and needs none. UnknownLevel means that
// the broker must stop when it meets the command in the log.
func LevelOf(cmd *Command) uint32 {
	switch cmd.GetKind().(type) {
	case *metadatapb.Command_InitCluster:
		return 0
	case *metadatapb.Command_RegisterBroker,
		*metadatapb.Command_SetBrokerFencing,
		*metadatapb.Command_CreateTopic,
		*metadatapb.Command_DeleteTopic,
		*metadatapb.Command_AddPartitions,
		*metadatapb.Command_AlterConfigs,
		*metadatapb.Command_AlterPartitions,
		*metadatapb.Command_AllocateProducerIds,
		*metadatapb.Command_AdvanceLogStarts,
		*metadatapb.Command_CommitManifest,
		*metadatapb.Command_SetSweepFloor,
		*metadatapb.Command_RetainRoot,
		*metadatapb.Command_ReleaseRoots,
		*metadatapb.Command_BindBucket:
		return 1
	}
	return UnknownLevel
}
