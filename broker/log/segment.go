package log

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// extent is how far a segment is filled: whole batches only. Immutable.
type extent struct {
	size int64           // bytes
	next protocol.Offset // after the last batch
}

// segment is a run of a log in one file, with its index files. All but the
// last of a log are sealed. The list of a log holds one reference, each reader
// another; the files go when the last one is released.
type segment struct {
	log  *Log
	base protocol.Offset

	// filled is stored by the appender, before the log end moves.
	filled atomic.Pointer[extent]
	sealed atomic.Int64 // wall clock in ms, 0 while active
	synced atomic.Bool  // sealed, and all its files and names are durable
	refs   atomic.Int32
	txns   atomic.Bool // there is a .txnindex

	// mu is a leaf: held for moments, never across a write that waits for the disk.
	mu    sync.Mutex
	index segmentIndex

	fileMu sync.Mutex // held while files are opened or renamed
	dead   bool       // files are renamed to .deleted; guarded by fileMu
	suffix string     // of the files' names besides: of a cleaned one before it is in place, of a replaced one that is dead; guarded by fileMu
}

func newSegment(l *Log, base protocol.Offset) *segment {
	s := &segment{log: l, base: base}
	s.index.init()
	s.refs.Store(1)
	s.filled.Store(&extent{next: base})
	return s
}

// fileName is a segment's file name without its suffix.
func fileName(base protocol.Offset) string { return fmt.Sprintf("%020d", base) }

// parseFileName splits "<20 digits>.<suffix>".
func parseFileName(name string) (base protocol.Offset, suffix string, ok bool) {
	if len(name) < 21 || name[20] != '.' {
		return 0, "", false
	}
	for _, c := range name[:20] {
		if c < '0' || c > '9' {
			return 0, "", false
		}
	}
	n, err := strconv.ParseInt(strings.TrimLeft(name[:19], "0")+name[19:20], 10, 64)
	return protocol.Offset(n), name[20:], err == nil
}

const deletedSuffix = ".deleted"

// path returns where the file lies now; the caller holds fileMu.
func (s *segment) path(kind fileKind) string {
	p := path.Join(s.log.path, fileName(s.base)+kind.suffix()+s.suffix)
	if s.dead {
		p += deletedSuffix
	}
	return p
}

func (s *segment) openFile(fsys vfs.FS, kind fileKind) (vfs.File, error) {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	return fsys.Open(s.path(kind), kind != logKind && !s.dead)
}

// pin takes a reference unless the segment is gone.
func (s *segment) pin() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// unpin releases a reference; the last one removes the files. An error leaves
// .deleted files, which the next start removes.
func (s *segment) unpin() {
	n := s.refs.Add(-1)
	if n < 0 {
		panic(fmt.Sprintf("log: segment %d of %s released twice", s.base, s.log.name))
	}
	if n > 0 {
		return
	}
	s.log.dir.handles.forget(s)
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	if !s.dead {
		return // the log was closed, not the segment removed
	}
	for kind := range kinds {
		if err := removeFile(s.log.dir.cfg.FS, s.path(kind)); err != nil {
			s.log.dir.cfg.Logger.Warn("segment file was not removed", "file", s.path(kind), "err", err)
		}
	}
}

// markDeleted renames the files so that a start after a crash knows them for
// deleted. The caller syncs the directory.
func (s *segment) markDeleted() error {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	fsys := s.log.dir.cfg.FS
	for kind := range kinds {
		from := s.path(kind)
		if err := ignoreMissing(fsys.Rename(from, from+deletedSuffix)); err != nil {
			return err
		}
	}
	s.dead = true
	return nil
}

// deleted tells whether the segment's files have been renamed.
func (s *segment) deleted() bool {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	return s.dead
}

// sealedAt is the zero time while the segment is active.
func (s *segment) sealedAt() time.Time {
	if ms := s.sealed.Load(); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

// stepper walks over the batch headers of a file in [pos, limit), where limit
// is the end of a batch. It checks what is needed to go on, not the CRC.
type stepper struct {
	file  io.ReaderAt
	pos   int64
	limit int64
	buf   []byte
	at    int64 // of buf[0]
	n     int   // valid bytes in buf
	last  int64 // size of the last batch
}

// step returns the header of the batch at pos and moves on; io.EOF at limit.
// The header is valid until the next call.
func (w *stepper) step() (header record.Batch, pos, total int64, err error) {
	if w.pos >= w.limit {
		return nil, w.pos, 0, io.EOF
	}
	pos = w.pos
	if pos+record.HeaderLen > w.limit {
		return nil, pos, 0, fmt.Errorf("%w: %d bytes left", record.ErrShort, w.limit-pos)
	}
	if pos < w.at || pos+record.HeaderLen > w.at+int64(w.n) {
		n := int(min(int64(cap(w.buf)), w.limit-pos))
		if w.last > int64(n/4) {
			n = min(n, indexPage) // the next headers are not near
		}
		if err := readFull(w.file, w.buf[:n], pos); err != nil {
			w.n = 0
			return nil, pos, 0, err
		}
		w.at, w.n = pos, n
	}
	header = record.Batch(w.buf[pos-w.at : pos-w.at+record.HeaderLen])
	n, err := record.TotalLen(header)
	switch {
	case err != nil:
		return nil, pos, 0, err
	case n < record.HeaderLen || header.Magic() != record.Magic || header.LastOffsetDelta() < 0 || header.BaseOffset() < 0:
		return nil, pos, 0, fmt.Errorf("%w: length %d, magic %d, base offset %d", record.ErrCorrupt, n, header.Magic(), header.BaseOffset())
	case pos+int64(n) > w.limit:
		return nil, pos, 0, fmt.Errorf("%w: batch of %d bytes, %d left", record.ErrShort, n, w.limit-pos)
	}
	w.pos, w.last = w.pos+int64(n), int64(n)
	return header, pos, int64(n), nil
}

// readFull reads exactly len(p) bytes.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// corrupt describes a bad place met while reading below the log end.
func (s *segment) corrupt(pos int64, from protocol.Offset, err error) error {
	return &CorruptError{File: s.name(), Position: pos, From: from, To: protocol.NoOffset, Reason: err.Error()}
}

func (s *segment) name() string { return path.Join(s.log.name, fileName(s.base)+logKind.suffix()) }

// ignoreMissing makes a missing file no error.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
