package log

import (
	"time"

	"github.com/stratabroker/strata/broker/producer"
)

// ProducerState is a copy of the log's producer state.
func (l *Log) ProducerState() *producer.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.producers.Clone()
}

// OpenFiles is the number of cached file handles.
func (d *Dir) OpenFiles() int { return d.handles.len() }

// SetPoints says how often recovery points are written: at most once a pause
// and every share of the time, unless bytes were committed.
func (d *Dir) SetPoints(pause time.Duration, share int, bytes int64) {
	d.points.mu.Lock()
	defer d.points.mu.Unlock()
	d.points.pause, d.points.share, d.points.limit = pause, time.Duration(share), bytes
}

// AwaitPoints waits until the recovery points that are due are written.
func (d *Dir) AwaitPoints() { d.points.wg.Wait() }

// SetJournal makes the journal small, or patient.
func (d *Dir) SetJournal(bytes, segment int64, round int, chunk int64, quiet time.Duration) {
	d.journal.limits = journalLimits{bytes: bytes, segment: segment, round: round, chunk: chunk, quiet: quiet}
}

// JournalIdle does what the journal does when it has been quiet: the first time it has
// the files synced, the next time it removes the segments.
func (d *Dir) JournalIdle() {
	d.journal.mu.Lock()
	d.journal.last = time.Time{}
	d.journal.mu.Unlock()
	d.journal.idle()
}

// Parsers of the checkpoint files, for tables and fuzzing.
var (
	ParseOffsets   = parseOffsets
	EncodeOffsets  = encodeOffsets
	ParseEpochs    = parseEpochs
	EncodeEpochs   = encodeEpochs
	ParseMetadata  = parseMetadata
	EncodeMetadata = encodeMetadata
	ParseClean     = parseClean
	EncodeClean    = encodeClean
	ParseBoots     = parseBoots
	EncodeBoots    = encodeBoots
	ParseFileName  = parseFileName
	ParseDirName   = parseDirName
)
