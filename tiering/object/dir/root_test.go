package dir_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/dir"
	"github.com/stratabroker/strata/tiering/object/objecttest"
)

// operations are all that touch the bucket; an answer of any of them says something of it.
func operations(t *testing.T, s *dir.Store) map[string]error {
	t.Helper()
	errs := map[string]error{}
	errs["put"] = s.Put(t.Context(), "data/b", strings.NewReader("x"), 1)
	_, errs["put if"] = s.PutIf(t.Context(), "other", []byte("x"), "")
	_, errs["get"] = s.Get(t.Context(), "data/a", 0, 1)
	_, _, errs["get all"] = s.GetAll(t.Context(), "OWNER", 10)
	errs["delete"] = s.Delete(t.Context(), []string{"data/a"})
	errs["probe"] = s.Probe(t.Context())
	for _, err := range s.List(t.Context(), "", "") {
		errs["list"] = err
	}
	return errs
}

func wantOutage(t *testing.T, s *dir.Store) {
	t.Helper()
	errs := operations(t, s)
	for _, name := range []string{"put", "put if", "get", "get all", "delete", "probe", "list"} {
		if err := errs[name]; !errors.Is(err, object.ErrNoBucket) || errors.Is(err, object.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRootThatVanishesIsAnOutageAndIsNotMadeAgain is a bucket whose mount goes
// away under the broker, and comes back.
func TestRootThatVanishesIsAnOutageAndIsNotMadeAgain(t *testing.T) {
	for name, opened := range map[string]func(root string) *dir.Store{
		"made by its first write": func(root string) *dir.Store {
			s := open(t, root)
			objecttest.Put(t, s, "data/a", []byte("a"))
			return s
		},
		"there from the start": func(root string) *dir.Store {
			objecttest.Put(t, open(t, root), "data/a", []byte("a"))
			return open(t, root)
		},
		"seen by a read": func(root string) *dir.Store {
			s := open(t, root)
			objecttest.Put(t, open(t, root), "data/a", []byte("a"))
			if got := objecttest.List(t, s, "", ""); len(got) != 1 {
				t.Errorf("listed %q", got)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			root, away := filepath.Join(t.TempDir(), "mount", "bucket"), filepath.Join(t.TempDir(), "away")
			s := opened(root)
			if err := os.Rename(root, away); err != nil {
				t.Fatal(err)
			}
			wantOutage(t, s)
			if _, err := os.Lstat(root); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the root was made again: %v", err)
			}
			// What lies below the mount point, or another file system in its place.
			if err := os.Mkdir(root, 0o777); err != nil {
				t.Fatal(err)
			}
			wantOutage(t, s)
			if left := tree(t, root); len(left) > 0 {
				t.Errorf("made %q in another root", left)
			}
			if err := os.Remove(root); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(away, root); err != nil {
				t.Fatal(err)
			}
			objecttest.Put(t, s, "data/c", []byte("c"))
			if got := objecttest.List(t, s, "", ""); len(got) != 2 || got[0] != "data/a" || got[1] != "data/c" {
				t.Errorf("after it came back: %q", got)
			}
		})
	}
}
