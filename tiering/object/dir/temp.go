package dir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	ownMark    = "~" // begins the names that are not objects
	tempMark   = ownMark + "put-"
	lockName   = ownMark + "lock"
	staleAfter = time.Minute // a younger temporary file may not be locked by its writer yet
	maxTries   = 1000        // of making a folder that a Delete takes away again and again
)

// temporary is an object's file before it has its name. It stays flocked until
// discard, so that no other process takes it for a dead one's.
type temporary struct {
	file *os.File
	path string
}

// write makes a synced temporary file in the folder of key that holds what r has.
func (s *Store) write(ctx context.Context, key string, r io.Reader) (*temporary, error) {
	temp, err := s.create(ctx, filepath.Dir(s.path(key)))
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(temp.file, contextReader{ctx, r}); err != nil {
		temp.discard()
		return nil, err
	}
	if err := temp.file.Sync(); err != nil {
		temp.discard()
		return nil, err
	}
	return temp, nil
}

func (s *Store) create(ctx context.Context, folder string) (*temporary, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, tempMark+rand.Text())
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		file, err := s.createBelow(folder, path)
		if lost := s.check(); lost != nil { // it went away meanwhile
			if err == nil {
				(&temporary{file: file, path: path}).discard()
			}
			return nil, lost
		}
		if errors.Is(err, os.ErrNotExist) && try < maxTries {
			continue // a Delete took the folder away meanwhile
		}
		if err != nil {
			return nil, err
		}
		temp := &temporary{file: file, path: path}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
			temp.discard()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return temp, nil
	}
}

func (s *Store) createBelow(folder, path string) (*os.File, error) {
	if err := s.makeBelow(folder); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
}

// discard closes the file, and removes it where it has not got its name.
func (t *temporary) discard() {
	_ = os.Remove(t.path) // after the rename there is none
	_ = t.file.Close()    // its content is synced or not wanted
}

// removeStale removes a temporary file whose writer is dead, and its folder
// when nothing else is in it.
func (s *Store) removeStale(path string) error {
	file, err := os.Open(path)
	if missing(err) {
		return nil // its writer was quicker
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if time.Since(info.ModTime()) < staleAfter || unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	if err := os.Remove(path); err != nil && !missing(err) {
		return err
	}
	return s.settle(filepath.Dir(path))
}

func isOwn(name string) bool  { return strings.HasPrefix(name, ownMark) }
func isTemp(name string) bool { return strings.HasPrefix(name, tempMark) }

// contextReader ends a long copy when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
