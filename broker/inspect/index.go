package inspect

import (
	"encoding/binary"
	"path/filepath"

	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// Sizes of Kafka's index entries (broker/log/README.md draws them).
const (
	offsetEntryLen = 8
	timeEntryLen   = 12
)

// IndexEntry is one entry of an .index or a .timeindex.
type IndexEntry struct {
	Offset    protocol.Offset
	Position  int64              // of an .index: where the batch that holds Offset begins; else -1
	Timestamp protocol.Timestamp // of a .timeindex: no record up to Offset is later; else NoTimestamp
}

// indexes are those of one segment, and how far the batches have come in them.
type indexes struct {
	path    string // of the segment, without a suffix
	offsets []IndexEntry
	times   []IndexEntry
	aborted []protocol.AbortedTxn

	nextOffset, nextTime, nextTxn int
}

// loadIndexes reads the index files that are there. What cannot be right in
// them by themselves is found here.
func (w *walker) loadIndexes(path string, suffixes ...string) (*indexes, error) {
	x := &indexes{path: path}
	base, _ := baseOf(filepath.Base(path) + logSuffix)
	for _, suffix := range suffixes {
		file := path + suffix
		b, err := readAll(file)
		if err != nil {
			return nil, err
		}
		switch suffix {
		case indexSuffix:
			x.offsets, err = w.parse(file, b, offsetEntryLen, func(e []byte) IndexEntry {
				return IndexEntry{
					Offset: base + protocol.Offset(binary.BigEndian.Uint32(e)), Position: int64(binary.BigEndian.Uint32(e[4:])),
					Timestamp: protocol.NoTimestamp,
				}
			})
		case timeSuffix:
			x.times, err = w.parse(file, b, timeEntryLen, func(e []byte) IndexEntry {
				return IndexEntry{
					Offset: base + protocol.Offset(binary.BigEndian.Uint32(e[8:])), Position: -1,
					Timestamp: protocol.Timestamp(binary.BigEndian.Uint64(e)),
				}
			})
		case txnSuffix:
			var bad error
			if x.aborted, bad = producer.DecodeAborted(b); bad != nil {
				err = w.found(file, -1, protocol.NoOffset, "%v", bad)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return x, nil
}

// parse reads entries up to the zeros that Kafka preallocates, and sees that they ascend.
func (w *walker) parse(file string, b []byte, size int, read func([]byte) IndexEntry) ([]IndexEntry, error) {
	if rest := len(b) % size; rest != 0 {
		if err := w.found(file, int64(len(b)-rest), protocol.NoOffset, "%d bytes after the last entry of %d", rest, size); err != nil {
			return nil, err
		}
		b = b[:len(b)-rest]
	}
	for len(b) >= size && zero(b[len(b)-size:]) {
		b = b[:len(b)-size]
	}
	entries := make([]IndexEntry, 0, len(b)/size)
	for i := 0; i < len(b); i += size {
		e := read(b[i : i+size])
		if n := len(entries); n > 0 {
			last := entries[n-1]
			if e.Offset <= last.Offset || e.Position >= 0 && e.Position <= last.Position || e.Position < 0 && e.Timestamp <= last.Timestamp {
				if err := w.found(file, int64(i), e.Offset, "the entry does not ascend from the one before it, at offset %d", last.Offset); err != nil {
					return nil, err
				}
			}
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (w *walker) showIndexes(x *indexes) error {
	for _, kind := range []struct {
		suffix  string
		entries []IndexEntry
	}{{indexSuffix, x.offsets}, {timeSuffix, x.times}} {
		for _, e := range kind.entries {
			if w.v.Index == nil {
				break
			}
			if err := w.v.Index(x.path+kind.suffix, e); err != nil {
				return err
			}
		}
	}
	for _, t := range x.aborted {
		if w.v.Aborted == nil {
			break
		}
		if err := w.v.Aborted(x.path+txnSuffix, t); err != nil {
			return err
		}
	}
	return nil
}

// hold compares the entries that a good batch concerns with it. before is the greatest timestamp of those before it.
func (x *indexes) hold(w *walker, b record.Batch, pos int64, before protocol.Timestamp) error {
	if err := x.between(w, pos); err != nil {
		return err
	}
	if x.nextOffset < len(x.offsets) && x.offsets[x.nextOffset].Position == pos {
		// A look-up above the entry begins to read here: what it looks for must not come earlier.
		if e := x.offsets[x.nextOffset]; e.Offset < b.BaseOffset() {
			if err := w.found(x.path+indexSuffix, -1, e.Offset, "the entry leads to position %d, where the batch of %d to %d begins", pos, b.BaseOffset(), b.LastOffset()); err != nil {
				return err
			}
		}
		x.nextOffset++
	}
	for ; x.nextTime < len(x.times) && x.times[x.nextTime].Offset <= b.LastOffset(); x.nextTime++ {
		e := x.times[x.nextTime]
		latest := before
		if e.Offset == b.LastOffset() {
			latest = max(latest, b.MaxTimestamp())
		}
		if latest > e.Timestamp {
			if err := w.found(x.path+timeSuffix, -1, e.Offset, "the entry says that nothing up to here is later than %d, but %d is", e.Timestamp, latest); err != nil {
				return err
			}
		}
	}
	return x.marker(w, b)
}

// between finds entries that lead to no batch's begin before pos.
func (x *indexes) between(w *walker, pos int64) error {
	for ; x.nextOffset < len(x.offsets) && x.offsets[x.nextOffset].Position < pos; x.nextOffset++ {
		e := x.offsets[x.nextOffset]
		if err := w.found(x.path+indexSuffix, -1, e.Offset, "the entry leads to position %d, where no batch begins", e.Position); err != nil {
			return err
		}
	}
	return nil
}

// skip passes over entries that lead to a bad batch, or into it.
func (x *indexes) skip(pos int64, next protocol.Offset) {
	for x.nextOffset < len(x.offsets) && x.offsets[x.nextOffset].Position <= pos {
		x.nextOffset++
	}
	for x.nextTime < len(x.times) && x.times[x.nextTime].Offset < next {
		x.nextTime++
	}
	for x.nextTxn < len(x.aborted) && x.aborted[x.nextTxn].Last < next {
		x.nextTxn++
	}
}

// marker looks for the marker that each aborted transaction ends with.
func (x *indexes) marker(w *walker, b record.Batch) error {
	for ; x.nextTxn < len(x.aborted) && x.aborted[x.nextTxn].Last <= b.LastOffset(); x.nextTxn++ {
		t := x.aborted[x.nextTxn]
		if b.Control() && b.ProducerID() == t.Producer && b.LastOffset() == t.Last {
			continue
		}
		if err := w.found(x.path+txnSuffix, -1, t.Last, "no marker of producer %d is there", t.Producer); err != nil {
			return err
		}
	}
	return nil
}

// finish finds entries that lie behind the last batch.
func (x *indexes) finish(w *walker, s *Summary) error {
	for _, e := range x.offsets[x.nextOffset:] {
		if err := w.found(x.path+indexSuffix, -1, e.Offset, "the entry leads to position %d, behind the last batch", e.Position); err != nil {
			return err
		}
	}
	for _, e := range x.times[x.nextTime:] {
		// Compaction may have taken the batches at the end.
		if e.Offset < s.Next && s.MaxTimestamp <= e.Timestamp {
			continue
		}
		if err := w.found(x.path+timeSuffix, -1, e.Offset, "the entry lies behind the last batch, which ends at %d", s.Next); err != nil {
			return err
		}
	}
	for _, t := range x.aborted[x.nextTxn:] {
		if err := w.found(x.path+txnSuffix, -1, t.Last, "the marker of producer %d lies behind the last batch", t.Producer); err != nil {
			return err
		}
	}
	return nil
}
