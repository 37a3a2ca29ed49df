package tiering

import (
	"context"
	"log/slog"
	"time"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/object"
)

// ReaderConfig says what a Reader works with. Zero numbers mean the defaults.
type ReaderConfig struct {
	Store    object.Store
	Metadata Metadata

	CacheBytes      int64         // of chunks; default 64 MiB
	IndexCacheBytes int64         // of indexes and manifest pages; default 16 MiB
	Parallel        int           // GETs at once; default 10
	ReadAheadBytes  int64         // loaded ahead of a sequential reader; default 4 MiB, negative for none
	Deadline        time.Duration // of one GET; default 30 s
	DecodeBytes     int           // a batch may take so many bytes when its timestamps are read; default 64 MiB
	Rand            func() uint64 // jitter; default math/rand/v2
	Logger          *slog.Logger  // default: discards
}

// Reader reads the cold tier.
type Reader struct{ cfg ReaderConfig }

// Fetched is what one Read found.
type Fetched struct {
	Batches []byte                // whole batches as the producer sent them; the first holds or follows the offset asked for
	Aborted []protocol.AbortedTxn // every aborted transaction that overlaps [from, Next)
	Next    protocol.Offset       // where to go on; above from also when Batches is empty, where compaction left nothing
}

// Found is one record's place in time.
type Found struct {
	Offset    protocol.Offset
	Timestamp protocol.Timestamp
	Epoch     protocol.Epoch // leader epoch of its batch
}

// NewReader makes a reader; Close ends it.
func NewReader(cfg ReaderConfig) *Reader { return &Reader{cfg: cfg} }

// Read gives whole batches from `from` on, at most maxBytes of them, but with minOne the first
// one also where it alone is larger. Loads that ctx does not wait for go on and fill the cache.
// Errors: ErrOutOfRange, ErrNotTiered, ErrUnknownPartition, ErrCorrupt, ErrClosed, those of ctx and of the store.
func (r *Reader) Read(ctx context.Context, k protocol.PartitionKey, from protocol.Offset, maxBytes int, minOne bool) (Fetched, error) {
	return Fetched{}, nil
}

// OffsetForTime finds the first record at or above from whose timestamp is at or above ts; false where the cold tier has none.
func (r *Reader) OffsetForTime(ctx context.Context, k protocol.PartitionKey, ts protocol.Timestamp, from protocol.Offset) (Found, bool, error) {
	return Found{}, false, nil
}

// MaxTimestamp finds the first record with the greatest timestamp of the cold tier (ListOffsets -3).
func (r *Reader) MaxTimestamp(ctx context.Context, k protocol.PartitionKey) (Found, bool, error) {
	return Found{}, false, nil
}

// EpochEnd answers OffsetForLeaderEpoch out of the cold tier: the greatest epoch at or below
// epoch and where the next one begins; false where no later epoch begins in the cold tier, so that the
// hot tier must be asked.
func (r *Reader) EpochEnd(ctx context.Context, k protocol.PartitionKey, epoch protocol.Epoch) (protocol.Epoch, protocol.Offset, bool, error) {
	return 0, 0, false, nil
}

// StateAtEnd gives what an empty replica needs to start at the tiered end: the epoch lineage
// of the last segment object and the producer state at its end.
func (r *Reader) StateAtEnd(ctx context.Context, k protocol.PartitionKey) (end protocol.Offset, epochs []protocol.EpochStart, producers []byte, err error) {
	return 0, nil, nil, nil
}

// Close gives up what is in flight and waits for it.
func (r *Reader) Close() {}

// Stats are the counters now.
func (r *Reader) Stats() ReaderStats { return ReaderStats{} }
