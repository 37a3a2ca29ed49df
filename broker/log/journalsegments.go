package log

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path"

	"github.com/stratabroker/strata/protocol"
)

// fillPiece is how much is written between two syncs while a segment is prepared: rounds
// that are synced meanwhile wait for the disk.
const fillPiece = 256 << 10

// zeros is never written to.
var zeros [fillPiece]byte

// roll begins a new segment, whose header and name are durable on return: the
// prepared one, or one made here. It needs write.
func (j *journal) roll() error {
	if err := j.seal(); err != nil {
		return err
	}
	j.making.Lock() // one that is being prepared comes first
	defer j.making.Unlock()
	j.mu.Lock()
	s, prepared := j.next, j.next != nil
	j.next, j.tried = nil, false
	j.mu.Unlock()
	if !prepared {
		s = j.newSegment()
		if err := j.create(s); err != nil {
			j.name-- // what is left of it is overwritten
			return err
		}
	}
	f, err := j.dir.cfg.FS.Open(s.path, false)
	if err != nil {
		return err
	}
	j.active, j.file, j.zeroed = s, f, s.size
	j.mu.Lock()
	defer j.mu.Unlock()
	s.last = j.number
	j.segments = append(j.segments, s)
	if !prepared {
		j.bytes += s.size
	}
	j.startTrim() // one that was kept becomes the next
	return nil
}

// newSegment gives a segment its name and id. It needs making.
func (j *journal) newSegment() *journalSegment {
	j.name++
	s := &journalSegment{name: j.name, path: path.Join(j.path, fileName(protocol.Offset(j.name))+journalFileSuffix), end: journalBlock}
	_, _ = rand.Read(s.id[:]) // never fails
	return s
}

// create makes a segment's file, durably.
func (j *journal) create(s *journalSegment) error {
	fsys := j.dir.cfg.FS
	if err := fsys.MkdirAll(j.path); err != nil {
		return err
	}
	if err := j.begin(s, true); err != nil {
		return err
	}
	if err := syncDir(fsys, j.path); err != nil {
		return err
	}
	return syncDir(fsys, j.dir.cfg.Path)
}

// begin writes a segment's header, durably, into a new file or one that has its name already.
func (j *journal) begin(s *journalSegment, create bool) (err error) {
	f, err := j.dir.cfg.FS.Open(s.path, create)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if create {
		if err := f.Truncate(0); err != nil {
			return err
		}
		s.size = journalBlock
	}
	if _, err := f.WriteAt(encodeJournalHeader(s.id, s.name), 0); err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	return syncFile(f)
}

// seal ends the active segment. A round that may lie behind its end must not be found by a
// start: the next one gets its number. It needs write.
func (j *journal) seal() error {
	if j.file == nil {
		return nil
	}
	if j.torn {
		if _, err := j.file.WriteAt(zeros[:journalBlock], j.active.end); err != nil {
			return fmt.Errorf("end %s: %w", j.active.path, err)
		}
		if err := syncFile(j.file); err != nil {
			return fmt.Errorf("journal %s: %w", j.active.path, err)
		}
	}
	j.close()
	return nil
}

// close lets go of the active segment. It needs write.
func (j *journal) close() {
	if j.file != nil {
		_ = j.file.Close() // all that counts was synced
	}
	j.active, j.file, j.torn = nil, nil, false
}

// prepareAhead has the next segment made once half of the active one is used, unless one
// was recycled. It needs mu.
func (j *journal) prepareAhead(active *journalSegment) {
	if j.next != nil || j.tried || j.stopped || active.end <= j.limits.segment/2 || j.full(j.limits.segment) {
		return
	}
	j.tried = true
	j.wg.Go(func() {
		j.trim(false) // one that nobody needs becomes the next
		if err := j.prepare(); err != nil {
			j.dir.cfg.Logger.Warn("journal segment was not prepared, it is made when it is needed", "dir", j.dir.cfg.Path, "err", j.dir.fatal(err))
		}
	})
}

// prepare makes a segment of zeros.
func (j *journal) prepare() error {
	j.trims.Lock()
	defer j.trims.Unlock()
	if wanted, _ := j.wantsNext(); !wanted {
		return nil
	}
	j.making.Lock()
	defer j.making.Unlock()
	s := j.newSegment()
	err := j.create(s)
	if err == nil {
		err = j.fillAhead(s)
	}
	if err != nil {
		j.name--
		return errors.Join(err, removeFile(j.dir.cfg.FS, s.path))
	}
	j.ready(s)
	return nil
}

func (j *journal) fillAhead(s *journalSegment) (err error) {
	f, err := j.dir.cfg.FS.Open(s.path, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for s.size < j.limits.segment {
		n := min(j.limits.segment-s.size, fillPiece)
		if _, err := f.WriteAt(zeros[:n], s.size); err != nil {
			return fmt.Errorf("fill %s: %w", s.path, err)
		}
		if err := syncFile(f); err != nil {
			return err
		}
		s.size += n
	}
	return nil
}

// wantsNext tells whether a segment is to be prepared: while rounds are written, and one is
// enough; and else how many more are kept for later.
func (j *journal) wantsNext() (wanted bool, kept int) {
	j.write.Lock()
	defer j.write.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.active == nil || j.stopped {
		return false, 0
	}
	return j.next == nil, j.kept()
}

// ready needs making.
func (j *journal) ready(s *journalSegment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.next != nil {
		panic("log: two journal segments are prepared")
	}
	j.next = s
	j.bytes += s.size
}

// recycle makes the oldest segment, which nobody needs, the next one: its blocks are on the disk, so
// that rounds that overwrite them need no new metadata. First it gives up its place, durably;
// until the header follows it is one without rounds, for theirs have other numbers. It needs trims.
func (j *journal) recycle(old *journalSegment) error {
	fsys := j.dir.cfg.FS
	j.making.Lock()
	defer j.making.Unlock()
	s := j.newSegment()
	s.size = old.size
	if err := fsys.Rename(old.path, s.path); err != nil {
		j.name--
		return err
	}
	if err := j.dir.fatal(syncDir(fsys, j.path)); err != nil {
		return err
	}
	j.gone(old)
	if err := j.dir.fatal(j.begin(s, false)); err != nil {
		j.name--
		return errors.Join(err, removeFile(fsys, s.path))
	}
	j.ready(s)
	return nil
}

// dropNext removes the prepared segment. It needs trims, or that no round is written any more.
func (j *journal) dropNext() error {
	j.mu.Lock()
	s := j.next
	j.next = nil
	if s != nil {
		j.bytes -= s.size
	}
	j.mu.Unlock()
	if s == nil {
		return nil
	}
	if err := removeFile(j.dir.cfg.FS, s.path); err != nil {
		return err
	}
	return j.dir.fatal(syncDir(j.dir.cfg.FS, j.path))
}
