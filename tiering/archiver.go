package tiering

import (
	"context"
	"log/slog"
	"time"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/object"
)

// ArchiverConfig says what an Archiver works with. Zero numbers mean the defaults.
type ArchiverConfig struct {
	Store    object.Store
	Metadata Metadata
	Hot      Hot

	Parallel        int           // uploads at once, at most; default 4
	Interval        time.Duration // between two looks at all led partitions; default 30 s
	Deadline        time.Duration // of one PUT, beside what its size takes; default 30 s
	MinBytesPerSec  int64         // the slowest upload that is not given up; default 1 MiB/s
	RetryBackoff    time.Duration // after the first failure, doubled with each, with jitter; default 500 ms
	RetryBackoffMax time.Duration // default 30 s
	TurnBytes       int64         // of segments that go into one manifest commit, unless the first alone is larger; default 64 MiB
	Fanout          int           // of manifest pages; 0: the format's
	Rand            func() uint64 // of object names and jitter; default math/rand/v2
	Logger          *slog.Logger  // default: discards
}

// Archiver uploads what is sealed, commits manifests and applies total
// retention, for all partitions that this broker leads.
type Archiver struct{ cfg ArchiverConfig }

// Lag is what of a partition is sealed and not uploaded yet.
type Lag struct {
	Bytes    int64
	Segments int64
}

// NewArchiver makes an archiver that Run starts.
func NewArchiver(cfg ArchiverConfig) *Archiver { return &Archiver{cfg: cfg} }

// Run works until ctx ends, then waits for what is in flight to give up.
func (a *Archiver) Run(ctx context.Context) {}

// Notify says that something of k was sealed, or that its log start or policy
// changed. It never blocks; any goroutine may call it.
func (a *Archiver) Notify(k protocol.PartitionKey) {}

// Lag counts what of k waits for upload now. It does no I/O.
func (a *Archiver) Lag(k protocol.PartitionKey) Lag { return Lag{} }

// Stats are the counters now.
func (a *Archiver) Stats() ArchiverStats { return ArchiverStats{} }
