// Package log is the segmented local log of one partition: append, commit,
// read, roll, recover, retain. It knows offsets, epochs and producers; it does not
// know topics' settings, replicas, metadata or buckets. Package broker/replica owns
// each Log; the composition root owns the Dir. README.md shows the files and bytes.
package log

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

// Errors of a Log.
var (
	ErrOffsetOutOfRange = errors.New("offset is not in this log")
	ErrOffline          = errors.New("log is offline")                                                                              // after corruption or a failed write that could not be undone
	ErrCorrupt          = errors.New("log is corrupt")                                                                              // wrapped by CorruptError
	ErrDiskReserve      = errors.New("disk reserve is reached")                                                                     // D7: client appends are refused
	ErrDiskBudget       = errors.New("the logs have used up strata.disk.budget.bytes, and the bucket has not taken enough of them") // D22: client appends are refused
	ErrProducers        = errors.New("as many producer ids are remembered as strata.memory.max.bytes has room for")                 // client appends of others are refused
	ErrClosed           = errors.New("log is closed")
)

// CorruptError says which part of a log cannot be what was written. Nothing was
// cut. It is ErrCorrupt for errors.Is.
type CorruptError struct {
	File     string
	Position int64           // of the first bad byte range in File
	From     protocol.Offset // first offset that cannot be read
	To       protocol.Offset // first offset after it that can be, or NoOffset
	Reason   string
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("log is corrupt: %s at byte %d, offsets from %d to %d: %s", e.File, e.Position, e.From, e.To, e.Reason)
}

// Unwrap makes it ErrCorrupt.
func (e *CorruptError) Unwrap() error { return ErrCorrupt }

// DirConfig is what a log directory is opened with.
type DirConfig struct {
	FS   vfs.FS
	Path string // must exist; the caller holds its lock (vfs.Lock)
	// MaxOpenFiles bounds the cached file handles. Those in use or not yet
	// synced count, and may for a time exceed it.
	MaxOpenFiles int
	DiskReserve  int64 // strata.disk.reserve.bytes
	// MaxProducers bounds the idempotent and transactional producers that all logs together remember,
	// of ProducerBytes each. 0 means no limit.
	MaxProducers int64
	// Fsync is strata.durability=fsync. Without it the durable offset follows the
	// log end at once; seals are synced all the same.
	Fsync bool
	// Commit is strata.commit.path: how appends are made durable in fsync mode.
	Commit CommitPath
	// BootID names the running boot of the machine; empty means unknown, and
	// then every start counts as one after a reboot.
	BootID string
	Now    func() time.Time
	Logger *slog.Logger
	// OnFatal is called after a failed sync, on the goroutine that met it, before anybody is told that a log
	// is offline for it. It must end the process: a retry may falsely succeed (DESIGN D3). It
	// may return, but must not wait for a log or the directory, whose locks are held. nil panics.
	OnFatal func(error)
}

// Config is what one partition's topic settings mean to its log. It may be
// changed while the log is open. A size or time of 0 means no limit, but for
// SegmentMinBytes.
type Config struct {
	SegmentBytes       int64         // segment.bytes
	Budgeted           bool          // its bytes count for strata.disk.budget.bytes, and clients are refused beyond it
	SegmentMinBytes    int64         // strata.segment.min.bytes
	SegmentAge         time.Duration // segment.ms
	SegmentJitter      time.Duration // segment.jitter.ms: each segment is sealed less than this earlier
	IndexIntervalBytes int64         // index.interval.bytes
	IndexMaxBytes      int64         // segment.index.bytes
	FlushMessages      int64         // flush.messages, in replicated mode
	FlushInterval      time.Duration // flush.ms, in replicated mode; below 0: after every append, as Kafka's 0
	ProducerExpiry     time.Duration // producer.id.expiration.ms
}

