// Package inspect reads the files of a partition, ours or Kafka's, as they lie
// there: no log is opened, nothing is written, no broker has to run or to stop.
// It walks over batches, holds indexes, aborted transactions, producer
// snapshots and epochs against them, and tells what does not fit. Its memory is
// that of one batch and of one segment's index files.
//
// What is wrong in a file is a Finding, not an error; an error is a file that
// cannot be read. A running broker may append meanwhile: indexes are read before the batches.
// cmd/strata prints what it says.
package inspect

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// ErrNoLog is a path that holds nothing of a partition.
var ErrNoLog = errors.New("no segment (20 digits and .log) or other file of a partition")

// Visitor is told what Walk meets, in the order of offsets. Any function may be
// nil; an error of one ends the walk. A batch is valid during the call only.
type Visitor struct {
	Batch    func(file string, b Batch) error
	Index    func(file string, e IndexEntry) error // of .index and .timeindex, before the batches
	Aborted  func(file string, t protocol.AbortedTxn) error
	Producer func(file string, p Producer) error
	Epoch    func(file string, e protocol.EpochStart) error
	Finding  func(Finding) error
	File     func(Summary) error // after each segment
}

// Batch is one batch of a segment.
type Batch struct {
	record.Batch
	Position int64
	Bad      error // what Check says; its records should not be believed then
}

// Finding is one thing that is wrong.
type Finding struct {
	File     string
	Position int64           // in bytes, -1 where the file as a whole is concerned
	Offset   protocol.Offset // that is concerned, NoOffset where none is known
	Text     string
}

// String gives one line.
func (f Finding) String() string {
	out := f.File
	if f.Position >= 0 {
		out += fmt.Sprintf(" position %d", f.Position)
	}
	if f.Offset >= 0 {
		out += fmt.Sprintf(" offset %d", f.Offset)
	}
	return out + ": " + f.Text
}

// Summary is what a segment amounts to.
type Summary struct {
	File         string
	Base, Next   protocol.Offset // from the name; after the last batch
	Batches      int64
	Records      int64 // as the batches count them
	Bytes        int64
	MaxTimestamp protocol.Timestamp
	IndexEntries int64
	TimeEntries  int64
	AbortedTxns  int64
	Findings     int64 // of the segment and its indexes
}

// Walk visits a partition's directory, or one of its files: a segment with its
// indexes, or an index, snapshot or checkpoint alone. It returns how many findings there were.
func Walk(path string, v Visitor) (findings int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	w := walker{v: v}
	if info.IsDir() {
		err = w.directory(path)
	} else {
		err = w.file(path)
	}
	return w.findings, err
}

type walker struct {
	v        Visitor
	findings int64
}

func (w *walker) found(file string, position int64, offset protocol.Offset, format string, args ...any) error {
	w.findings++
	if w.v.Finding == nil {
		return nil
	}
	return w.v.Finding(Finding{File: file, Position: position, Offset: offset, Text: fmt.Sprintf(format, args...)})
}

// Suffixes of the files of a partition.
const (
	logSuffix      = ".log"
	indexSuffix    = ".index"
	timeSuffix     = ".timeindex"
	txnSuffix      = ".txnindex"
	snapshotSuffix = ".snapshot"
	epochFile      = "leader-epoch-checkpoint"
)

// directory visits all of a partition, segments by offset.
func (w *walker) directory(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	var segments, others []string
	for _, e := range entries { // sorted by name, which is sorted by offset
		name := e.Name()
		_, numbered := baseOf(name)
		switch {
		case numbered && strings.HasSuffix(name, logSuffix):
			segments = append(segments, filepath.Join(path, name))
		case numbered && strings.HasSuffix(name, snapshotSuffix), name == epochFile:
			others = append(others, filepath.Join(path, name))
		}
	}
	if segments == nil && others == nil {
		return fmt.Errorf("%s: %w", path, ErrNoLog)
	}
	if err := w.segments(segments); err != nil {
		return err
	}
	for _, file := range others {
		if err := w.file(file); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) segments(files []string) error {
	next := protocol.NoOffset
	for _, file := range files {
		s, err := w.segment(file)
		if err != nil {
			return err
		}
		if s.Base < next {
			if err := w.found(file, -1, s.Base, "the segment begins below %d, where the one before it ends", next); err != nil {
				return err
			}
		}
		next = max(next, s.Next)
	}
	return nil
}

// file visits one file by what its name says it is.
func (w *walker) file(path string) error {
	name := filepath.Base(path)
	_, numbered := baseOf(name)
	switch {
	case name == epochFile:
		return w.epochs(path)
	case !numbered:
	case strings.HasSuffix(name, logSuffix):
		_, err := w.segment(path)
		return err
	case strings.HasSuffix(name, indexSuffix), strings.HasSuffix(name, timeSuffix), strings.HasSuffix(name, txnSuffix):
		x, err := w.loadIndexes(strings.TrimSuffix(path, filepath.Ext(path)), filepath.Ext(path))
		if err != nil {
			return err
		}
		return w.showIndexes(x)
	case strings.HasSuffix(name, snapshotSuffix):
		return w.snapshot(path)
	}
	return fmt.Errorf("%s: %w", path, ErrNoLog)
}

// baseOf reads the offset that a file is named by.
func baseOf(name string) (protocol.Offset, bool) {
	digits, _, ok := strings.Cut(name, ".")
	n, err := strconv.ParseInt(digits, 10, 64)
	return protocol.Offset(n), ok && err == nil && len(digits) == 20 && n >= 0
}

// segment visits a segment and its indexes, which are held against its batches.
func (w *walker) segment(path string) (s Summary, err error) {
	before := w.findings
	base, _ := baseOf(filepath.Base(path))
	s = Summary{File: path, Base: base, Next: base, MaxTimestamp: protocol.NoTimestamp}
	x, err := w.loadIndexes(strings.TrimSuffix(path, logSuffix), indexSuffix, timeSuffix, txnSuffix)
	if err != nil {
		return s, err
	}
	if err := w.showIndexes(x); err != nil {
		return s, err
	}
	s.IndexEntries, s.TimeEntries, s.AbortedTxns = int64(len(x.offsets)), int64(len(x.times)), int64(len(x.aborted))
	file, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return s, err
	}
	s.Bytes = info.Size()
	c := checker{walker: w, x: x, s: &s, epoch: protocol.NoEpoch}
	if err := c.batches(io.NewSectionReader(file, 0, s.Bytes)); err != nil {
		return s, err
	}
	if err := c.finish(); err != nil {
		return s, err
	}
	s.Findings = w.findings - before
	if w.v.File != nil {
		err = w.v.File(s)
	}
	return s, err
}

