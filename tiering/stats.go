package tiering

import "sync/atomic"

// ArchiverStats counts since the start of the process. Requests are PUTs of
// data objects; bytes are those of PUTs that succeeded.
type ArchiverStats struct {
	CopyBytes    int64 // segment objects whose entry became current, batches only
	CopyRequests int64 // segment uploads begun
	CopyErrors   int64 // segment uploads that failed
	PutBytes     int64 // all objects, manifests included
	Puts         int64
	PutErrors    int64
	Commits      int64 // manifest versions that became current
	Refused      int64 // attempts that Apply refused, and that were done again or given up
	Unknown      int64 // proposals of unknown outcome
	Throttled    int64 // PUTs answered with ErrThrottled
	Parallel     int64 // uploads allowed at once now
	Expired      int64 // log starts moved by total retention
}

// ReaderStats counts since the start of the process.
type ReaderStats struct {
	FetchRequests int64 // calls of Read
	FetchBytes    int64 // returned by Read
	FetchErrors   int64 // calls of Read that failed, but for ErrOutOfRange, ErrNotTiered and the caller's context
	Gets          int64 // GETs sent to the store
	GetBytes      int64
	GetErrors     int64
	ReadAhead     int64 // chunks loaded before they were asked for
	Torn          int64 // answers of the store that failed their CRC or length and were asked for again
	CacheHits     int64 // chunks
	CacheMisses   int64
	CacheBytes    int64 // held now: chunks
	IndexHits     int64 // indexes and manifest pages
	IndexMisses   int64
	IndexBytes    int64 // held now: indexes and manifest pages
}

// SweeperStats counts since the start of the process.
type SweeperStats struct {
	Rounds         int64
	RoundErrors    int64
	Listed         int64 // objects seen, in all rounds
	DeleteRequests int64
	DeleteErrors   int64
	Deleted        int64 // objects
	DeletedBytes   int64
	Garbage        int64 // objects that the last round saw and nothing reaches, not deleted yet
	GarbageBytes   int64
}

// RootStats counts since the start of the process.
type RootStats struct {
	Written int64 // roots that were retained
	Bytes   int64
	Errors  int64
	LagMs   int64 // how long the oldest change waits that no root holds; 0 for none
}

// counter is a statistic that several goroutines add to.
type counter = atomic.Int64
