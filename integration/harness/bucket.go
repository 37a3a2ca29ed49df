package harness

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/drivers"
	"github.com/stratabroker/strata/tiering/recovery"
)

// maxObjectBytes bounds what the tests read whole.
const maxObjectBytes = 64 << 20

// Bucket is a bucket that a broker writes, as a test sees it. Its methods fail
// the test that it was made for.
type Bucket struct {
	URL   string       // for strata.bucket.url
	Env   []string     // what a program needs in its environment to use it
	Store object.Store // to look and to do damage

	tb     testing.TB
	parsed object.URL
}

// DirBucket is a fresh folder.
func DirBucket(tb testing.TB) *Bucket {
	tb.Helper()
	return openBucket(tb, object.URL{Scheme: object.SchemeDir, Path: filepath.Join(tb.TempDir(), "bucket")})
}

// MinIOBucket is a fresh bucket of the MinIO server that the tests share.
func MinIOBucket(tb testing.TB) *Bucket {
	tb.Helper()
	server := MinIO(tb)
	url := server.Bucket(tb)
	store, err := server.Open(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	return newBucket(tb, url, store, server.Env())
}

// InDataDir is the bucket that strata dev keeps inside a data folder.
func InDataDir(tb testing.TB, dataDir string) *Bucket {
	tb.Helper()
	return openBucket(tb, object.URL{Scheme: object.SchemeDir, Path: filepath.Join(dataDir, "bucket")})
}

func openBucket(tb testing.TB, url object.URL) *Bucket {
	tb.Helper()
	store, err := drivers.Open(tb.Context(), url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return newBucket(tb, url, store, nil)
}

func newBucket(tb testing.TB, url object.URL, store object.Store, env []string) *Bucket {
	tb.Helper()
	tb.Cleanup(func() {
		if err := store.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &Bucket{URL: url.String(), Env: env, Store: store, tb: tb, parsed: url}
}

// EachStore yields the kinds of store, by name, with what makes a bucket of one:
//
//	for name, open := range harness.EachStore {
//		t.Run(name, func(t *testing.T) { bucket := open(t)
func EachStore(yield func(name string, open func(testing.TB) *Bucket) bool) {
	_ = yield("dir", DirBucket) && yield("MinIO", MinIOBucket)
}

// OnEachStore runs test on a folder and on MinIO.
func OnEachStore(t *testing.T, test func(t *testing.T, bucket *Bucket)) {
	t.Helper()
	for name, open := range EachStore {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// Through is the URL of a MinIO bucket by way of a proxy.
func (b *Bucket) Through(p *Proxy) string {
	url := b.parsed
	url.Endpoint = p.Endpoint
	return url.String()
}

// ByMinIO is the URL of a MinIO bucket for the driver that uses MinIO's own client.
func (b *Bucket) ByMinIO() string {
	url := b.parsed
	url.Scheme, url.Endpoint, url.Insecure, url.PathStyle = object.SchemeMinIO, strings.TrimPrefix(url.Endpoint, "http://"), true, false
	return url.String()
}

// Endpoint is that of a MinIO bucket's server.
func (b *Bucket) Endpoint() string { return b.parsed.Endpoint }

// List lists what lies under a prefix, with sizes, in the order of keys.
func (b *Bucket) List(prefix string) []object.Info {
	b.tb.Helper()
	var out []object.Info
	for info, err := range b.Store.List(b.tb.Context(), prefix, "") {
		if err != nil {
			b.tb.Fatal(err)
		}
		out = append(out, info)
	}
	return out
}

// Keys lists the keys of one kind of object.
func (b *Bucket) Keys(kind format.Kind) []string {
	b.tb.Helper()
	var out []string
	for _, info := range b.List("") {
		if name, err := format.ParseKey(info.Key); err == nil && name.Kind == kind {
			out = append(out, info.Key)
		}
	}
	return out
}

// Digests are the SHA-256 of all objects, by key: equal digests, untouched bucket.
func (b *Bucket) Digests() map[string]string {
	b.tb.Helper()
	out := map[string]string{}
	for _, info := range b.List("") {
		sum := sha256.Sum256(b.Read(info.Key))
		out[info.Key] = hex.EncodeToString(sum[:])
	}
	return out
}

// Read reads one object.
func (b *Bucket) Read(key string) []byte {
	b.tb.Helper()
	body, _, err := b.Store.GetAll(b.tb.Context(), key, maxObjectBytes)
	if err != nil {
		b.tb.Fatal(err)
	}
	return body
}

// Write writes one object, or replaces it.
func (b *Bucket) Write(key string, body []byte) {
	b.tb.Helper()
	if err := b.Store.Put(b.tb.Context(), key, bytes.NewReader(body), int64(len(body))); err != nil {
		b.tb.Fatal(err)
	}
}

// Delete deletes one object.
func (b *Bucket) Delete(key string) {
	b.tb.Helper()
	if err := b.Store.Delete(b.tb.Context(), []string{key}); err != nil {
		b.tb.Fatal(err)
	}
}

// Segments are the entries of a topic's manifests in the newest root, by partition and offset.
func (b *Bucket) Segments(topic string) ([]recovery.SegmentInfo, error) {
	opened, err := recovery.Open(b.tb.Context(), b.Store)
	if err != nil {
		return nil, err
	}
	var out []recovery.SegmentInfo
	for s, err := range opened.Segments(b.tb.Context(), topic) {
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Verify runs `strata bucket verify` on the bucket.
func (b *Bucket) Verify() Result {
	b.tb.Helper()
	return Run(b.tb, b.Env, "bucket", "verify", b.URL)
}

// VerifyClean fails the test unless the bucket verifies.
func (b *Bucket) VerifyClean() {
	b.tb.Helper()
	if r := b.Verify(); r.Code != 0 {
		b.tb.Errorf("strata bucket verify: exit status %d\n%s%s", r.Code, strings.TrimSpace(r.Stdout), r.Stderr)
	}
}
