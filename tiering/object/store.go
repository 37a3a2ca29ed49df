// Package object is the seam to the object store: the Store interface, its
// errors, its keys and the URLs that name a bucket. Drivers are object/mem,
// object/dir, object/s3 and object/minio (object/drivers opens one by URL);
// object/objecttest holds the conformance suite that every driver passes and
// the wrapper that makes any of them fail. Nothing here knows what the objects
// mean.
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
	// ErrThrottled is S3's 503 SlowDown and the like: come later, with fewer at
	// once. It promises no more about a write than any other outage does: MinIO
	// answers so when a part of its disks took the write.
	ErrThrottled    = errors.New("store asks to slow down")
	ErrNotFound     = errors.New("object does not exist")
	ErrPrecondition = errors.New("object is not in the expected state") // PutIf lost
	ErrRange        = errors.New("range lies outside the object")
	ErrInvalidKey   = errors.New("invalid object key")
	ErrNoBucket     = errors.New("bucket does not exist")
	ErrDenied       = errors.New("access denied") // by credentials or policy
	ErrFull         = errors.New("store is full") // or the bucket's quota is used up
)

// Store is a bucket below a prefix. Keys are as CheckKey says, and no key may
// be another one's folder ("a" beside "a/b"). All methods may run concurrently.
// Reads see every write that returned before they began (S3 is strongly
// consistent since 2020). No method retries; that is the caller's policy. A
// method whose context has ended returns an error; what it had sent may still
// take effect.
type Store interface {
	// Put writes an object of size bytes, read from the start of body, which must
	// stay untouched until Put returns; when it returns nil the object is durable
	// and whole. A failed Put leaves no torn object, but may leave a whole one.
	// An existing object is replaced: callers use fresh names. A body that ends
	// before size is an error.
	Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error
	// PutIf writes a small object only if its current version is match, "" meaning
	// that it must not exist; it returns the new version. ErrPrecondition where
	// another write came first. After any other error read the object to learn
	// what happened. A version may be a hash of the content, so that a body
	// written again brings its old version back. Put and Delete are not ordered
	// against a PutIf of the same key that runs at the same time.
	PutIf(ctx context.Context, key string, body []byte, match string) (version string, err error)
	// Get reads length bytes from offset; ErrRange where the object is shorter or
	// a number is negative, ErrNotFound where there is none.
	Get(ctx context.Context, key string, offset, length int64) ([]byte, error)
	// GetAll reads a whole small object, at most limit bytes (ErrRange beyond), with its version for PutIf.
	GetAll(ctx context.Context, key string, limit int64) (body []byte, version string, err error)
	// List yields what lies under prefix (a leading part of keys, it need not end
	// at a "/") in the byte order of keys, those above after only. What is there
	// during the whole listing is listed; names that are no keys are not. The
	// error ends the sequence.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]
	// Delete removes the objects; one that does not exist is no error. After an
	// error any of them may be left.
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

// Prober is a Store that can tell early, and without writing, whether its
// bucket can be used.
type Prober interface {
	// Probe returns ErrNoBucket or ErrDenied where the settings are wrong; any
	// other error is an outage that may pass.
	Probe(ctx context.Context) error
}
