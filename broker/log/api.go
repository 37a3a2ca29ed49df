// Package log is the segmented local log of one partition: append, commit,
// read, roll, recover, retain. It knows offsets, epochs and producers; it does not
// know topics' settings, replicas, metadata or buckets. Package broker/replica owns each Log.
package log

import (
	"errors"
	"io"
	"time"

	"github.com/stratabroker/strata/protocol"
)

// Errors of a Log.
var (
	ErrOffsetOutOfRange = errors.New("offset is not in this log")
	ErrOffline          = errors.New("log is offline")          // after corruption or a failed write that could not be undone
	ErrCorrupt          = errors.New("log is corrupt")          // wraps the exact offsets and file
	ErrDiskReserve      = errors.New("disk reserve is reached") // D7: client appends are refused
	ErrClosed           = errors.New("log is closed")
)

// Config is what one partition's topic settings mean to its log. It may be
// changed while the log is open.
type Config struct {
	SegmentBytes       int64         // segment.bytes
	SegmentMinBytes    int64         // strata.segment.min.bytes
	SegmentAge         time.Duration // segment.ms
	IndexIntervalBytes int64         // index.interval.bytes
	IndexMaxBytes      int64         // segment.index.bytes
	FlushMessages      int64         // flush.messages
	FlushInterval      time.Duration // flush.ms
	ProducerExpiry     time.Duration // producer.id.expiration.ms
}

// AppendInfo says what an append did.
type AppendInfo struct {
	First      protocol.Offset    // offset of the first record; of a duplicate, the original's
	Next       protocol.Offset    // the LEO after the append; of a duplicate, the original's next offset
	AppendTime protocol.Timestamp // NoTimestamp under CreateTime
	Duplicate  bool
}

// SegmentRange is a run of whole batches of one sealed segment.
type SegmentRange struct {
	Base, End    protocol.Offset // [Base, End)
	Bytes        int64           // of the batches
	MaxTimestamp protocol.Timestamp
	Sealed       time.Time // when the segment was sealed, wall clock
}

// SealedReader pins a sealed range's bytes and what belongs to them until Close.
type SealedReader interface {
	io.ReaderAt // over the batches: 0 is the first byte of the batch at Base
	Range() SegmentRange
	// Epochs is the lineage within [Base, End): the first entry is the epoch in force at Base.
	Epochs() []protocol.EpochStart
	// Producers is the producer state at End, encoded by producer.State.Encode.
	Producers() []byte
	// Aborted lists every aborted transaction that overlaps [Base, End).
	Aborted() []protocol.AbortedTxn
	Close() error
}
