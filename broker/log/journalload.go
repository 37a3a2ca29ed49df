package log

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

// ErrJournal means that a round of the journal is damaged that had been synced.
// Which acknowledged records it held nobody can tell, so that the directory is not opened.
var ErrJournal = errors.New("journal is corrupt")

// journalPlace is where an entry lies.
type journalPlace struct {
	segment *journalSegment
	pos     int64
}

// journalLoader reads what the last process left of the journal.
type journalLoader struct {
	j      *journal
	points map[protocol.PartitionKey]protocol.Offset // checkpointed recovery points
}

// load reads the segments and keeps where the entries lie that a recovery point does not cover. The
// rounds go on above what it found, in a new segment. The last round may be torn: nobody was told
// that it is durable. Anything else that is bad is ErrJournal.
func (j *journal) load(points map[protocol.PartitionKey]protocol.Offset) error {
	entries, err := j.dir.cfg.FS.List(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var found []*journalSegment
	for _, e := range entries { // in the order of names
		if first, suffix, ok := parseFileName(e.Name); ok && suffix == journalFileSuffix {
			found = append(found, &journalSegment{path: path.Join(j.path, e.Name), name: int64(first), size: e.Size})
		}
	}
	r := journalLoader{j: j, points: points}
	for i, s := range found {
		j.name = s.name
		if err := r.read(s, i >= len(found)-2, i == len(found)-1); err != nil {
			return err
		}
	}
	all := make([]*journaled, 0, len(j.logs))
	for _, e := range j.logs {
		if e.first > 0 {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *journaled) int { return cmp.Compare(a.first, b.first) })
	for _, e := range all {
		e.at = j.live.PushBack(e)
	}
	return nil
}

// read takes one segment. written says that rounds may not be synced, newest that there is none after it.
func (r *journalLoader) read(s *journalSegment, written, newest bool) (err error) {
	j := r.j
	f, err := j.dir.cfg.FS.Open(s.path, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if written {
		// All before was synced. Of the newest with rounds, after which one may be prepared, the cache may show what the disk does not hold.
		if err := errors.Join(j.dir.fatal(syncFile(f)), f.DropCache(0)); err != nil {
			return err
		}
	}
	w := &window{file: f, size: s.size}
	whole, err := r.header(w, s, newest)
	if err != nil {
		return err
	}
	if whole {
		if err := r.rounds(w, s); err != nil {
			return err
		}
	}
	if err := r.nothingAfter(w, s, whole); err != nil {
		return err
	}
	if newest && s.end == journalBlock {
		// It was being made or prepared, or no round was written whole.
		return errors.Join(removeFile(j.dir.cfg.FS, s.path), j.dir.fatal(syncDir(j.dir.cfg.FS, j.path)))
	}
	j.segments = append(j.segments, s)
	j.bytes += s.size
	return nil
}

// header reads a segment's first block. Only that of the newest may not be whole: a crash may have
// come while it was being made, or one was recycled for it.
func (r *journalLoader) header(w *window, s *journalSegment, newest bool) (whole bool, err error) {
	b, err := w.bytes(0, int(min(s.size, journalHeaderLen)))
	if err != nil {
		return false, err
	}
	id, name, err := parseJournalHeader(b)
	switch {
	case err != nil && !newest:
		return false, r.corrupt(s, 0, err.Error())
	case err == nil && name != s.name && !newest:
		return false, r.corrupt(s, 0, fmt.Sprintf("its header is that of segment %d", name))
	}
	s.id, s.last, s.end = id, r.j.number, journalBlock
	return err == nil && name == s.name, nil
}

// rounds takes the rounds of a segment until one is bad.
func (r *journalLoader) rounds(w *window, s *journalSegment) error {
	for {
		h, entries, err := r.round(w, s.end)
		if err != nil {
			return err
		}
		first := len(r.j.segments) == 0 && s.end == journalBlock
		if entries == nil || h.id != s.id || h.number != r.j.number+1 && !first {
			return nil
		}
		r.j.number, s.last = h.number, h.number
		err = eachEntry(h, entries, func(e journalEntry, at int) error {
			r.take(e, journalPlace{s, s.end + roundHeaderLen + int64(at)})
			return nil
		})
		if err != nil {
			return r.corrupt(s, s.end, err.Error())
		}
		s.end += h.size()
	}
}

// round returns the round at pos, without entries where there is none.
func (r *journalLoader) round(w *window, pos int64) (h roundHeader, entries []byte, err error) {
	if pos+roundHeaderLen > w.size {
		return h, nil, nil
	}
	b, err := w.bytes(pos, roundHeaderLen)
	if err != nil {
		return h, nil, err
	}
	h, ok := parseRoundHeader(b)
	if !ok || pos+int64(roundHeaderLen+h.length) > w.size {
		return h, nil, nil
	}
	if b, err = w.bytes(pos, roundHeaderLen+h.length); err != nil {
		return h, nil, err
	}
	entries, _ = checkRound(h, b)
	return h, entries, nil
}

// nothingAfter looks for a whole round after the place where the rounds of the segment end: it
// was written after what should lie there had been synced. Without a header, one of any id
// counts that is newer than what comes before.
func (r *journalLoader) nothingAfter(w *window, s *journalSegment, knowsID bool) error {
	for pos := s.end; pos+roundHeaderLen <= w.size; pos += journalBlock {
		h, entries, err := r.round(w, pos)
		if err != nil {
			return err
		}
		if entries != nil && (knowsID && h.id == s.id || !knowsID && h.number > s.last) {
			return r.corrupt(s, s.end, fmt.Sprintf("round %d is damaged, round %d after it is whole", s.last+1, h.number))
		}
	}
	return nil
}

func (r *journalLoader) corrupt(s *journalSegment, pos int64, reason string) error {
	return fmt.Errorf("%w: %s at byte %d: %s", ErrJournal, s.path, pos, reason)
}

// take notes an entry of the newest round.
func (r *journalLoader) take(e journalEntry, at journalPlace) {
	j := r.j
	if e.reset {
		delete(j.logs, e.key)
		return
	}
	of := j.logs[e.key]
	if of == nil {
		of = &journaled{key: e.key}
		j.logs[e.key] = of
	}
	of.last = j.number
	if e.to <= r.points[e.key] {
		return
	}
	if of.first == 0 {
		of.first = j.number
	}
	of.places, of.end = append(of.places, at), max(of.end, e.to)
}

// release lets go of what was found of partitions that have no directory. Should one come
// back, OpenLog ends its earlier life by a reset.
func (j *journal) release(has func(protocol.PartitionKey) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for key, e := range j.logs {
		if !has(key) {
			j.settle(e)
			e.end = 0
		}
	}
	if len(j.segments) > 0 {
		j.arm(j.limits.quiet)
	}
}

// found is what the start found of a partition; ok is false where there is nothing to replay.
func (j *journal) found(key protocol.PartitionKey) (places []journalPlace, end protocol.Offset, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.logs[key]
	if e == nil || len(e.places) == 0 {
		return nil, 0, false
	}
	return e.places, e.end, true
}

// opened says that all that counts of a partition lies in its file now.
func (j *journal) opened(key protocol.PartitionKey) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.logs[key]
	if e == nil {
		return
	}
	j.settle(e)
	if len(j.segments) > 0 {
		j.arm(j.limits.quiet)
	}
}

// journalFiles reads entries, one segment open at a time.
type journalFiles struct {
	fs      vfs.FS
	segment *journalSegment
	file    vfs.File
}

// entry returns the entry at a place and its batches.
func (f *journalFiles) entry(at journalPlace, least protocol.Offset) (e journalEntry, batches []byte, err error) {
	if f.segment != at.segment {
		f.close()
		if f.file, err = f.fs.Open(at.segment.path, false); err != nil {
			return e, nil, err
		}
		f.segment = at.segment
	}
	head := make([]byte, batchesEntryLen)
	if err := readFull(f.file, head, at.pos); err != nil {
		return e, nil, err
	}
	e, size, err := parseEntryHead(head)
	if err != nil || e.to <= least {
		return e, nil, err
	}
	batches = make([]byte, size-batchesEntryLen)
	return e, batches, readFull(f.file, batches, at.pos+batchesEntryLen)
}

func (f *journalFiles) close() {
	if f.file != nil {
		_ = f.file.Close()
	}
	f.file, f.segment = nil, nil
}
