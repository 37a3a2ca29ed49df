package tiering

import (
	"errors"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
)

// This file is the room's only door to the wire form of metadata commands.

// manifestCommit is everything that a CommitManifest says.
type manifestCommit struct {
	key       protocol.PartitionKey
	parent    metadata.ManifestRow // current when the try began
	version   format.Version
	tieredEnd protocol.Offset
	epoch     protocol.Epoch
}

func (c manifestCommit) command() *metadata.Command {
	return &metadata.Command{Kind: &metadatapb.Command_CommitManifest{CommitManifest: &metadatapb.CommitManifest{
		TopicId:       c.key.Topic[:],
		Partition:     c.key.Partition,
		ParentVersion: c.parent.Version,
		Version:       c.version.Version,
		Root:          wirePlace(c.version.Root),
		Attempt:       wireAttempt(c.version.Attempt),
		From:          int64(c.parent.TieredEnd),
		TieredEnd:     int64(c.tieredEnd),
		LeaderEpoch:   int32(c.epoch),
		Bytes:         uint64(c.version.Summary.ObjectBytes),
		Segments:      uint64(c.version.Summary.Segments),
	}}}
}

// logStart is one row of AdvanceLogStarts.
type logStart struct {
	key    protocol.PartitionKey
	offset protocol.Offset
	epoch  protocol.Epoch
}

func advanceLogStarts(rows []logStart) *metadata.Command {
	c := &metadatapb.AdvanceLogStarts{}
	for _, r := range rows {
		c.Rows = append(c.Rows, &metadatapb.LogStart{
			TopicId: r.key.Topic[:], Partition: r.key.Partition, Offset: int64(r.offset), LeaderEpoch: int32(r.epoch),
		})
	}
	return &metadata.Command{Kind: &metadatapb.Command_AdvanceLogStarts{AdvanceLogStarts: c}}
}

func setSweepFloor(floor, expected metadata.Attempt, at protocol.Timestamp) *metadata.Command {
	return &metadata.Command{Kind: &metadatapb.Command_SetSweepFloor{SetSweepFloor: &metadatapb.SetSweepFloor{
		Floor: wireAttempt(floor), Expected: wireAttempt(expected), AtMs: int64(at),
	}}}
}

func retainRoot(r metadata.Root) *metadata.Command {
	return &metadata.Command{Kind: &metadatapb.Command_RetainRoot{RetainRoot: &metadatapb.RetainRoot{
		Seq: r.Seq, Place: wirePlace(r.Place), Cut: wireAttempt(r.Cut), AtMs: int64(r.AtMs),
	}}}
}

func releaseRoots(seqs []uint64) *metadata.Command {
	return &metadata.Command{Kind: &metadatapb.Command_ReleaseRoots{ReleaseRoots: &metadatapb.ReleaseRoots{Seqs: seqs}}}
}

func bindBucket(url string, generation uint64) *metadata.Command {
	return &metadata.Command{Kind: &metadatapb.Command_BindBucket{BindBucket: &metadatapb.BindBucket{Url: url, Generation: generation}}}
}

func wireAttempt(a metadata.Attempt) *metadatapb.Attempt {
	return &metadatapb.Attempt{Generation: a.Generation, Index: a.Index}
}

func wirePlace(p metadata.PagePlace) *metadatapb.PagePlace {
	return &metadatapb.PagePlace{Key: p.Key, Offset: p.Offset, Length: p.Length, Crc: p.CRC}
}

// refusals are the ways in which Apply says no to this room's commands.
var refusals = []error{
	metadata.ErrUnknownTopic, metadata.ErrUnknownPartition, metadata.ErrStaleLeaderEpoch, metadata.ErrStaleManifest,
	metadata.ErrBelowSweepFloor, metadata.ErrManifestGap, metadata.ErrStaleSweepFloor, metadata.ErrStaleRoot,
	metadata.ErrStaleGeneration, metadata.ErrInvalidCommand,
}

// refused tells whether a proposal certainly had no effect and never will.
// Of any other error the outcome is not known.
func refused(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}

// currentAttempt is the attempt of what begins now, by this image (DESIGN D14). It must be taken before the first
// object of the try gets its name.
func currentAttempt(img *metadata.Image) metadata.Attempt {
	return metadata.Attempt{Generation: img.Bucket().Generation, Index: img.Index()}
}
