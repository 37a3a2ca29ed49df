package tiering

import (
	"sync/atomic"
	"time"
)

// counter is a statistic that several goroutines add to.
type counter = atomic.Int64

// ArchiverStats counts since the start of the process.
type ArchiverStats struct {
	CopyBytes    int64 // batches of segments that became current
	CopyRequests int64 // segment uploads begun
	CopyErrors   int64 // segment uploads that failed
	Puts         int64 // of all objects, manifests included
	PutBytes     int64 // of those that succeeded
	PutErrors    int64
	Throttled    int64 // PUTs answered with ErrThrottled
	Commits      int64 // manifest versions that became current
	Refused      int64 // attempts that Apply refused: done again or given up
	Unknown      int64 // attempts of unknown outcome: done again
	Expired      int64 // log starts moved by total retention
	Parallel     int64 // turns allowed at once now
}

type archiverCounters struct {
	copyBytes, copyRequests, copyErrors, puts, putBytes, putErrors counter
	throttled, commits, refused, unknown, expired                  counter
}

// Stats are the counters now.
func (a *Archiver) Stats() ArchiverStats {
	a.mu.Lock()
	parallel := a.limit.now
	a.mu.Unlock()
	c := &a.stats
	return ArchiverStats{
		CopyBytes: c.copyBytes.Load(), CopyRequests: c.copyRequests.Load(), CopyErrors: c.copyErrors.Load(),
		Puts: c.puts.Load(), PutBytes: c.putBytes.Load(), PutErrors: c.putErrors.Load(), Throttled: c.throttled.Load(),
		Commits: c.commits.Load(), Refused: c.refused.Load(), Unknown: c.unknown.Load(), Expired: c.expired.Load(),
		Parallel: int64(parallel),
	}
}

// ReaderStats counts since the start of the process.
type ReaderStats struct {
	FetchRequests int64 // calls of Read
	FetchBytes    int64 // returned by Read
	FetchErrors   int64 // calls of Read that failed by the store's doing
	Gets          int64 // GETs sent to the store
	GetBytes      int64
	GetErrors     int64
	Torn          int64 // answers of the store that failed their CRC or length
	ReadAhead     int64 // reads ahead of a sequential reader
	CacheHits     int64 // of chunks
	CacheMisses   int64
	CacheBytes    int64 // of chunks, held now or on their way in
	IndexHits     int64 // of indexes and manifest pages
	IndexMisses   int64
	IndexBytes    int64 // of indexes and manifest pages, held now
	AnswerBytes   int64 // of answers being built or not yet released, now
}

type readerCounters struct {
	requests, bytes, errors, ahead, hits, misses counter
}

// Stats are the counters now.
func (r *Reader) Stats() ReaderStats {
	chunks, meta := r.blocks.Stats(), r.meta.Stats()
	return ReaderStats{
		FetchRequests: r.stats.requests.Load(), FetchBytes: r.stats.bytes.Load(), FetchErrors: r.stats.errors.Load(),
		Gets: r.fetch.gets.Load(), GetBytes: r.fetch.bytes.Load(), GetErrors: r.fetch.errors.Load(), Torn: r.fetch.torn.Load(),
		ReadAhead: r.stats.ahead.Load(),
		CacheHits: r.stats.hits.Load(), CacheMisses: r.stats.misses.Load(), CacheBytes: chunks.Bytes,
		IndexHits: meta.Hits, IndexMisses: meta.Misses, IndexBytes: meta.Bytes,
		AnswerBytes: r.answers.held(),
	}
}

// SweeperStats counts since the start of the process.
type SweeperStats struct {
	Rounds         int64 // finished
	RoundErrors    int64
	Listed         int64 // objects
	DeleteRequests int64
	DeleteErrors   int64
	Deleted        int64 // objects
	DeletedBytes   int64
}

type sweeperCounters struct {
	rounds, roundErrors, listed, deleteRequests, deleteErrors, deleted, deletedBytes counter
}

// Stats are the counters now.
func (s *Sweeper) Stats() SweeperStats {
	c := &s.stats
	return SweeperStats{
		Rounds: c.rounds.Load(), RoundErrors: c.roundErrors.Load(), Listed: c.listed.Load(),
		DeleteRequests: c.deleteRequests.Load(), DeleteErrors: c.deleteErrors.Load(),
		Deleted: c.deleted.Load(), DeletedBytes: c.deletedBytes.Load(),
	}
}

// RootStats counts since the start of the process.
type RootStats struct {
	Written int64 // roots that were retained
	Bytes   int64
	Errors  int64
	LagMs   int64 // how long the oldest change waits that no root holds; 0 for none
}

type rootCounters struct {
	written, bytes, errors counter
}

// Stats are the counters now.
func (w *RootWriter) Stats() RootStats {
	s := RootStats{Written: w.stats.written.Load(), Bytes: w.stats.bytes.Load(), Errors: w.stats.errors.Load()}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changes != w.written {
		s.LagMs = time.Since(w.since).Milliseconds()
	}
	return s
}
