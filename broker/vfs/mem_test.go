package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stratabroker/strata/broker/vfs"
)

// files lists a file system's files with what they hold, one a line.
func files(t *testing.T, fsys vfs.FS) string {
	t.Helper()
	var lines []string
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := fsys.List(dir)
		must(t, err)
		for _, e := range entries {
			if name := dir + "/" + e.Name; e.Dir {
				lines = append(lines, name+"/")
				walk(name)
			} else {
				lines = append(lines, name+"="+read(t, fsys, name))
			}
		}
	}
	walk("")
	return strings.Join(lines, " ")
}

func synced(t *testing.T, fsys vfs.FS, name, data string) {
	t.Helper()
	put(t, fsys, name, data)
	must(t, open(t, fsys, name).Sync())
}

// TestCrashNames: which names a power cut leaves. All but the policy is in the steps.
func TestCrashNames(t *testing.T) {
	tests := []struct {
		rule       string
		steps      func(t *testing.T, m *vfs.Mem)
		drop, keep string
	}{
		{"a synced file in a synced directory stays", func(t *testing.T, m *vfs.Mem) {
			t.Helper()
			synced(t, m, "f", "1")
			must(t, m.SyncDir("/"))
		}, "/f=1", "/f=1"},
		{"a synced file in an un-synced directory may go", func(t *testing.T, m *vfs.Mem) {
			t.Helper()
			synced(t, m, "f", "1")
		}, "", "/f=1"},
		{"an un-synced file in a synced directory may be empty", func(t *testing.T, m *vfs.Mem) {
			t.Helper()
			put(t, m, "f", "1")
			must(t, m.SyncDir("/"))
		}, "/f=", "/f=1"},
		{"an un-synced rename may be lost", func(t *testing.T, m *vfs.Mem) {
			t.Helper()
			synced(t, m, "a", "new")
			synced(t, m, "b", "old")
			must(t, m.SyncDir("/"))
			must(t, m.Rename("a", "b"))
		}, "/a=new /b=old", "/b=new"},
		{"an un-synced removal may be lost", func(t *testing.T, m *vfs.Mem) {
			t.Helper()
			synced(t, m, "a", "1")
			must(t, m.SyncDir("/"))
			must(t, m.Remove("a"))
		}, "/a=1", ""},
		{"a removed file that was never durable does not come back", func(t *testing.T, m *vfs.Mem) {
			t.Helper()
			synced(t, m, "a", "1")
			must(t, m.Remove("a"))
			must(t, m.SyncDir("/"))
		}, "", ""},
		{"a directory's own name needs its parent's sync", func(t *testing.T, m *vfs.Mem) {
			t.Helper()
			must(t, m.MkdirAll("d/e"))
			synced(t, m, "d/e/f", "1")
			must(t, m.SyncDir("d/e"))
			must(t, m.SyncDir("/"))
		}, "/d/", "/d/ /d/e/ /d/e/f=1"},
		{"a sync of one directory says nothing of another", func(t *testing.T, m *vfs.Mem) {
			t.Helper()
			must(t, m.MkdirAll("d"))
			must(t, m.MkdirAll("e"))
			must(t, m.SyncDir("/"))
			synced(t, m, "d/f", "1")
			synced(t, m, "e/f", "2")
			must(t, m.SyncDir("e"))
		}, "/d/ /e/ /e/f=2", "/d/ /d/f=1 /e/ /e/f=2"},
		{"a rename between directories is one change", func(t *testing.T, m *vfs.Mem) {
			t.Helper()
			must(t, m.MkdirAll("d"))
			must(t, m.MkdirAll("e"))
			synced(t, m, "d/f", "1")
			must(t, m.SyncDir("/"))
			must(t, m.Rename("d/f", "e/f"))
			must(t, m.SyncDir("e"))
		}, "/d/ /e/ /e/f=1", "/d/ /e/ /e/f=1"},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			m := vfs.NewMem()
			tt.steps(t, m)
			before := files(t, m)
			if got := files(t, m.Crash(vfs.DropAll)); got != tt.drop {
				t.Errorf("all dropped: %q, want %q", got, tt.drop)
			}
			if got := files(t, m.Crash(vfs.KeepAll)); got != tt.keep {
				t.Errorf("all kept: %q, want %q", got, tt.keep)
			}
			if got := files(t, m.Kill()); got != before {
				t.Errorf("killed: %q, want %q", got, before)
			}
			if got := files(t, m.Kill().Crash(vfs.DropAll)); got != tt.drop {
				t.Errorf("killed, then all dropped: %q, want %q", got, tt.drop)
			}
			if got := files(t, m); got != before {
				t.Errorf("the original changed: %q, want %q", got, before)
			}
		})
	}
}

