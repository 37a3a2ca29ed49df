// Package mem is a Store in memory, for tests and simulations. It is lost when
// the process ends.
package mem

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stratabroker/strata/tiering/object"
)

// Store keeps objects in a map. Its version of an object is a hash of the
// content, as S3's ETag is.
type Store struct {
	mu      sync.RWMutex
	objects map[string]entry // guarded by mu; bodies are never changed in place
}

type entry struct {
	body     []byte
	modified time.Time
}

var (
	_ object.Store    = (*Store)(nil)
	_ object.Streamer = (*Store)(nil)
)

// New makes an empty store.
func New() *Store {
	return &Store{objects: map[string]entry{}}
}

func version(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:16])
}

// Put implements object.Store.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	if err := begin(ctx, "put", key); err != nil {
		return err
	}
	if err := object.CheckPut(key, size); err != nil {
		return err
	}
	b, err := io.ReadAll(object.NewSection(body, size))
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	if err := begin(ctx, "put", key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = entry{body: b, modified: time.Now()}
	return nil
}

// PutIf implements object.Store.
func (s *Store) PutIf(ctx context.Context, key string, body []byte, match string) (string, error) {
	if err := begin(ctx, "put", key); err != nil {
		return "", err
	}
	if err := object.CheckKey(key); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	current := ""
	if e, ok := s.objects[key]; ok {
		current = version(e.body)
	}
	if current != match {
		return "", fmt.Errorf("put %s at version %q, found %q: %w", key, match, current, object.ErrPrecondition)
	}
	s.objects[key] = entry{body: bytes.Clone(body), modified: time.Now()}
	return version(body), nil
}

// Get implements object.Store.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	e, err := s.find(ctx, key)
	if err != nil {
		return nil, err
	}
	if err := object.CheckRange(key, offset, length, int64(len(e.body))); err != nil {
		return nil, err
	}
	b := make([]byte, length)
	copy(b, e.body[offset:])
	return b, nil
}

// OpenRange implements object.Streamer.
func (s *Store) OpenRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	e, err := s.find(ctx, key)
	if err != nil {
		return nil, err
	}
	if err := object.CheckRange(key, offset, length, int64(len(e.body))); err != nil {
		return nil, err
	}
	return stream{ctx: ctx, key: key, left: bytes.NewReader(e.body[offset : offset+length])}, nil
}

// stream is a range being read. The body under it never changes.
type stream struct {
	ctx  context.Context //nolint:containedctx // the stream's own, as an HTTP body has one
	key  string
	left *bytes.Reader
}

// Read implements io.Reader.
func (s stream) Read(p []byte) (int, error) {
	if err := begin(s.ctx, "get", s.key); err != nil {
		return 0, err
	}
	return s.left.Read(p)
}

// Close implements io.Closer.
func (s stream) Close() error { return nil }

// GetAll implements object.Store.
func (s *Store) GetAll(ctx context.Context, key string, limit int64) ([]byte, string, error) {
	e, err := s.find(ctx, key)
	if err != nil {
		return nil, "", err
	}
	if int64(len(e.body)) > limit {
		return nil, "", fmt.Errorf("%w: %s has %d bytes, the limit is %d", object.ErrRange, key, len(e.body), limit)
	}
	b := make([]byte, len(e.body))
	copy(b, e.body)
	return b, version(b), nil
}

// List implements object.Store. It lists the objects of the moment at which the
// iteration began.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[object.Info, error] {
	return func(yield func(object.Info, error) bool) {
		if err := begin(ctx, "list", prefix); err != nil {
			yield(object.Info{}, err)
			return
		}
		if err := object.CheckPrefix(prefix); err != nil {
			yield(object.Info{}, err)
			return
		}
		for _, info := range s.snapshot(prefix, after) {
			if err := begin(ctx, "list", prefix); err != nil {
				yield(object.Info{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (s *Store) snapshot(prefix, after string) []object.Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var infos []object.Info
	for key, e := range s.objects {
		if strings.HasPrefix(key, prefix) && key > after {
			infos = append(infos, object.Info{Key: key, Size: int64(len(e.body)), Modified: e.modified})
		}
	}
	slices.SortFunc(infos, func(a, b object.Info) int { return strings.Compare(a.Key, b.Key) })
	return infos
}

// Delete implements object.Store.
func (s *Store) Delete(ctx context.Context, keys []string) error {
	if err := begin(ctx, "delete", fmt.Sprintf("%d objects", len(keys))); err != nil {
		return err
	}
	for _, key := range keys {
		if err := object.CheckKey(key); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		delete(s.objects, key)
	}
	return nil
}

// Close implements object.Store; the objects stay readable for a test that
// opens the next broker on them.
func (s *Store) Close() error { return nil }

func (s *Store) find(ctx context.Context, key string) (entry, error) {
	if err := begin(ctx, "get", key); err != nil {
		return entry{}, err
	}
	if err := object.CheckKey(key); err != nil {
		return entry{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, ok := s.objects[key]
	if !ok {
		return entry{}, fmt.Errorf("get %s: %w", key, object.ErrNotFound)
	}
	return e, nil
}

func begin(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", op, key, err)
	}
	return nil
}

// Keys tells a test the names of all objects, in order.
func (s *Store) Keys() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.objects))
}

// Change lets a test damage an object in the store: edit gets a copy of its body
// and returns the new one. It panics where there is no such object.
func (s *Store) Change(key string, edit func(body []byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.objects[key]
	if !ok {
		panic(fmt.Sprintf("mem: no object %q to change", key))
	}
	s.objects[key] = entry{body: edit(bytes.Clone(e.body)), modified: e.modified}
}

// Clone copies the store as it is now: what a bucket held at that moment.
func (s *Store) Clone() *Store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return &Store{objects: maps.Clone(s.objects)}
}
