package log

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

// finishCleaning ends what a crash interrupted of a cleaning (see cleanfiles.go) and returns what the
// directory holds then. A new segment whose log file is named .swap takes the place of those of its range; without one,
// what was written goes. It may be done again after another crash at any point.
func (l *Log) finishCleaning(entries []vfs.Entry) ([]vfs.Entry, error) {
	var committed []protocol.Offset
	var left []string
	for _, e := range entries {
		switch base, suffix, ok := parseFileName(e.Name); {
		case ok && suffix == logKind.suffix()+swapSuffix:
			committed = append(committed, base)
		case strings.HasSuffix(e.Name, cleanedSuffix), strings.HasSuffix(e.Name, swapSuffix):
			left = append(left, e.Name)
		}
	}
	if len(committed)+len(left) == 0 {
		return entries, nil
	}
	// The process may have ended between the renaming and its sync.
	if err := syncDir(l.dir.cfg.FS, l.path); err != nil {
		return nil, err
	}
	for _, name := range left {
		base, suffix, ok := parseFileName(name)
		if ok && strings.HasSuffix(suffix, swapSuffix) && slices.Contains(committed, base) {
			continue
		}
		if err := removeFile(l.dir.cfg.FS, path.Join(l.path, name)); err != nil {
			return nil, err
		}
	}
	for _, base := range committed {
		if err := l.finishSwap(base, entries); err != nil {
			return nil, fmt.Errorf("end the cleaning of %s at %d: %w", l.name, base, err)
		}
	}
	l.dir.cfg.Logger.Info("a cleaning that was interrupted is ended", "log", l.name, "segments", len(committed))
	return l.dir.cfg.FS.List(l.path)
}

// finishSwap does steps 3 to 5. While the old log file of the same base is there, so may its indexes be.
func (l *Log) finishSwap(base protocol.Offset, entries []vfs.Entry) error {
	fsys := l.dir.cfg.FS
	swap := path.Join(l.path, fileName(base)+logKind.suffix()+swapSuffix)
	end, err := endOf(fsys, swap)
	if err != nil {
		return err
	}
	old := slices.ContainsFunc(entries, func(e vfs.Entry) bool { return e.Name == fileName(base)+logKind.suffix() })
	for _, e := range entries {
		at, suffix, ok := parseFileName(e.Name)
		if !ok || at < base || at >= end || at == base && !old || !slices.Contains(segmentSuffixes(), suffix) {
			continue
		}
		if err := removeFile(fsys, path.Join(l.path, e.Name)); err != nil {
			return err
		}
	}
	if err := syncDir(fsys, l.path); err != nil {
		return err
	}
	for _, kinds := range [][]fileKind{{indexKind, timeKind, txnKind}, {logKind}} {
		for _, kind := range kinds {
			name := path.Join(l.path, fileName(base)+kind.suffix())
			if err := ignoreMissing(fsys.Rename(name+swapSuffix, name)); err != nil {
				return err
			}
		}
		if err := syncDir(fsys, l.path); err != nil {
			return err
		}
	}
	return nil
}

func segmentSuffixes() []string {
	var out []string
	for kind := range kinds {
		out = append(out, kind.suffix())
	}
	return out
}

// endOf walks the headers of a segment's file, which was synced whole, to the offset after its last batch.
func endOf(fsys vfs.FS, name string) (end protocol.Offset, err error) {
	f, err := fsys.Open(name, false)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	w := window{file: f, size: size}
	for pos := int64(0); pos < size; {
		b, err := w.batch(pos)
		if isBad(err) {
			return 0, &CorruptError{File: name, Position: pos, From: end, To: protocol.NoOffset, Reason: err.Error()}
		}
		if err != nil {
			return 0, err
		}
		end, pos = b.NextOffset(), pos+int64(len(b))
	}
	return end, nil
}