// TestCrashOfOneNameTakesWhatFollowedFromIt: a file whose creation is lost cannot
// appear under the name it was given later.
func TestCrashOfOneNameTakesWhatFollowedFromIt(t *testing.T) {
	m := vfs.NewMem()
	synced(t, m, "a", "1")
	must(t, m.Rename("a", "b"))
	synced(t, m, "c", "2")
	got := files(t, m.Crash(func(u vfs.Unsynced) int64 {
		if u.Path == "/a" {
			return 0
		}
		return u.Len
	}))
	if got != "/c=2" {
		t.Errorf("left: %q", got)
	}
}

// blockFile makes a durable file of three blocks of 'a', and writes 'b' over the
// last two and one block more without a Sync.
func blockFile(t *testing.T) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem()
	f := open(t, m, "f")
	_, err := f.WriteAt(bytes.Repeat([]byte{'a'}, 3*vfs.BlockSize), 0)
	must(t, err)
	must(t, f.Sync())
	must(t, m.SyncDir("/"))
	_, err = f.WriteAt(bytes.Repeat([]byte{'b'}, 3*vfs.BlockSize), vfs.BlockSize)
	must(t, err)
	return m
}

// runs writes bytes as runs of equal ones, in blocks.
func runs(b string) string {
	var out []string
	for len(b) > 0 {
		rest := strings.TrimLeft(b, b[:1])
		out = append(out, fmt.Sprintf("%q*%g", b[0], float64(len(b)-len(rest))/vfs.BlockSize))
		b = rest
	}
	return strings.Join(out, " ")
}

