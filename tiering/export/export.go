// Package export writes what a bucket holds into local files, without a broker:
// each segment as the .log file that a broker would have had, or each partition as a
// file of lines. It may be interrupted at any moment and run again: what is
// there and whole is not read again. It reads through recovery.Bucket and writes below
// one folder; nothing else is touched. cmd/strata calls it.
package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/recovery"
)

// Choice is a topic, or one partition of it.
type Choice struct {
	Topic     string
	Partition int32 // -1 for all
}

// Options of Run.
type Options struct {
	Dir      string   // is made where it is missing
	Choices  []Choice // empty for all topics but those that begin with __
	Parallel int      // segments, or files of lines, at a time; 1 or more. Each takes some 4 MiB
	// Line appends a record to a file of lines, with its line feed. Nil asks for .log files.
	Line func(dst []byte, topic string, partition int32, r record.Record) ([]byte, error)
	// LineEnd is the suffix of a file of lines, as in .jsonl; Offset reads a line back.
	LineEnd  string
	Offset   func(line []byte) (protocol.Offset, error)
	Progress func(Progress) // called often, one at a time
}

// Progress says how far Run has come.
type Progress struct {
	Partitions, Segments, Records int64 // Records of files of lines only
	Bytes                         int64 // written
	Kept                          int64 // segments, or files of lines, that an earlier run had written
	TotalSegments, TotalBytes     int64
}

// Errors of Run, matched with errors.Is, besides those of recovery.
var (
	ErrForeign = errors.New("not of this export") // a .log file where none should be
	ErrSwept   = errors.New("it was deleted from the bucket meanwhile: run it again")
)

// Run exports what was chosen. When it returns without an error all of it is
// written and synced.
func Run(ctx context.Context, b *recovery.Bucket, o Options) (Progress, error) {
	r := &run{Options: o, bucket: b}
	partitions, err := r.chosen(ctx)
	if err != nil {
		return r.done, err
	}
	for _, p := range partitions {
		r.done.TotalSegments += p.Segments
		r.done.TotalBytes += p.Bytes
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, o.Parallel))
	r.group = group
	for _, p := range partitions {
		if err = r.partition(ctx, p); err != nil {
			break
		}
	}
	err = errors.Join(err, group.Wait())
	if errors.Is(err, object.ErrNotFound) {
		err = fmt.Errorf("%w (%w)", err, ErrSwept)
	}
	return r.done, err
}

type run struct {
	Options
	bucket *recovery.Bucket
	group  *errgroup.Group

	mu   sync.Mutex
	done Progress // guarded by mu
}

func (r *run) progress(change func(*Progress)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.done)
	if r.Progress != nil {
		r.Progress(r.done)
	}
}

// chosen lists the partitions; a choice that is not in the bucket is an error.
func (r *run) chosen(ctx context.Context) ([]recovery.PartitionInfo, error) {
	var out []recovery.PartitionInfo
	take := func(topic string, wanted func(recovery.PartitionInfo) bool) (found bool, err error) {
		for p, err := range r.bucket.Partitions(ctx, topic) {
			if err != nil {
				return found, err
			}
			if wanted(p) {
				out, found = append(out, p), true
			}
		}
		return found, nil
	}
	if len(r.Choices) == 0 {
		_, err := take("", func(p recovery.PartitionInfo) bool { return !strings.HasPrefix(p.Topic, "__") })
		return out, err
	}
	for _, c := range r.Choices {
		found, err := take(c.Topic, func(p recovery.PartitionInfo) bool { return c.Partition < 0 || p.Partition == c.Partition })
		if err != nil {
			return nil, err
		}
		if !found && c.Partition >= 0 {
			return nil, fmt.Errorf("partition %d of topic %q: %w", c.Partition, c.Topic, recovery.ErrNotFound)
		}
	}
	return out, nil
}

func (r *run) partition(ctx context.Context, p recovery.PartitionInfo) error {
	name := fmt.Sprintf("%s-%d", p.Topic, p.Partition)
	if r.Line != nil {
		if err := os.MkdirAll(r.Dir, 0o777); err != nil {
			return err
		}
		r.group.Go(func() error { return r.lines(ctx, p, filepath.Join(r.Dir, name+r.LineEnd)) })
		return nil
	}
	folder := filepath.Join(r.Dir, name)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	var segments []recovery.SegmentInfo
	for s, err := range r.bucket.Segments(ctx, p.Topic) {
		if err != nil {
			return err
		}
		if s.Partition == p.Partition && s.End > p.LogStart {
			segments = append(segments, s)
		}
	}
	if err := foreign(folder, segments); err != nil {
		return err
	}
	for _, s := range segments {
		if ctx.Err() != nil {
			return nil // the group tells why
		}
		r.group.Go(func() error { return r.segment(ctx, folder, s) })
	}
	r.progress(func(p *Progress) { p.Partitions++ })
	return nil
}

// foreign finds a .log file within the offsets of the export that it would not
// write: it is of another bucket, or of a time before a compaction, and a reader would take both.
func foreign(folder string, segments []recovery.SegmentInfo) error {
	if len(segments) == 0 {
		return nil
	}
	ours := map[string]bool{}
	for _, s := range segments {
		ours[logName(s.Base)] = true
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		digits, isLog := strings.CutSuffix(e.Name(), ".log")
		base, err := strconv.ParseInt(digits, 10, 64)
		if isLog && err == nil && !ours[e.Name()] && protocol.Offset(base) > segments[0].Base {
			return fmt.Errorf("%s: %w: remove it, or export into an empty folder", filepath.Join(folder, e.Name()), ErrForeign)
		}
	}
	return nil
}

func logName(base protocol.Offset) string { return fmt.Sprintf("%020d.log", base) }

// segment writes one .log file: under another name first, so that it is whole
// or not there.
func (r *run) segment(ctx context.Context, folder string, s recovery.SegmentInfo) error {
	path := filepath.Join(folder, logName(s.Base))
	if kept, err := r.holds(ctx, path, s); err != nil || kept {
		return err
	}
	temp, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	n, err := r.bucket.CopySegment(ctx, s.Entry, temp)
	if err == nil {
		err = temp.Sync()
	}
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err == nil {
		err = syncFolder(folder)
	}
	if err != nil {
		return err
	}
	r.progress(func(p *Progress) { p.Segments++; p.Bytes += n })
	return nil
}

// holds tells whether an earlier run has written the file.
func (r *run) holds(ctx context.Context, path string, s recovery.SegmentInfo) (bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	kept, err := r.bucket.HoldsSegment(ctx, s.Entry, file, info.Size())
	if kept {
		r.progress(func(p *Progress) { p.Segments++; p.Kept++ })
	}
	return kept, err
}

// syncFolder makes names durable.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
