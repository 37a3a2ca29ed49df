package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked is wrapped by Lock when the lock is taken.
var ErrLocked = errors.New("another process holds this folder")

// OS returns the operating system's file system.
func OS() FS { return osFS{} }

// Underlying returns the operating system's file behind f, for sendfile. The
// caller must not close it or move its position.
func Underlying(f File) (*os.File, bool) {
	o, ok := f.(osFile)
	return o.f, ok
}

// Lock takes an exclusive lock on the file at path of the operating system, made
// if missing, until release is called or the process ends. When it is taken
// already, also by this process, the error wraps ErrLocked.
func Lock(path string) (release func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, noSpace(err)
	}
	err = retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if err == nil {
		return f.Close, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w: %s is locked", ErrLocked, path)
	} else {
		err = &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	return nil, errors.Join(err, f.Close())
}

type osFS struct{}

func (osFS) Open(name string, create bool) (File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(name, flags, 0o644)
	if err != nil {
		return nil, noSpace(err)
	}
	return osFile{f}, nil
}

func (osFS) Rename(from, to string) error { return noSpace(os.Rename(from, to)) }
func (osFS) Remove(name string) error     { return os.Remove(name) }
func (osFS) MkdirAll(name string) error   { return noSpace(os.MkdirAll(name, 0o755)) }
func (osFS) SyncDir(dir string) (err error) {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) List(dir string) ([]Entry, error) {
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(found))
	for _, d := range found {
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		e := Entry{Name: d.Name(), Dir: d.IsDir()}
		if !e.Dir {
			e.Size = info.Size()
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (osFS) Free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(dir, &st) }); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}

type osFile struct{ f *os.File }

func (o osFile) ReadAt(p []byte, off int64) (int, error) { return o.f.ReadAt(p, off) }

func (o osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := o.f.WriteAt(p, off)
	return n, noSpace(err)
}

func (o osFile) Truncate(size int64) error { return noSpace(o.f.Truncate(size)) }

func (o osFile) Sync() error {
	return noSpace(o.call("fdatasync", func(fd int) error { return unix.Fdatasync(fd) }))
}

func (o osFile) DropCache() error {
	return o.call("fadvise", func(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) })
}

func (o osFile) Size() (int64, error) {
	info, err := o.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (o osFile) Close() error { return o.f.Close() }

// call runs a system call on the descriptor, which stays open meanwhile.
func (o osFile) call(op string, do func(fd int) error) error {
	raw, err := o.f.SyscallConn()
	if err != nil {
		return err
	}
	failed := fs.ErrClosed // the only reason why Control does not run it
	_ = raw.Control(func(fd uintptr) { failed = retry(func() error { return do(int(fd)) }) })
	if failed != nil {
		return &fs.PathError{Op: op, Path: o.f.Name(), Err: failed}
	}
	return nil
}

// retry repeats a call that a signal broke off.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func noSpace(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}
