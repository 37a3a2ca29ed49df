package object_test

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stratabroker/strata/tiering/object"
)

func TestCheckPrefix(t *testing.T) {
	for prefix, want := range map[string]bool{
		"": true, "a": true, "a/": true, "a/b.": true, ".": true, "..": true, "a/..": true,
		"/": false, "a//": false, "../": false, "a b": false, "./": false, strings.Repeat("a/", 400): false,
	} {
		if err := object.CheckPrefix(prefix); (err == nil) != want || err != nil && !errors.Is(err, object.ErrInvalidKey) {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

func FuzzCheckKey(f *testing.F) {
	for _, seed := range []string{"cluster.json", "data/00/t/0/1-2.seg", "../x", "a//b", "a/./b", "~lock", "a\\b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		err := object.CheckKey(key)
		if err != nil {
			if !errors.Is(err, object.ErrInvalidKey) {
				t.Errorf("%q: %v", key, err)
			}
			return
		}
		if !filepath.IsLocal(key) || filepath.Clean(key) != key || strings.ContainsAny(key, "~\x00\\ ") {
			t.Errorf("%q is a key", key)
		}
		if object.CheckPrefix(key) != nil && len(key) < object.MaxKeyBytes && len(filepath.Base(key)) < object.MaxSegmentBytes {
			t.Errorf("%q is a key but no prefix", key)
		}
	})
}

func TestSectionIsTheStartOfItsBody(t *testing.T) {
	body := bytes.NewReader([]byte("0123456789"))
	if _, err := body.Seek(3, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(object.NewSection(body, 6), []byte("012345")); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(object.NewSection(body, 11)); !errors.Is(err, io.ErrUnexpectedEOF) || string(got) != "0123456789" {
		t.Errorf("beyond the end: %q, %v", got, err)
	}
	if got, err := io.ReadAll(object.NewSection(body, 0)); err != nil || len(got) != 0 {
		t.Errorf("empty: %q, %v", got, err)
	}
}

func TestCheckRangeDoesNotOverflow(t *testing.T) {
	const most = 1<<63 - 1
	for _, r := range [][3]int64{{most, most, most}, {1, most, most}, {-1, 1, 5}, {0, -1, 5}, {5, 1, 5}} {
		if err := object.CheckRange("k", r[0], r[1], r[2]); !errors.Is(err, object.ErrRange) {
			t.Errorf("%v: %v", r, err)
		}
	}
	for _, r := range [][3]int64{{0, 5, 5}, {5, 0, 5}, {0, most, most}} {
		if err := object.CheckRange("k", r[0], r[1], r[2]); err != nil {
			t.Errorf("%v: %v", r, err)
		}
	}
}