// Init is what is known of a log from elsewhere: the image, or the segment
// object below its start.
type Init struct {
	// Start is where the log begins if it has no files yet.
	Start protocol.Offset
	// Epochs is the lineage below Start.
	Epochs []protocol.EpochStart
	// Producers is the producer state at Start, as producer.State.Encode gives it; nil means none.
	Producers []byte
	// Rebuild gives the producer state at an offset from the object below, nil where no object knows it. It is
	// asked when the log's own first snapshot is missing; nil means that there is no such object.
	Rebuild func(at protocol.Offset) ([]byte, error)
}

// Events are called by the log from goroutines of the committer or the appender's,
// under none of its locks, but while it is closed under admin and part. They must not block.
type Events struct {
	// Durable says that all below the offset is durable, directory entries
	// included. A call may come late, after a higher one or after a truncation, and what it
	// was told of may be cut off later: Log.Durable is the truth.
	Durable func(protocol.Offset)
	// Sealed says that a sealed segment has been synced.
	Sealed func()
	// Offline says, once, that the log takes and gives nothing any more, and why:
	// what waits for its durable offset waits in vain.
	Offline func(error)
}

// Recovery says what opening a log found and did.
type Recovery struct {
	Existed bool // there was a directory
	Clean   bool // the last stop was clean, nothing was scanned
	// HighWatermark is the hint of the last checkpoint, 0 when there is none. It is there
	// also when the directory is gone: what lies between the log end and it was lost here.
	HighWatermark protocol.Offset
	ScannedBytes  int64 // above the recovery point: read whole, with the CRC; below it only headers are
	// JournaledBytes were appended to the files from the journal.
	JournaledBytes int64
	// Torn: an append that was never acknowledged was cut off the end, in the
	// same boot of the machine.
	Torn bool
	// Unclean: after a reboot the log was cut at a bad batch and the journal could not restore all that
	// was cut, or a part is missing below what the journal holds; [CutFrom, CutTo) is what may be
	// lost. CutTo is the greatest end that is known of, at least CutFrom.
	Unclean        bool
	CutFrom, CutTo protocol.Offset
	CutBytes       int64
	// ProducersUnknownBelow is set above 0 where no producer state for the log's
	// start was to be had: producers whose last batch is below are not known.
	ProducersUnknownBelow protocol.Offset
}

// Found is a partition's directory.
type Found struct {
	Name      string // of the directory
	Topic     string
	Partition int32
	ID        protocol.TopicID // zero when partition.metadata is missing or torn
}

// AppendOptions says how batches come into the log.
type AppendOptions struct {
	// LogAppendTime stamps the batches with Now (message.timestamp.type).
	LogAppendTime bool
	// Now is wall-clock time.
	Now protocol.Timestamp
	// Client: the batches come from a producer. Sequences are checked (KIP-98),
	// and below the disk reserve the append is refused.
	Client bool
	// Coordinator: the batches come from a group or transaction coordinator of
	// this broker. It is what an append is that is neither Client nor Follower.
	Coordinator bool
	// Follower: the batches have their offsets and epochs from a leader. The
	// first must not lie below the log end; gaps are kept.
	Follower bool
}

// AppendInfo says what an append did. The records are durable once the durable
// offset has reached Next.
type AppendInfo struct {
	First      protocol.Offset    // offset of the first record; of a duplicate, the original's
	Next       protocol.Offset    // the LEO after the append; of a duplicate, the original's next offset
	AppendTime protocol.Timestamp // NoTimestamp under CreateTime
	Duplicate  bool
}

// TimedOffset is a record found by time.
type TimedOffset struct {
	Offset    protocol.Offset
	Timestamp protocol.Timestamp
	Epoch     protocol.Epoch
}

// SegmentRange is a run of whole batches of one sealed segment.
type SegmentRange struct {
	// [Base, End). Base is the offset that was asked for (or the end of the range
	// before); where that lies inside a batch, it is that batch's first offset.
	Base, End    protocol.Offset
	Bytes        int64 // of the batches
	MaxTimestamp protocol.Timestamp
	// Sealed is when the segment was sealed, wall clock; after a restart when the log was opened.
	Sealed time.Time
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
