package log

import (
	"time"

	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/protocol"
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
	d.journal.limits = journalLimits{bytes: bytes, segment: segment, round: round, chunk: chunk, behind: d.journal.limits.behind, quiet: quiet}
}

// JournalIdle does what the journal does when it has been quiet: the first time it has
// the files synced, the next time it removes the segments.
func (d *Dir) JournalIdle() {
	d.journal.mu.Lock()
	d.journal.last = time.Time{}
	d.journal.mu.Unlock()
	d.journal.idle()
}

// JournalState is what the journal takes on the disk, and how many logs, and entries found at the
// start, it still holds something of.
func (d *Dir) JournalState() (bytes int64, live, places int) {
	d.journal.mu.Lock()
	defer d.journal.mu.Unlock()
	for _, e := range d.journal.logs {
		places += len(e.places)
	}
	return d.journal.bytes, d.journal.live.Len(), places
}

// JournalEntry is an entry of a round: batches, or, without them, a reset.
type JournalEntry = roundEntry

type roundEntry struct {
	Key      protocol.PartitionKey
	From, To protocol.Offset
	Epoch    protocol.Epoch
	Batches  []byte
}

// EncodeJournal gives the bytes of a journal segment with one round.
func EncodeJournal(id [16]byte, number int64, entries ...JournalEntry) []byte {
	var b roundBuilder
	b.begin()
	for _, e := range entries {
		if e.Batches == nil {
			b.reset(e.Key, e.From, e.Epoch)
			continue
		}
		room, _ := b.batches(e.Key, e.From, e.To, len(e.Batches))
		copy(room, e.Batches)
	}
	return append(encodeJournalHeader(id, number), b.seal(id, number)...)
}

// DecodeRound reads what claims to be a round.
func DecodeRound(b []byte) (number int64, out []JournalEntry, ok bool) {
	h, ok := parseRoundHeader(b)
	if !ok {
		return 0, nil, false
	}
	entries, ok := checkRound(h, b)
	if !ok {
		return 0, nil, false
	}
	err := eachEntry(h, entries, func(e journalEntry, at int) error {
		to := JournalEntry{Key: e.key, From: e.from, To: e.to, Epoch: e.epoch}
		if !e.reset {
			to.Batches = entries[at+batchesEntryLen:][:e.batches]
		}
		out = append(out, to)
		return nil
	})
	return h.number, out, err == nil
}

// Journal limits and headers, for tests.
var (
	ParseJournalHeader = parseJournalHeader
	JournalBacklog     = journalBacklog
)

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