// checker goes over one segment's batches.
type checker struct {
	*walker
	x     *indexes
	s     *Summary
	epoch protocol.Epoch
	buf   []byte
}

// batches reads them in order, until one cannot be told from the next.
func (c *checker) batches(r *io.SectionReader) error {
	header := make([]byte, record.HeaderLen)
	for pos := int64(0); pos < c.s.Bytes; {
		if left := c.s.Bytes - pos; left < record.HeaderLen {
			return c.found(c.s.File, pos, c.s.Next, "the last %d bytes are no batch: torn, or still being written", left)
		}
		if _, err := r.ReadAt(header, pos); err != nil {
			return fmt.Errorf("%s: %w", c.s.File, err)
		}
		h := record.Batch(header)
		total, err := record.TotalLen(header)
		switch {
		case zero(header):
			return c.found(c.s.File, pos, c.s.Next, "zeros from here on, %d bytes: preallocated, or lost in a crash", c.s.Bytes-pos)
		case err != nil:
			return c.found(c.s.File, pos, c.s.Next, "no batch begins here: %v; what follows cannot be read", err)
		case h.Magic() != record.Magic:
			return c.found(c.s.File, pos, c.s.Next, "magic %d: only format 2 is read here; what follows is not", h.Magic())
		case int64(total) > c.s.Bytes-pos:
			return c.found(c.s.File, pos, h.BaseOffset(), "a batch of %d bytes is cut short, %d are there: torn, or still being written", total, c.s.Bytes-pos)
		}
		if cap(c.buf) < total {
			c.buf = make([]byte, total)
		}
		if _, err := r.ReadAt(c.buf[:total], pos); err != nil {
			return fmt.Errorf("%s: %w", c.s.File, err)
		}
		if err := c.batch(record.Batch(c.buf[:total]), pos); err != nil {
			return err
		}
		pos += int64(total)
	}
	return nil
}

func zero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// batch checks one batch against those before it and against the indexes.
func (c *checker) batch(b record.Batch, pos int64) error {
	bad := b.Check()
	text := ""
	switch {
	case bad != nil:
		text = bad.Error()
	case b.BaseOffset() < c.s.Next:
		text = fmt.Sprintf("the batch begins below %d, which should come next", c.s.Next)
	case b.LeaderEpoch() < c.epoch:
		text = fmt.Sprintf("leader epoch %d after %d", b.LeaderEpoch(), c.epoch)
	}
	if text != "" {
		if err := c.found(c.s.File, pos, b.BaseOffset(), "%s", text); err != nil {
			return err
		}
	}
	c.s.Batches++
	if c.v.Batch != nil {
		if err := c.v.Batch(c.s.File, Batch{b, pos, bad}); err != nil {
			return err
		}
	}
	if bad != nil {
		if b.BaseOffset() >= c.s.Next && b.LastOffsetDelta() >= 0 { // else its header cannot be believed either
			c.s.Next = b.NextOffset()
		}
		c.x.skip(pos, c.s.Next)
		return nil
	}
	if err := c.x.hold(c.walker, b, pos, c.s.MaxTimestamp); err != nil {
		return err
	}
	c.s.Records += int64(b.Count())
	c.s.Next = max(c.s.Next, b.NextOffset())
	c.epoch = max(c.epoch, b.LeaderEpoch())
	c.s.MaxTimestamp = max(c.s.MaxTimestamp, b.MaxTimestamp())
	return nil
}

func (c *checker) finish() error { return c.x.finish(c.walker, c.s) }

// readAll reads a small file; nil where there is none.
func readAll(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}
