// Package object is the seam to the object store: the Store interface, its
// errors, and opening a driver by URL. Drivers are object/mem, object/dir and
// object/s3; object/objecttest holds the conformance suite that every driver
// passes and the wrapper that makes any of them fail. Nothing here knows what
// the objects mean.
package object

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Errors of a Store, matched with errors.Is. Any other error is an outage of
// unknown effect: a write may or may not have happened.
var (
	ErrNotFound     = errors.New("object does not exist")
	ErrPrecondition = errors.New("object is not in the expected state") // PutIf lost
	ErrRange        = errors.New("range lies outside the object")
	ErrThrottled    = errors.New("store asks to slow down") // 503 SlowDown and the like; certain to have had no effect
	ErrInvalidKey   = errors.New("invalid object key")
)

// Store is a bucket below a prefix. Keys are relative, made of [a-z0-9A-Z._-]
// segments joined by "/". All methods may run concurrently. Reads see every
// write that returned before they began (S3 is strongly consistent since
// 2020). No method retries; that is the caller's policy.
type Store interface {
	// Put writes an object of size bytes read from body; when it returns nil the
	// object is durable and whole. A failed Put leaves no torn object, but may
	// leave a whole one. An existing object is replaced: callers use fresh names.
	Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error
	// PutIf writes a small object only if its current version is match, "" meaning
	// that it must not exist; it returns the new version. ErrPrecondition where
	// another write came first. After any other error read the object to learn
	// what happened.
	PutIf(ctx context.Context, key string, body []byte, match string) (version string, err error)
	// Get reads length bytes from offset; ErrRange where the object is shorter,
	// ErrNotFound where there is none.
	Get(ctx context.Context, key string, offset, length int64) ([]byte, error)
	// GetAll reads a whole small object, at most limit bytes (ErrRange beyond), with its version for PutIf.
	GetAll(ctx context.Context, key string, limit int64) (body []byte, version string, err error)
	// List yields what lies under prefix in the order of keys, those above after
	// only. The error ends the sequence.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]
	// Delete removes the objects; one that does not exist is no error.
	Delete(ctx context.Context, keys []string) error
	// Close frees connections; the store must not be used after it.
	Close() error
}

// Info is one listed object.
type Info struct {
	Key      string
	Size     int64
	Modified time.Time
}
