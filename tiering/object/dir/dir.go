// Package dir is a Store in a folder of a file system: one file an object,
// named by its key. Several processes of one machine may use a folder at once.
//
// Names that begin with "~" cannot be keys and are the driver's own: "~put-..."
// is an object being written (its writer holds a flock on it), "~lock" in the
// root is flocked while a PutIf compares and renames.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stratabroker/strata/tiering/object"
)

// Store keeps objects as files below a root folder. Its version of an object is
// a hash of the content, as S3's ETag is.
type Store struct {
	root string
	// turn is held around PutIf: between goroutines of this store a channel, which
	// a context can leave; between processes the lock file.
	turn chan struct{}

	seen    atomic.Pointer[identity] // the root as it was first seen; nil: never yet
	rooted  atomic.Bool              // the root and the way to it are durable
	rooting sync.Mutex               // held while the root is made
}

var (
	_ object.Store    = (*Store)(nil)
	_ object.Streamer = (*Store)(nil)
	_ object.Prober   = (*Store)(nil)
)

// New makes a store of the folder root, an absolute path. The folder is made by
// the first write; one that exists must be a readable folder. Once it was seen, a
// root that is missing or another folder is an outage, ErrNoBucket, and is never made again.
func New(root string) (*Store, error) {
	if !filepath.IsAbs(root) {
		return nil, fmt.Errorf("bucket folder %q: the path must be absolute", root)
	}
	s := &Store{root: filepath.Clean(root), turn: make(chan struct{}, 1)}
	f, err := os.Open(s.root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, fmt.Errorf("bucket folder: %w", err)
	}
	_ = f.Close() // it can be read
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Store) path(key string) string {
	return filepath.Join(s.root, filepath.FromSlash(key))
}

// Put implements object.Store. The file, its name and the names of its folders
// are on stable storage when it returns nil.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	if err := object.CheckPut(key, size); err != nil {
		return err
	}
	temp, err := s.write(ctx, key, object.NewSection(body, size))
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	defer temp.discard()
	if err := s.publish(key, temp); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

// publish gives a synced temporary file its name and makes the name durable.
func (s *Store) publish(key string, temp *temporary) error {
	path := s.path(key)
	// Rename would tell a folder in the way by different errors.
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%w: it is the folder of other objects", object.ErrInvalidKey)
	}
	// Where the root went away, the temporary file did: this cannot succeed elsewhere.
	if err := os.Rename(temp.path, path); err != nil {
		return errors.Join(s.check(), err)
	}
	if err := s.syncUp(filepath.Dir(path)); err != nil {
		return err
	}
	return s.check() // what was synced may be another root by now
}

// syncUp makes the entries of folder and of all folders above it durable, up to
// the root. Also of those this call did not make: who made them may not have
// synced them yet. A folder without changes syncs in microseconds.
func (s *Store) syncUp(folder string) error {
	for ; within(s.root, folder); folder = filepath.Dir(folder) {
		if err := syncFolder(folder); err != nil {
			return err
		}
	}
	return syncFolder(s.root)
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return f.Sync()
}

// Get implements object.Store.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	f, size, err := s.open(ctx, key)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if err := object.CheckRange(key, offset, length, size); err != nil {
		return nil, err
	}
	b := make([]byte, length)
	if _, err := f.ReadAt(b, offset); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return b, nil
}

// OpenRange implements object.Streamer.
func (s *Store) OpenRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	f, size, err := s.open(ctx, key)
	if err != nil {
		return nil, err
	}
	if err := object.CheckRange(key, offset, length, size); err != nil {
		_ = f.Close()
		return nil, err
	}
	return &section{f: f, ctx: ctx, at: offset, end: offset + length}, nil
}

// section is a range of an open file. Objects are never changed in place, and a file that was unlinked stays readable.
type section struct {
	f       *os.File
	ctx     context.Context //nolint:containedctx // the stream's own, as an HTTP body has one
	at, end int64
}