func TestCrashKeepsDropsAndTearsBlocks(t *testing.T) {
	tests := map[string]struct {
		policy vfs.Policy
		want   string
	}{
		"keep": {vfs.KeepAll, `'a'*1 'b'*3`},
		"drop": {vfs.DropAll, `'a'*3`},
		"tear": {vfs.TearAll, `'a'*1 'b'*0.5 'a'*0.5 'b'*0.5 'a'*0.5 'b'*0.5`},
		"size without bytes": {func(u vfs.Unsynced) int64 {
			if u.Kind == vfs.UnsyncedSize {
				return u.Len
			}
			return 0
		}, `'a'*3 '\x00'*1`},
		"bytes without size": {func(u vfs.Unsynced) int64 {
			if u.Kind == vfs.UnsyncedSize {
				return 0
			}
			return u.Len
		}, `'a'*1 'b'*2`},
		"only block 2": {func(u vfs.Unsynced) int64 {
			if u.Kind == vfs.UnsyncedBlock && u.Block != 2 {
				return 0
			}
			return u.Len
		}, `'a'*2 'b'*1 '\x00'*1`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := runs(read(t, blockFile(t).Crash(tt.policy), "f")); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestCrashMayUndoATruncate(t *testing.T) {
	m := blockFile(t)
	must(t, open(t, m, "f").Truncate(vfs.BlockSize))
	for want, policy := range map[string]vfs.Policy{`'a'*3`: vfs.DropAll, `'a'*1`: vfs.KeepAll, `'a'*2`: vfs.TearAll} {
		if got := runs(read(t, m.Crash(policy), "f")); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestSyncedTruncateIsNotUndone(t *testing.T) {
	m := blockFile(t)
	f := open(t, m, "f")
	must(t, f.Truncate(vfs.BlockSize/2))
	must(t, f.Truncate(3*vfs.BlockSize))
	must(t, f.Sync())
	if got, want := runs(read(t, m.Crash(vfs.DropAll), "f")), `'a'*0.5 '\x00'*2.5`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestFailedSyncLosesWhatTheCacheShows: DESIGN D3 rests on it.
func TestFailedSyncLosesWhatTheCacheShows(t *testing.T) {
	m := blockFile(t)
	f := open(t, m, "f")
	failed := errors.New("disk is ill")
	m.Fail(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			return failed
		}
		return nil
	})
	if err := f.Sync(); !errors.Is(err, failed) {
		t.Fatalf("sync: %v", err)
	}
	m.Fail(nil)
	must(t, f.Sync())
	if got, want := runs(read(t, m, "f")), `'a'*1 'b'*3`; got != want {
		t.Errorf("cache shows %s, want %s", got, want)
	}
	if got, want := runs(read(t, m.Crash(vfs.DropAll), "f")), `'a'*3 '\x00'*1`; got != want {
		t.Errorf("crash leaves %s, want %s", got, want)
	}
	if got, want := runs(read(t, m.Crash(vfs.KeepAll), "f")), `'a'*1 'b'*3`; got != want {
		t.Errorf("crash with luck leaves %s, want %s", got, want)
	}
	_, err := f.WriteAt(bytes.Repeat([]byte{'c'}, vfs.BlockSize), 2*vfs.BlockSize)
	must(t, err)
	must(t, f.DropCache(2*vfs.BlockSize))
	if got, want := runs(read(t, m, "f")), `'a'*1 'b'*1 'c'*1 '\x00'*1`; got != want {
		t.Errorf("dropped from the third block on: %s, want %s", got, want)
	}
	must(t, f.DropCache(vfs.BlockSize+1))
	if got, want := runs(read(t, m, "f")), `'a'*2 'c'*1 '\x00'*1`; got != want {
		t.Errorf("disk and un-synced blocks show %s, want %s", got, want)
	}
}

// TestSyncedBytesSurviveEveryCrash writes at random and syncs now and then; blocks
// that no write has touched since must be there after a crash of any seed.
func TestSyncedBytesSurviveEveryCrash(t *testing.T) {
	const size = 10 * vfs.BlockSize
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := vfs.NewMem()
		f := open(t, m, "f")
		must(t, m.SyncDir("/"))
		live, sure := make([]byte, size), make([]bool, size)
		must(t, f.Truncate(size))
		for range 30 {
			if rng.IntN(4) == 0 {
				must(t, f.Sync())
				for i := range sure {
					sure[i] = true
				}
				continue
			}
			from := rng.IntN(size)
			chunk := bytes.Repeat([]byte{byte(rng.IntN(256))}, 1+rng.IntN(size-from))
			_, err := f.WriteAt(chunk, int64(from))
			must(t, err)
			copy(live[from:], chunk)
			for i := from / vfs.BlockSize * vfs.BlockSize; i < size && i < from+len(chunk)+vfs.BlockSize; i++ {
				sure[i] = false
			}
		}
		first, again := read(t, m.Crash(vfs.Random(seed)), "f"), read(t, m.Crash(vfs.Random(seed)), "f")
		if first != again {
			t.Fatalf("seed %d: two crashes of one seed differ", seed)
		}
		for i := range sure {
			if sure[i] && (i >= len(first) || first[i] != live[i]) {
				t.Fatalf("seed %d: synced byte %d is lost", seed, i)
			}
		}
	}
}

// TestWriteFileAtomicAtEachDurableStep stops at each durable step, crashes in
// several ways, and wants the old or the new data, and the new once it returned.
func TestWriteFileAtomicAtEachDurableStep(t *testing.T) {
	oldData, newData := strings.Repeat("old", 5000), strings.Repeat("new", 6000)
	start := func() *vfs.Mem {
		m := vfs.NewMem()
		must(t, vfs.WriteFileAtomic(m, "f", []byte(oldData)))
		return m
	}
	m := start()
	before := m.DurableSteps()
	must(t, vfs.WriteFileAtomic(m, "f", []byte(newData)))
	total := m.DurableSteps() - before
	t.Logf("%d durable steps", total)
	if total != 5 {
		t.Errorf("%d durable steps, want create, truncate, sync, rename, sync-dir", total)
	}
	for n := 1; n <= total+1; n++ {
		for seed := range uint64(20) {
			m := start()
			m.StopAt(m.DurableSteps() + n)
			err := vfs.WriteFileAtomic(m, "f", []byte(newData))
			if stopped := n <= total; stopped != errors.Is(err, vfs.ErrCrashed) || stopped != m.Stopped() {
				t.Fatalf("step %d: %v", n, err)
			}
			after := m.Crash(vfs.Random(seed))
			got := read(t, after, "f")
			if got != newData && (err == nil || got != oldData) {
				t.Fatalf("step %d, seed %d: neither old nor new: %s", n, seed, runs(got))
			}
			must(t, vfs.WriteFileAtomic(after, "f", []byte("again")))
		}
	}
}

func TestHookSeesStepsAndStopsTheWorld(t *testing.T) {
	m := vfs.NewMem()
	var log []string
	last := 0
	m.Fail(func(op vfs.Op) error {
		if op.Step != last+1 {
			t.Errorf("step %d after %d", op.Step, last)
		}
		last = op.Step
		log = append(log, fmt.Sprintf("%d %s", op.Durable, op))
		if op.Kind == vfs.OpRemove {
			return fmt.Errorf("power cut: %w", vfs.ErrCrashed)
		}
		return nil
	})
	must(t, m.MkdirAll("d"))
	f := open(t, m, "d/f")
	_, err := f.WriteAt([]byte("abc"), 10)
	must(t, err)
	must(t, f.Sync())
	must(t, m.Rename("d/f", "d/g"))
	for range 2 {
		if err := m.Remove("d/g"); !errors.Is(err, vfs.ErrCrashed) {
			t.Errorf("remove: %v", err)
		}
	}
	if _, err := f.Size(); !errors.Is(err, vfs.ErrCrashed) {
		t.Errorf("size after the stop: %v", err)
	}
	want := []string{"1 mkdir d", "2 create d/f", "2 write d/f 10+3", "3 sync d/f", "4 rename d/f d/g", "5 remove d/g"}
	if !slices.Equal(log, want) {
		t.Errorf("got %q, want %q", log, want)
	}
	if c := m.Counts(); c[vfs.OpSync] != 1 || c[vfs.OpWrite] != 1 || c[vfs.OpRemove] != 1 {
		t.Errorf("counts %v", c)
	}
	if got := files(t, m.Kill()); !strings.HasPrefix(got, "/d/ /d/g=") {
		t.Errorf("left: %q", got)
	}
}

func TestSpaceIsLimited(t *testing.T) {
	m := vfs.NewMem()
	m.SetSpace(4 * vfs.BlockSize)
	f := open(t, m, "f")
	if n, err := f.WriteAt(make([]byte, 5*vfs.BlockSize), 0); n != 4*vfs.BlockSize || !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if s, err := m.Space("/"); s != (vfs.Space{Free: 0, Total: 4 * vfs.BlockSize}) || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
	if err := f.Truncate(5 * vfs.BlockSize); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("truncate: %v", err)
	}
	_, err := f.WriteAt([]byte("over what is there"), 100)
	must(t, err)
	must(t, f.Truncate(vfs.BlockSize+1))
	if s, err := m.Space("/"); s != (vfs.Space{Free: 2 * vfs.BlockSize, Total: 4 * vfs.BlockSize}) || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
	must(t, m.Rename("f", "g"))
	must(t, m.Remove("g"))
	if s, err := m.Kill().Space("/"); s != (vfs.Space{Free: 4 * vfs.BlockSize, Total: 4 * vfs.BlockSize}) || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestHandlesAreCounted(t *testing.T) {
	m := vfs.NewMem()
	f, err := m.Open("f", true)
	must(t, err)
	if m.OpenFiles() != 1 {
		t.Errorf("%d open", m.OpenFiles())
	}
	m.Stop()
	must(t, f.Close())
	if m.OpenFiles() != 0 {
		t.Errorf("%d open", m.OpenFiles())
	}
	if _, err := m.Open("f", false); !errors.Is(err, vfs.ErrCrashed) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open after the stop: %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	m := vfs.NewMem()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := fmt.Sprintf("f%d", i)
			for range 50 {
				if err := vfs.WriteFileAtomic(m, name, bytes.Repeat([]byte(name), 3000)); err != nil {
					t.Error(err)
				}
				m.Crash(vfs.Random(uint64(i)))
			}
		})
	}
	wg.Wait()
	for i := range 8 {
		if got := read(t, m.Crash(vfs.DropAll), fmt.Sprintf("f%d", i)); len(got) != 6000 {
			t.Errorf("f%d: %d bytes", i, len(got))
		}
	}
}
