package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// removeLeftovers removes the empty files that a kill leaves behind: badger
// makes its log files empty before it gives them their size, and cuts them to
// nothing before it removes them, but refuses to open a folder that holds one.
// No entry was ever in such a file, or all of them are in a table already.
// It holds the lock that badger takes, so that the files are of no living process.
func removeLeftovers(dir string) (err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make raft store: %w", err)
	}
	lock, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("lock raft store: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }() // gives the lock back
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("open %s: %w", dir, ErrInUse)
	} else if err != nil {
		return fmt.Errorf("lock raft store %s: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list raft store: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("list raft store: %w", err)
		}
		ext := filepath.Ext(e.Name())
		if info.Size() > 0 || ext != ".mem" && ext != ".vlog" {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove empty file of the raft store: %w", err)
		}
	}
	return nil
}
