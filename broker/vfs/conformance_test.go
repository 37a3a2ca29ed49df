package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"testing"

	"github.com/stratabroker/strata/broker/vfs"
)

// TestConformance holds every file system to what FS and File promise.
func TestConformance(t *testing.T) {
	systems := map[string]func(t *testing.T) (vfs.FS, string){
		"os": func(t *testing.T) (vfs.FS, string) { t.Helper(); return vfs.OS(), t.TempDir() },
		"mem": func(t *testing.T) (vfs.FS, string) {
			t.Helper()
			m := vfs.NewMem()
			must(t, m.MkdirAll("/data"))
			return m, "/data"
		},
	}
	rules := map[string]func(t *testing.T, fsys vfs.FS, dir string){
		"a missing file is fs.ErrNotExist":       missing,
		"bytes are read where they were written": readWrite,
		"truncate cuts and fills with zeros":     truncate,
		"rename replaces for every reader":       rename,
		"a removed file goes on being readable":  removed,
		"list is in order and knows sizes":       list,
		"directories":                            directories,
		"helpers":                                helpers,
		"a closed file refuses":                  closed,
	}
	for name, start := range systems {
		for rule, check := range rules {
			t.Run(name+"/"+rule, func(t *testing.T) {
				fsys, dir := start(t)
				check(t, fsys, dir)
			})
		}
	}
}

func missing(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	_, openErr := fsys.Open(path.Join(dir, "no"), false)
	_, deepErr := fsys.Open(path.Join(dir, "no/file"), true)
	_, listErr := fsys.List(path.Join(dir, "no"))
	_, readErr := vfs.ReadFile(fsys, path.Join(dir, "no"))
	for _, err := range []error{
		openErr, deepErr, listErr, readErr, fsys.Remove(path.Join(dir, "no")),
		fsys.Rename(path.Join(dir, "no"), path.Join(dir, "to")), fsys.SyncDir(path.Join(dir, "no")),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want fs.ErrNotExist", err)
		}
	}
}

func readWrite(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	f := open(t, fsys, path.Join(dir, "f"))
	data := bytes.Repeat([]byte("0123456789"), 1000)
	if n, err := f.WriteAt(data, 5000); n != len(data) || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	must(t, f.Sync())
	must(t, f.DropCache(0))
	got := make([]byte, 5000+len(data))
	if n, err := f.ReadAt(got, 0); n != len(got) || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	if want := append(make([]byte, 5000), data...); !bytes.Equal(got, want) {
		t.Error("bytes differ")
	}
	if n, err := f.ReadAt(make([]byte, 10), 14995); n != 5 || !errors.Is(err, io.EOF) {
		t.Errorf("read over the end: %d, %v", n, err)
	}
	if n, err := f.ReadAt(make([]byte, 10), 20000); n != 0 || err != io.EOF { //nolint:errorlint // io.ReaderAt promises the bare value
		t.Errorf("read past the end: %d, %v", n, err)
	}
	if size, err := f.Size(); size != 15000 || err != nil {
		t.Errorf("size %d, %v", size, err)
	}
	other, err := fsys.Open(path.Join(dir, "f"), false)
	must(t, err)
	defer other.Close() //nolint:errcheck // read only
	_, err = f.WriteAt([]byte("new"), 0)
	must(t, err)
	head := make([]byte, 3)
	if _, err := other.ReadAt(head, 0); err != nil || string(head) != "new" {
		t.Errorf("other handle reads %q, %v", head, err)
	}
}

func truncate(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	f := open(t, fsys, path.Join(dir, "f"))
	_, err := f.WriteAt(bytes.Repeat([]byte{7}, 9000), 0)
	must(t, err)
	must(t, f.Truncate(100))
	must(t, f.Truncate(9000))
	got := make([]byte, 9000)
	_, err = f.ReadAt(got, 0)
	must(t, err)
	want := make([]byte, 9000)
	copy(want, bytes.Repeat([]byte{7}, 100))
	if !bytes.Equal(got, want) {
		t.Error("bytes past the cut are not zero")
	}
}

func rename(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	a, b := path.Join(dir, "a"), path.Join(dir, "b")
	put(t, fsys, a, "new")
	put(t, fsys, b, "old")
	old := open(t, fsys, b)
	must(t, fsys.Rename(a, b))
	must(t, fsys.Rename(b, b))
	if got := read(t, fsys, b); got != "new" {
		t.Errorf("b is %q", got)
	}
	if _, err := fsys.Open(a, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a: %v", err)
	}
	got := make([]byte, 3)
	if _, err := old.ReadAt(got, 0); err != nil || string(got) != "old" {
		t.Errorf("old handle reads %q, %v", got, err)
	}
}

