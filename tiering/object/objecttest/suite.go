// Package objecttest holds the conformance suite of object.Store, which every
// driver passes, and Faulty, which makes any driver fail as a test wants.
package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stratabroker/strata/tiering/object"
)

// Run checks each sentence of object.Store. open makes an empty store for one
// subtest; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) object.Store) {
	t.Helper()
	for _, c := range []struct {
		rule string
		test func(t subject)
	}{
		{"put objects are read back whole and in part", putAndGet},
		{"put reads the body from its start and only size bytes", putBody},
		{"put replaces", putReplaces},
		{"a failed put leaves nothing torn", putFails},
		{"empty objects exist", empty},
		{"an object of 10 MiB survives", large},
		{"ranges outside are ErrRange", ranges},
		{"what is not there is ErrNotFound", notFound},
		{"ranges are read as streams", streams},
		{"a stream ends with its context", streamEnds},
		{"get all keeps its limit", getAllLimit},
		{"put if absent loses against an object", putIfAbsent},
		{"put if match needs the current version", putIfMatch},
		{"the conditional probe passes", probe},
		{"racing put ifs have one winner", putIfRace},
		{"put ifs count without loss", putIfCounter},
		{"reads see finished writes", readYourWrites},
		{"listing is in the byte order of keys", listOrder},
		{"listing takes any prefix and starts after", listPrefixAfter},
		{"listing ends where its consumer does", listStops},
		{"listing shows sizes and times", listInfo},
		{"long listings are complete", listLong},
		{"listing shows what is there throughout", listConcurrent},
		{"delete removes many and minds no missing one", deleteMany},
		{"put and delete in one folder do not disturb each other", putDeleteRace},
		{"invalid keys are refused", invalidKeys},
		{"an ended context is an error", endedContext},
	} {
		t.Run(strings.ReplaceAll(c.rule, " ", "_"), func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			c.test(subject{t, s})
		})
	}
}

// subject is one subtest and the store it is about.
type subject struct {
	*testing.T
	store object.Store
}

// Put writes body under key, or fails the test.
func Put(tb testing.TB, s object.Store, key string, body []byte) {
	tb.Helper()
	if err := s.Put(tb.Context(), key, bytes.NewReader(body), int64(len(body))); err != nil {
		tb.Fatalf("Put %s: %v", key, err)
	}
}