// Read implements io.Reader.
func (s *section) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, fmt.Errorf("read %s: %w", s.f.Name(), err)
	}
	if s.at == s.end {
		return 0, io.EOF
	}
	n, err := s.f.ReadAt(p[:min(int64(len(p)), s.end-s.at)], s.at)
	s.at += int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // of the file, not of the section
	}
	if err != nil {
		return n, fmt.Errorf("read %s: %w", s.f.Name(), err)
	}
	return n, nil
}

// Close implements io.Closer.
func (s *section) Close() error { return s.f.Close() }

// GetAll implements object.Store.
func (s *Store) GetAll(ctx context.Context, key string, limit int64) ([]byte, string, error) {
	f, size, err := s.open(ctx, key)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = f.Close() }()
	if size > limit {
		return nil, "", fmt.Errorf("%w: %s has %d bytes, the limit is %d", object.ErrRange, key, size, limit)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, "", fmt.Errorf("get %s: %w", key, err)
	}
	return b, version(b), nil
}

func (s *Store) open(ctx context.Context, key string) (*os.File, int64, error) {
	if err := object.CheckKey(key); err != nil {
		return nil, 0, err
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, fmt.Errorf("get %s: %w", key, err)
	}
	f, err := os.Open(s.path(key))
	if missing(err) {
		if err = s.check(); err == nil {
			err = object.ErrNotFound
		}
		return nil, 0, fmt.Errorf("get %s: %w", key, err)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("get %s: %w", key, err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = object.ErrNotFound // the folder of other objects
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, fmt.Errorf("get %s: %w", key, err)
	}
	return f, info.Size(), nil
}

// missing tells whether err says that a file, or a folder on the way to it, is not there.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// Delete implements object.Store. Folders that become empty go too. What is
// gone stays gone after a power cut.
func (s *Store) Delete(ctx context.Context, keys []string) error {
	for _, key := range keys {
		if err := object.CheckKey(key); err != nil {
			return err
		}
	}
	if err := s.check(); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	touched := map[string]bool{}
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
		path := s.path(key)
		// Not os.Remove, which removes an empty folder of that name too.
		err := syscall.Unlink(path)
		switch {
		case err == nil:
			touched[filepath.Dir(path)] = true
		case missing(err), errors.Is(err, syscall.EISDIR):
		default:
			return fmt.Errorf("delete %s: %w", key, err)
		}
	}
	for folder := range touched {
		if err := s.settle(folder); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	if err := s.check(); err != nil { // what was not found may be there still
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}

// settle makes removals from folder durable, and removes it and those above it
// where they are empty now.
func (s *Store) settle(folder string) error {
	for ; within(s.root, folder); folder = filepath.Dir(folder) {
		// The kernel refuses to remove a folder that holds anything, a temporary
		// file of a running Put included; a Put that loses its folder before it has
		// that file makes the folder again.
		err := syscall.Rmdir(folder)
		if err != nil && !missing(err) {
			break
		}
	}
	for {
		err := syncFolder(folder)
		if err == nil || !within(s.root, folder) || !missing(err) {
			return err
		}
		folder = filepath.Dir(folder) // another Delete has removed it meanwhile
	}
}

func within(root, folder string) bool {
	return strings.HasPrefix(folder, root) && folder != root
}

// Probe implements object.Prober: it looks whether the folder, or the nearest
// one above it that exists, may be written. A root that was seen must be there.
func (s *Store) Probe(context.Context) error {
	if err := s.check(); err != nil {
		return err
	}
	for folder := s.root; ; folder = filepath.Dir(folder) {
		err := unix.Access(folder, unix.R_OK|unix.W_OK|unix.X_OK)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
			return fmt.Errorf("bucket folder %s: %w (%s: %w)", s.root, object.ErrDenied, folder, err)
		case !errors.Is(err, fs.ErrNotExist) || folder == filepath.Dir(folder):
			return fmt.Errorf("bucket folder %s: %s: %w", s.root, folder, err)
		}
	}
}

// Close implements object.Store.
func (s *Store) Close() error { return nil }
