package dir_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/dir"
	"github.com/stratabroker/strata/tiering/object/objecttest"
)

func open(t *testing.T, root string) *dir.Store {
	t.Helper()
	s, err := dir.New(root)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	objecttest.Run(t, func(t *testing.T) object.Store {
		t.Helper()
		return open(t, filepath.Join(t.TempDir(), "made", "here"))
	})
}

// tree lists the files and folders below root.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if path != root {
			names = append(names, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestNewRefusesWhatIsNoFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{file, "relative/path", ""} {
		if _, err := dir.New(root); err == nil {
			t.Errorf("%q was accepted", root)
		}
	}
	if err := open(t, t.TempDir()).Probe(t.Context()); err != nil {
		t.Errorf("Probe of a good folder: %v", err)
	}
	missing := filepath.Join(t.TempDir(), "not", "yet")
	if err := open(t, missing).Probe(t.Context()); err != nil {
		t.Errorf("Probe of a folder to be made: %v", err)
	}
	if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Probe or New made the folder: %v", err)
	}
	if err := open(t, "/proc/strata-bucket").Put(t.Context(), "a/b", strings.NewReader(""), 0); err == nil {
		t.Error("a bucket was made in /proc")
	}
}

func TestAnEmptyFolderIsRemovedWithItsLastObject(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	objecttest.Put(t, s, "data/00/topic/0/a.seg", nil)
	objecttest.Put(t, s, "data/00/topic/1/b.seg", nil)
	if err := s.Delete(t.Context(), []string{"data/00/topic/0/a.seg"}); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, root), []string{"data", "data/00", "data/00/topic", "data/00/topic/1", "data/00/topic/1/b.seg"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if err := s.Delete(t.Context(), []string{"data/00/topic/1/b.seg", "data/00/topic"}); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, root); len(got) > 0 {
		t.Errorf("left %q", got)
	}
}

func TestAnObjectCannotBeAFolderToo(t *testing.T) {
	s := open(t, t.TempDir())
	objecttest.Put(t, s, "a/b", []byte("x"))
	if err := s.Put(t.Context(), "a", strings.NewReader(""), 0); !errors.Is(err, object.ErrInvalidKey) {
		t.Errorf("put over a folder: %v", err)
	}
	if err := s.Put(t.Context(), "a/b/c", strings.NewReader(""), 0); err == nil {
		t.Error("put below an object succeeded")
	}
	if keys := objecttest.List(t, s, "", ""); !slices.Equal(keys, []string{"a/b"}) {
		t.Errorf("%q", keys)
	}
}

func TestListRemovesOnlyTemporaryFilesOfTheDead(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	old := time.Now().Add(-time.Hour)
	make := func(name string, modified time.Time) *os.File {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o777); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		if err := os.Chtimes(f.Name(), modified, modified); err != nil {
			t.Fatal(err)
		}
		return f
	}
	make("data/dead/~put-1", old)
	make("data/x/~put-2", old)
	make("data/x/~put-young", time.Now())
	alive := make("data/x/~put-alive", old)
	if err := unix.Flock(int(alive.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	objecttest.Put(t, s, "data/x/a", nil)
	if keys := objecttest.List(t, s, "", ""); !slices.Equal(keys, []string{"data/x/a"}) {
		t.Errorf("listed %q", keys)
	}
	if got, want := tree(t, root), []string{"data", "data/x", "data/x/a", "data/x/~put-alive", "data/x/~put-young"}; !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
}

func TestListMindsNoForeignFiles(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	objecttest.Put(t, s, "a/b", nil)
	for _, name := range []string{"with space", "a/ä", "~other"} {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if keys := objecttest.List(t, s, "", ""); !slices.Equal(keys, []string{"a/b"}) {
		t.Errorf("listed %q", keys)
	}
}

const (
	childEnv   = "STRATA_TEST_DIR_CHILD" // the root folder for a child process
	children   = 4
	increments = 25
)

// TestPutIfIsAtomicBetweenProcesses runs this test's binary as several processes
// that add to one counter by compare and swap.
func TestPutIfIsAtomicBetweenProcesses(t *testing.T) {
	if root := os.Getenv(childEnv); root != "" {
		increment(t, open(t, root))
		return
	}
	root := t.TempDir()
	s := open(t, root)
	if _, err := s.PutIf(t.Context(), "counter", []byte("0"), ""); err != nil {
		t.Fatal(err)
	}
	var cmds []*exec.Cmd
	outputs := make([]bytes.Buffer, children)
	for i := range children {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), childEnv+"="+root)
		cmd.Stdout, cmd.Stderr = &outputs[i], &outputs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("child %d: %v\n%s", i, err, outputs[i].Bytes())
		}
	}
	if got, _, err := s.GetAll(t.Context(), "counter", 100); err != nil || string(got) != strconv.Itoa(children*increments) {
		t.Errorf("counted %s, %v; want %d", got, err, children*increments)
	}
}

func increment(t *testing.T, s *dir.Store) {
	t.Helper()
	for done := 0; done < increments; {
		body, version, err := s.GetAll(t.Context(), "counter", 100)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(string(body))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.PutIf(t.Context(), "counter", []byte(strconv.Itoa(n+1)), version)
		if err == nil {
			done++
		} else if !errors.Is(err, object.ErrPrecondition) {
			t.Fatal(err)
		}
	}
}
