package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

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
	flags := unix.O_RDWR
	if create {
		flags |= unix.O_CREAT
	}
	f, err := openFile(name, flags)
	if err != nil {
		return nil, noSpace(err)
	}
	return osFile{f}, nil
}

// openFile is os.OpenFile without five system calls that would make the file wait in the
// runtime's poller, which regular files and directories cannot: a start opens tens of thousands.
func openFile(name string, flags int) (*os.File, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open(name, flags|unix.O_CLOEXEC, 0o644)
		return err
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (osFS) Rename(from, to string) error { return noSpace(os.Rename(from, to)) }
func (osFS) Remove(name string) error     { return os.Remove(name) }
func (osFS) MkdirAll(name string) error   { return noSpace(os.MkdirAll(name, 0o755)) }
func (osFS) SyncDir(dir string) (err error) {
	d, err := openFile(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) List(dir string) (_ []Entry, err error) {
	d, err := openFile(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	found, err := d.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(found))
	for _, f := range found {
		e := Entry{Name: f.Name(), Dir: f.IsDir()}
		if !e.Dir {
			var st unix.Stat_t
			err := retry(func() error { return unix.Fstatat(int(d.Fd()), e.Name, &st, unix.AT_SYMLINK_NOFOLLOW) })
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed since
			}
			if err != nil {
				return nil, &fs.PathError{Op: "stat", Path: path.Join(dir, e.Name), Err: err}
			}
			e.Size = st.Size
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

func (osFS) Space(dir string) (Space, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(dir, &st) }); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return Space{Free: int64(st.Bavail) * st.Bsize, Total: int64(st.Blocks) * st.Bsize}, nil
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

// maxFolio is how many pages Linux caches in one piece at most (MAX_XAS_ORDER), which
// begins at a multiple of its size. None is dropped in part.
const maxFolio = 2048

func (o osFile) DropCache(from int64) error {
	from -= from % (maxFolio * int64(os.Getpagesize()))
	return o.call("fadvise", func(fd int) error { return unix.Fadvise(fd, from, 0, unix.FADV_DONTNEED) })
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
