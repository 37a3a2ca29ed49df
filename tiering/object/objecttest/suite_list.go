package objecttest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stratabroker/strata/tiering/object"
)

func listOrder(t subject) {
	s := t.store
	keys := []string{"a-b", "a.b", "a/b", "a/b-c", "a/b.c", "a/c/d", "a/c-d", "a0", "aB", "aa/x", "B", "_u", "a_/z", "a-/z", "a-.", "Z/z", "0/1", "00"}
	for _, key := range keys {
		Put(t, s, key, []byte(key))
	}
	slices.Sort(keys)
	if got := List(t, s, "", ""); !slices.Equal(got, keys) {
		t.Fatalf("listed\n%q, want\n%q", got, keys)
	}
	// From each key on, and from between them.
	for _, key := range keys {
		for _, after := range []string{key, key + "-", key[:len(key)-1] + string(key[len(key)-1]-1)} {
			want := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return key <= after })
			if got := List(t, s, "", after); !slices.Equal(got, want) {
				t.Fatalf("after %q listed\n%q, want\n%q", after, got, want)
			}
		}
	}
}

func listPrefixAfter(t subject) {
	s := t.store
	keys := []string{"data/00/t/0/1.seg", "data/00/t/0/2.seg", "data/00/t/1/1.seg", "data/00/t10/1.seg", "data/0f/t/0/1.seg", "data-x/1", "root/1/1.page", "cluster.json"}
	for _, key := range keys {
		Put(t, s, key, nil)
	}
	slices.Sort(keys)
	for _, prefix := range []string{"", "d", "data", "data/", "data-", "data/0", "data/00/t", "data/00/t/", "data/00/t/0/1.seg", "none", "none/", "root/1/1.page/", "cluster.json", "z"} {
		for _, after := range append([]string{"", "data", "data/00/t/0/", "data/00/t/0", "data/00/t/0/1", "zz"}, keys...) {
			var want []string
			for _, key := range keys {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			if got := List(t, s, prefix, after); !slices.Equal(got, want) {
				t.Fatalf("prefix %q after %q listed\n%q, want\n%q", prefix, after, got, want)
			}
		}
	}
}

func listStops(t subject) {
	s := t.store
	for i := range 5 {
		Put(t, s, fmt.Sprintf("k/%d", i), nil)
	}
	seen := 0
	for _, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 2 {
			break
		}
	}
	if seen != 2 {
		t.Errorf("saw %d", seen)
	}
}

func putNumbered(tb testing.TB, s object.Store, n int) []string {
	tb.Helper()
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("many/%d/%05d", i/700, i)
	}
	parallel(16, func(worker int) {
		for i := worker; i < n; i += 16 {
			Put(tb, s, keys[i], nil)
		}
	})
	return keys
}

func listLong(t subject) {
	s := t.store
	const n = 2100 // three pages of S3
	keys := putNumbered(t, s, n)
	for _, from := range []int{0, 1, 999, 1000, 1001, 1999, 2000, n} {
		after := ""
		if from > 0 {
			after = keys[from-1]
		}
		if got := List(t, s, "many/", after); !slices.Equal(got, keys[from:]) {
			t.Fatalf("after %q: %d keys, want %d", after, len(got), n-from)
		}
	}
}

func listConcurrent(t subject) {
	s := t.store
	keys := putNumbered(t, s, 300)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 100 {
			Put(t, s, fmt.Sprintf("many/0/x%d", i), nil)
			if err := s.Delete(t.Context(), []string{fmt.Sprintf("many/0/x%d", i)}); err != nil {
				t.Errorf("Delete: %v", err)
			}
		}
	}()
	for running := true; running; {
		got := slices.DeleteFunc(List(t, s, "many/", ""), func(key string) bool { return strings.Contains(key, "x") })
		if !slices.Equal(got, keys) {
			t.Errorf("%d keys listed while others came and went, want %d", len(got), len(keys))
		}
		select {
		case <-done:
			running = false
		default:
		}
	}
}
