package export

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/recovery"
)

const (
	lineBuffer = 1 << 20
	// progressRecords is how many records are between two calls of Progress.
	progressRecords = 1 << 12
)

// lines writes a partition's committed records to one file, a line each, after
// those that an earlier run has written.
func (r *run) lines(ctx context.Context, p recovery.PartitionInfo, path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	from, size, err := r.resume(file)
	if err == nil && from > 0 && from >= p.TieredEnd {
		r.progress(func(p *Progress) { p.Kept++ })
	}
	if err == nil {
		err = r.appendLines(ctx, p, file, from, size)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.progress(func(done *Progress) { done.Partitions++; done.Segments += p.Segments })
	return syncFolder(r.Dir)
}

// resume cuts a line that was not finished and gives the offset after the last
// one, and the size of the file.
func (r *run) resume(file *os.File) (from protocol.Offset, size int64, err error) {
	if size, err = file.Seek(0, io.SeekEnd); err != nil || size == 0 {
		return 0, 0, err
	}
	end, err := lineBefore(file, size) // the last line feed
	if err != nil || end < 0 {
		return 0, 0, errors.Join(err, file.Truncate(0))
	}
	start, err := lineBefore(file, end)
	if err != nil {
		return 0, 0, err
	}
	line := make([]byte, end-start-1)
	if _, err := file.ReadAt(line, start+1); err != nil {
		return 0, 0, err
	}
	last, err := r.Offset(line)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: its last line is not one of an export: %w", ErrForeign, err)
	}
	return last + 1, end + 1, file.Truncate(end + 1)
}

// lineBefore finds the last line feed before an offset, -1 for none.
func lineBefore(file io.ReaderAt, before int64) (int64, error) {
	buf := make([]byte, 1<<16)
	for end := before; end > 0; {
		start := max(0, end-int64(len(buf)))
		b := buf[:end-start]
		if _, err := file.ReadAt(b, start); err != nil {
			return 0, err
		}
		if at := bytes.LastIndexByte(b, '\n'); at >= 0 {
			return start + int64(at), nil
		}
		end = start
	}
	return -1, nil
}

func (r *run) appendLines(ctx context.Context, p recovery.PartitionInfo, file *os.File, from protocol.Offset, size int64) error {
	if _, err := file.Seek(size, io.SeekStart); err != nil {
		return err
	}
	w := bufio.NewWriterSize(file, lineBuffer)
	var line []byte
	var records, written int64
	told := func() {
		r.progress(func(p *Progress) { p.Records += records; p.Bytes += written })
		records, written = 0, 0
	}
	for rec, err := range r.bucket.Cat(ctx, p.Topic, p.Partition, from) {
		if err == nil {
			line, err = r.Line(line[:0], p.Topic, p.Partition, rec)
		}
		if err == nil {
			_, err = w.Write(line)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return errors.Join(err, w.Flush()) // what is written is the beginning of the next run
		}
		written += int64(len(line))
		if records++; records == progressRecords {
			told()
		}
	}
	told()
	return w.Flush()
}
