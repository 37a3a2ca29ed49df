// Package vfs is the file system that the log sees: small interfaces, the
// operating system's implementation (OS) and one in memory that can crash and
// fail (Mem). It knows nothing of logs. What is durable is said at each
// method, because crash tests hold Mem to exactly that.
package vfs

import "errors"

// ErrNoSpace is wrapped by writes that the disk refused for want of space.
var ErrNoSpace = errors.New("no space left on device")

// FS is one file system. Paths are slash-separated. All methods may run
// concurrently. Missing files give an error that is fs.ErrNotExist.
//
// A name that was created, renamed or removed is durable only after SyncDir of
// the directory that holds it; a new directory's own name needs SyncDir of its parent.
type FS interface {
	// Open opens a file for reading and writing; with create it is made if missing.
	Open(name string, create bool) (File, error)
	// Rename replaces to by from at once for every reader.
	Rename(from, to string) error
	// Remove deletes a file or an empty directory. Open files go on being readable.
	Remove(name string) error
	// MkdirAll makes a directory and its parents.
	MkdirAll(name string) error
	// List returns the entries of a directory in the order of their names.
	List(dir string) ([]Entry, error)
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
	// Space tells how much room there is where dir lies.
	Space(dir string) (Space, error)
}

// Space is the room of the disk that a directory lies on, in bytes.
type Space struct {
	Free  int64 // may still be written
	Total int64
}

// Entry is one name in a directory.
type Entry struct {
	Name string
	Dir  bool
	Size int64
}

// File is an open file. ReadAt and WriteAt may run concurrently on ranges that
// do not overlap.
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	// Sync makes the file's bytes and size durable (fdatasync), not its name.
	// After an error what the file holds is not known: the process must end (DESIGN D3).
	Sync() error
	// DropCache forgets clean cached bytes at and above from, perhaps some below it too, so that
	// the next read shows what the disk holds.
	DropCache(from int64) error
	Size() (int64, error)
	Close() error
}