// List returns the keys under prefix above after, or fails the test.
func List(tb testing.TB, s object.Store, prefix, after string) []string {
	tb.Helper()
	var keys []string
	for info, err := range s.List(tb.Context(), prefix, after) {
		if err != nil {
			tb.Fatalf("List %q after %q: %v", prefix, after, err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

func wantAll(tb testing.TB, s object.Store, key string, want []byte) (version string) {
	tb.Helper()
	got, version, err := s.GetAll(tb.Context(), key, int64(len(want)))
	if err != nil {
		tb.Fatalf("GetAll %s: %v", key, err)
	}
	if !bytes.Equal(got, want) {
		tb.Fatalf("GetAll %s: %d bytes that differ from the %d written", key, len(got), len(want))
	}
	if version == "" {
		tb.Fatalf("GetAll %s: no version", key)
	}
	return version
}

func wantRange(tb testing.TB, s object.Store, key string, whole []byte, offset, length int64) {
	tb.Helper()
	got, err := s.Get(tb.Context(), key, offset, length)
	if err != nil {
		tb.Fatalf("Get %s [%d,+%d): %v", key, offset, length, err)
	}
	if !bytes.Equal(got, whole[offset:offset+length]) {
		tb.Fatalf("Get %s [%d,+%d): wrong bytes", key, offset, length)
	}
}

func wantErr(tb testing.TB, err, want error, what string) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// random makes n bytes that do not compress, the same for a seed.
func random(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

func putAndGet(t subject) {
	s := t.store
	body := random(1, 100_000)
	Put(t, s, "data/00/topic/0/segment.seg", body)
	wantAll(t, s, "data/00/topic/0/segment.seg", body)
	for _, r := range [][2]int64{{0, 0}, {0, 1}, {0, 100_000}, {1, 99_999}, {65_536, 4096}, {99_999, 1}, {100_000, 0}} {
		wantRange(t, s, "data/00/topic/0/segment.seg", body, r[0], r[1])
	}
}

func putBody(t subject) {
	s := t.store
	body := bytes.NewReader([]byte("0123456789"))
	if _, err := body.Seek(5, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time as a retry does, after the body has been read
		if err := s.Put(t.Context(), "k", body, 7); err != nil {
			t.Fatal(err)
		}
		wantAll(t, s, "k", []byte("0123456"))
	}
	if err := s.Put(t.Context(), "negative", body, -1); err == nil {
		t.Error("a negative size was accepted")
	}
}

func putReplaces(t subject) {
	s := t.store
	Put(t, s, "a/k", []byte("the first and longer one"))
	Put(t, s, "a/k", []byte("second"))
	wantAll(t, s, "a/k", []byte("second"))
}

// breakingBody fails in the midst of being read.
type breakingBody struct {
	*bytes.Reader
	failAt int64
}

var errBody = errors.New("disk error below the body")

func (b *breakingBody) Read(p []byte) (int, error) {
	at := b.Size() - int64(b.Len())
	if at >= b.failAt {
		return 0, errBody
	}
	if left := b.failAt - at; int64(len(p)) > left {
		p = p[:left]
	}
	return b.Reader.Read(p)
}

// Seek keeps a reader from looking for other ways to the bytes.
func (b *breakingBody) Seek(offset int64, whence int) (int64, error) {
	return b.Reader.Seek(offset, whence)
}

// WriteTo hides bytes.Reader's, which would go past Read.
func (b *breakingBody) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{b})
}

func putFails(t subject) {
	s := t.store
	body := random(2, 300_000)
	err := s.Put(t.Context(), "a/broken", &breakingBody{bytes.NewReader(body), 200_000}, 300_000)
	wantErr(t, err, errBody, "Put of a body that fails")
	err = s.Put(t.Context(), "a/short", bytes.NewReader(body), 300_001)
	wantErr(t, err, io.ErrUnexpectedEOF, "Put of a body that ends early")
	if keys := List(t, s, "", ""); len(keys) > 0 {
		t.Errorf("left after failed puts: %q", keys)
	}
	Put(t, s, "a/kept", []byte("kept"))
	err = s.Put(t.Context(), "a/kept", &breakingBody{bytes.NewReader(body), 1}, 300_000)
	wantErr(t, err, errBody, "Put over an object")
	wantAll(t, s, "a/kept", []byte("kept"))
}

func empty(t subject) {
	s := t.store
	Put(t, s, "e", nil)
	wantAll(t, s, "e", nil)
	wantRange(t, s, "e", nil, 0, 0)
	_, err := s.Get(t.Context(), "e", 0, 1)
	wantErr(t, err, object.ErrRange, "Get of a byte of an empty object")
	version, err := s.PutIf(t.Context(), "c", nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := wantAll(t, s, "c", nil); got != version {
		t.Errorf("version %q, PutIf returned %q", got, version)
	}
	if keys := List(t, s, "", ""); !slices.Equal(keys, []string{"c", "e"}) {
		t.Errorf("List: %q", keys)
	}
}

func large(t subject) {
	s := t.store
	body := random(3, 10<<20)
	Put(t, s, "large", body)
	wantAll(t, s, "large", body)
	wantRange(t, s, "large", body, 5<<20-1, 128<<10)
}

func ranges(t subject) {
	s := t.store
	Put(t, s, "ten", []byte("0123456789"))
	for _, r := range [][2]int64{{0, 11}, {9, 2}, {10, 1}, {11, 0}, {100, 5}, {-1, 3}, {0, -1}, {1, 1<<63 - 1}} {
		_, err := s.Get(t.Context(), "ten", r[0], r[1])
		wantErr(t, err, object.ErrRange, fmt.Sprintf("Get [%d,+%d) of 10 bytes", r[0], r[1]))
	}
}

func notFound(t subject) {
	s := t.store
	Put(t, s, "folder/there", []byte("x"))
	for _, key := range []string{"missing", "folder", "folder/missing", "folder/there/below", "no/such/folder"} {
		_, err := s.Get(t.Context(), key, 0, 1)
		wantErr(t, err, object.ErrNotFound, "Get "+key)
		_, err = s.Get(t.Context(), key, 0, 0)
		wantErr(t, err, object.ErrNotFound, "Get of no bytes of "+key)
		_, _, err = s.GetAll(t.Context(), key, 10)
		wantErr(t, err, object.ErrNotFound, "GetAll "+key)
	}
}

func getAllLimit(t subject) {
	s := t.store
	Put(t, s, "k", []byte("0123456789"))
	_, _, err := s.GetAll(t.Context(), "k", 9)
	wantErr(t, err, object.ErrRange, "GetAll beyond its limit")
	wantAll(t, s, "k", []byte("0123456789"))
}

func invalidKeys(t subject) {
	s := t.store
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "./a", "a b", "a~b", "~lock", "a\x00", "a\\b", "ä", "a:b", "a*",
		strings.Repeat("s", object.MaxSegmentBytes+1), strings.Repeat("a/", object.MaxKeyBytes/2) + "b",
	} {
		wantErr(t, s.Put(t.Context(), key, bytes.NewReader(nil), 0), object.ErrInvalidKey, fmt.Sprintf("Put %q", key))
		_, err := s.PutIf(t.Context(), key, nil, "")
		wantErr(t, err, object.ErrInvalidKey, fmt.Sprintf("PutIf %q", key))
		_, err = s.Get(t.Context(), key, 0, 0)
		wantErr(t, err, object.ErrInvalidKey, fmt.Sprintf("Get %q", key))
		_, _, err = s.GetAll(t.Context(), key, 0)
		wantErr(t, err, object.ErrInvalidKey, fmt.Sprintf("GetAll %q", key))
		wantErr(t, s.Delete(t.Context(), []string{key}), object.ErrInvalidKey, fmt.Sprintf("Delete %q", key))
	}
	for _, prefix := range []string{"/", "..", "../", "a/../", "a b"} {
		var got error
		for _, err := range s.List(t.Context(), prefix, "") {
			got = err
		}
		if prefix == ".." {
			continue // "..x" is a key
		}
		wantErr(t, got, object.ErrInvalidKey, fmt.Sprintf("List %q", prefix))
	}
	longest := strings.Repeat(strings.Repeat("s", object.MaxSegmentBytes-1)+"/", 3) + "Az09._-"
	Put(t, s, longest, []byte("x"))
	wantAll(t, s, longest, []byte("x"))
}

func endedContext(t subject) {
	s := t.store
	Put(t, s, "k", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, s.Put(ctx, "k2", strings.NewReader("y"), 1), context.Canceled, "Put")
	_, err := s.PutIf(ctx, "k3", nil, "")
	wantErr(t, err, context.Canceled, "PutIf")
	_, err = s.Get(ctx, "k", 0, 1)
	wantErr(t, err, context.Canceled, "Get")
	_, _, err = s.GetAll(ctx, "k", 1)
	wantErr(t, err, context.Canceled, "GetAll")
	wantErr(t, s.Delete(ctx, []string{"k"}), context.Canceled, "Delete")
	var got error
	for _, err := range s.List(ctx, "", "") {
		got = err
	}
	wantErr(t, got, context.Canceled, "List")
	if keys := List(t, s, "", ""); !slices.Equal(keys, []string{"k"}) {
		t.Errorf("after operations that never began: %q", keys)
	}
}

func listInfo(t subject) {
	s := t.store
	before := time.Now().Add(-2 * time.Minute) // another machine's clock, to the second
	Put(t, s, "a/k", random(4, 12_345))
	for info, err := range s.List(t.Context(), "a/", "") {
		if err != nil {
			t.Fatal(err)
		}
		if info.Key != "a/k" || info.Size != 12_345 {
			t.Errorf("listed %+v", info)
		}
		if info.Modified.Before(before) || info.Modified.After(time.Now().Add(2*time.Minute)) {
			t.Errorf("modified at %v, now is %v", info.Modified, time.Now())
		}
	}
}
