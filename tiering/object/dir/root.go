package dir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/stratabroker/strata/tiering/object"
)

// identity tells one root folder from another at the same path. A mount that
// goes away leaves none or the one below the mount point. One that comes back is the
// same again, unless its file system numbers its devices anew: then a restart takes it as it is.
type identity struct{ device, inode uint64 }

// check tells whether the root is there and is the folder that this store saw
// first: else what is read is not the bucket's, and what is written never gets there. The
// error is an outage, ErrNoBucket. A root that was never seen may be missing: its bucket has no object yet.
func (s *Store) check() error {
	seen := s.seen.Load()
	info, err := os.Stat(s.root)
	switch {
	case missing(err) && seen == nil:
		return nil
	case missing(err):
		return fmt.Errorf("bucket folder %s: %w any more: is it a mount that went away?", s.root, object.ErrNoBucket)
	case err != nil:
		return fmt.Errorf("bucket folder: %w", err)
	case !info.IsDir():
		return fmt.Errorf("bucket folder %s: %w: not a folder", s.root, object.ErrNoBucket)
	}
	id := identify(info)
	if seen == nil && !s.seen.CompareAndSwap(nil, &id) {
		seen = s.seen.Load()
	}
	if seen != nil && *seen != id {
		return fmt.Errorf("bucket folder %s: %w any more: another folder is in its place (a mount that went away? "+
			"if it is the same bucket, mounted elsewhere, restart)", s.root, object.ErrNoBucket)
	}
	return nil
}

func identify(info fs.FileInfo) identity {
	stat := info.Sys().(*syscall.Stat_t)
	return identity{device: stat.Dev, inode: stat.Ino}
}

// ready is check for a write. Only the first write of a store whose root was
// never seen makes the root and all on the way to it, durably.
func (s *Store) ready() error {
	if s.rooted.Load() {
		return s.check()
	}
	s.rooting.Lock()
	defer s.rooting.Unlock()
	if err := s.check(); err != nil || s.rooted.Load() {
		return err
	}
	if s.seen.Load() == nil {
		if err := os.MkdirAll(s.root, 0o777); err != nil {
			return fmt.Errorf("bucket folder %s cannot be made: %w", s.root, cause(err))
		}
	}
	for folder := s.root; folder != filepath.Dir(folder); {
		folder = filepath.Dir(folder)
		// One that may not be opened was not made above, but by who owns it.
		if err := syncFolder(folder); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	if err := s.check(); err != nil {
		return err
	}
	// Where it went away since it was made, it was not seen: the next write looks again.
	s.rooted.Store(s.seen.Load() != nil)
	return nil
}

// cause is what went wrong with a path, without the path.
func cause(err error) error {
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// makeBelow makes a folder and those above it, but never the root.
func (s *Store) makeBelow(folder string) error {
	if !within(s.root, folder) {
		return nil
	}
	err := os.Mkdir(folder, 0o777)
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.makeBelow(filepath.Dir(folder)); err == nil {
			err = os.Mkdir(folder, 0o777)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // or a file, which the next step finds
	}
	return err
}
