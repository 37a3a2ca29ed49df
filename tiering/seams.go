// Package tiering moves sealed segments into the bucket and reads them back:
// the archiver, the cold reader, the sweeper, the root writer and the bond
// between a cluster and its bucket. It decides in tiering/plan, speaks the
// formats of tiering/format, and knows the store, the metadata image and the
// hot log only through small interfaces that the broker root supplies. It
// never imports a room of the broker.
package tiering

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/plan"
)

// Errors of this room, matched with errors.Is.
var (
	// ErrOutOfRange means that the offset lies below the log start.
	ErrOutOfRange = errors.New("offset is below the log start")
	// ErrNotTiered means that the offset lies at or above the tiered end: only the hot tier can hold it.
	ErrNotTiered = errors.New("offset is not in the cold tier")
	// ErrUnknownPartition means that the image has no such partition (any more).
	ErrUnknownPartition = errors.New("partition does not exist")
	// ErrCorrupt means that the bucket does not hold what the current manifest says. It names the object.
	ErrCorrupt = errors.New("cold tier is corrupt")
	// ErrNotOwner means that OWNER names another cluster or generation: nothing may be written or deleted.
	ErrNotOwner = errors.New("bucket is owned by another cluster or generation")
	// ErrClosed means that the reader was closed.
	ErrClosed = errors.New("cold reader is closed")
)

// Metadata is the cluster's metadata as this room needs it. Image never
// blocks. Propose returns after this broker has applied the command; a refusal
// is one of metadata's errors, any other error means that the outcome is not known.
type Metadata interface {
	Image() *metadata.Image
	Propose(ctx context.Context, c *metadata.Command) (metadata.Result, error)
}

// Hot is the hot tier of this broker. All methods may run concurrently.
type Hot interface {
	// Led lists the tiered partitions that this broker leads now.
	Led() []Led
	// Leads looks up one of them; false where this broker does not lead it or it is not tiered.
	Leads(k protocol.PartitionKey) (Led, bool)
	// Sealed lists the sealed and synced ranges at or above from, in order, each ending
	// at or below min(HW, LSO). The first is cut so that it starts at from where from lies inside it.
	Sealed(k protocol.PartitionKey, from protocol.Offset) ([]SealedRange, error)
	// BytesFrom is the size of the hot log at and above from, of the unsealed end too: rather too little than too much.
	BytesFrom(k protocol.PartitionKey, from protocol.Offset) int64
	// OpenSealed pins the bytes of a range that Sealed listed.
	OpenSealed(k protocol.PartitionKey, r SealedRange) (SealedSource, error)
}

// Led is one partition that this broker leads.
type Led struct {
	Key    protocol.PartitionKey
	Topic  string
	Epoch  protocol.Epoch
	Policy plan.Policy
	HW     protocol.Offset
	LEO    protocol.Offset
}

// SealedRange is a run of whole batches of one sealed segment.
type SealedRange struct {
	Base, End    protocol.Offset // [Base, End)
	Bytes        int64           // of the batches
	MaxTimestamp protocol.Timestamp
	Sealed       time.Time // when the segment was sealed, wall clock
}

// SealedSource pins a sealed range's bytes and what belongs to them until Close.
type SealedSource interface {
	io.ReaderAt // over the batches: 0 is the first byte of the batch at Base
	Range() SealedRange
	// Epochs is the lineage within [Base, End): the first entry is the epoch in force at Base.
	Epochs() []protocol.EpochStart
	// Producers is the producer state at End, opaque here.
	Producers() []byte
	// Aborted lists every aborted transaction that overlaps [Base, End).
	Aborted() []protocol.AbortedTxn
	Close() error
}