func removed(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	put(t, fsys, path.Join(dir, "f"), "still")
	f := open(t, fsys, path.Join(dir, "f"))
	must(t, fsys.Remove(path.Join(dir, "f")))
	got := make([]byte, 5)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "still" {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := fsys.Open(path.Join(dir, "f"), false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
}

func list(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	put(t, fsys, path.Join(dir, "c"), "333")
	put(t, fsys, path.Join(dir, "a"), "1")
	must(t, fsys.MkdirAll(path.Join(dir, "b")))
	got, err := fsys.List(dir)
	must(t, err)
	if want := []vfs.Entry{{Name: "a", Size: 1}, {Name: "b", Dir: true}, {Name: "c", Size: 3}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if s, err := fsys.Space(dir); s.Free <= 0 || s.Total < s.Free || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
}

func directories(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	deep := path.Join(dir, "x/y/z")
	must(t, fsys.MkdirAll(deep))
	must(t, fsys.MkdirAll(deep))
	must(t, fsys.SyncDir(path.Dir(deep)))
	put(t, fsys, path.Join(deep, "f"), "1")
	if err := fsys.Remove(deep); !errors.Is(err, fs.ErrExist) {
		t.Errorf("removed a directory with a file: %v", err)
	}
	if _, err := fsys.Open(deep, false); err == nil {
		t.Error("opened a directory")
	}
	if err := fsys.MkdirAll(path.Join(deep, "f", "g")); err == nil {
		t.Error("made a directory below a file")
	}
	must(t, fsys.Rename(path.Join(dir, "x"), path.Join(dir, "moved")))
	if got := read(t, fsys, path.Join(dir, "moved/y/z/f")); got != "1" {
		t.Errorf("moved file is %q", got)
	}
	put(t, fsys, path.Join(dir, "file"), "")
	if err := fsys.Rename(path.Join(dir, "file"), path.Join(dir, "moved")); err == nil {
		t.Error("a file replaced a directory")
	}
	if err := fsys.Rename(path.Join(dir, "moved"), path.Join(dir, "file")); err == nil {
		t.Error("a directory replaced a file")
	}
	if err := fsys.Rename(path.Join(dir, "moved"), path.Join(dir, "moved/in")); err == nil {
		t.Error("a directory moved into itself")
	}
	must(t, vfs.RemoveAll(fsys, path.Join(dir, "moved")))
	must(t, vfs.RemoveAll(fsys, path.Join(dir, "moved")))
	if got, err := fsys.List(dir); err != nil || len(got) != 1 {
		t.Errorf("left: %v, %v", got, err)
	}
}

func helpers(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	name := path.Join(dir, "checkpoint")
	put(t, fsys, name+".tmp", "a longer leftover of a crash")
	for _, want := range []string{"first", "2nd", ""} {
		must(t, vfs.WriteFileAtomic(fsys, name, []byte(want)))
		if got := read(t, fsys, name); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got, err := fsys.List(dir); err != nil || len(got) != 1 {
		t.Errorf("left: %v, %v", got, err)
	}
}

func closed(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	f, err := fsys.Open(path.Join(dir, "f"), true)
	must(t, err)
	must(t, f.Close())
	_, readErr := f.ReadAt(make([]byte, 1), 0)
	_, writeErr := f.WriteAt([]byte{1}, 0)
	_, sizeErr := f.Size()
	for _, err := range []error{readErr, writeErr, sizeErr, f.Sync(), f.DropCache(0), f.Truncate(0), f.Close()} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("got %v, want fs.ErrClosed", err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens the file, made if missing, until the end of the test.
func open(t *testing.T, fsys vfs.FS, name string) vfs.File {
	t.Helper()
	f, err := fsys.Open(name, true)
	must(t, err)
	t.Cleanup(func() { must(t, f.Close()) })
	return f
}

// put writes the file without a Sync.
func put(t *testing.T, fsys vfs.FS, name, data string) {
	t.Helper()
	f, err := fsys.Open(name, true)
	must(t, err)
	must(t, f.Truncate(0))
	_, err = f.WriteAt([]byte(data), 0)
	must(t, err)
	must(t, f.Close())
}

func read(t *testing.T, fsys vfs.FS, name string) string {
	t.Helper()
	data, err := vfs.ReadFile(fsys, name)
	must(t, err)
	return string(data)
}
