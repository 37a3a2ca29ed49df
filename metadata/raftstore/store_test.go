package raftstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stratabroker/strata/metadata/raftstore"
)

func open(t *testing.T, dir string) *raftstore.Store {
	t.Helper()
	s, err := raftstore.Open(raftstore.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *raftstore.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func entry(index uint64, size int) *raft.Log {
	return &raft.Log{
		Index: index, Term: index / 10, Type: raft.LogCommand,
		Data: bytes.Repeat([]byte{byte(index)}, size), Extensions: []byte("x"), AppendedAt: time.Unix(int64(index), 5),
	}
}

func entries(from, to uint64, size int) (logs []*raft.Log) {
	for i := from; i <= to; i++ {
		logs = append(logs, entry(i, size))
	}
	return logs
}

// check compares the whole log with what it must be.
func check(t *testing.T, s *raftstore.Store, from, to uint64, size int) {
	t.Helper()
	first, err := s.FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if first != from || last != to {
		t.Fatalf("the log is [%d, %d], want [%d, %d]", first, last, from, to)
	}
	for i := from; i <= to && i > 0; i++ {
		var got raft.Log
		if err := s.GetLog(i, &got); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		if want := entry(i, size); got.Index != i || got.Term != want.Term || got.Type != want.Type ||
			!bytes.Equal(got.Data, want.Data) || !bytes.Equal(got.Extensions, want.Extensions) || !got.AppendedAt.Equal(want.AppendedAt) {
			t.Fatalf("entry %d: %+v", i, got)
		}
	}
	for _, i := range []uint64{from - 1, to + 1} {
		if err := s.GetLog(i, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatalf("entry %d outside the log: %v", i, err)
		}
	}
}

func TestLogSurvivesReopenings(t *testing.T) {
	for name, c := range map[string]struct {
		count uint64
		size  int
	}{
		"empty entries":                    {20_000, 0},
		"more than a transaction takes":    {3_000, 1 << 10},
		"each in a transaction of its own": {8, 60 << 10},
		"as large as they may be":          {20, raftstore.MaxEntryBytes - 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			check(t, s, 0, 0, 0)
			if err := s.StoreLogs(entries(1, c.count, c.size)); err != nil {
				t.Fatal(err)
			}
			check(t, s, 1, c.count, c.size)
			closeStore(t, s)
			s = open(t, dir)
			check(t, s, 1, c.count, c.size)
			if err := s.DeleteRange(1, c.count/2); err != nil {
				t.Fatal(err)
			}
			if err := s.DeleteRange(c.count, c.count); err != nil {
				t.Fatal(err)
			}
			check(t, s, c.count/2+1, c.count-1, c.size)
			closeStore(t, s)
			s = open(t, dir)
			defer closeStore(t, s)
			check(t, s, c.count/2+1, c.count-1, c.size)
			if err := s.StoreLog(entry(c.count, c.size)); err != nil {
				t.Fatal(err)
			}
			check(t, s, c.count/2+1, c.count, c.size)
		})
	}
}

func TestLongSuffixAndWholeLogAreDeleted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.StoreLogs(entries(100, 20_000, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRange(5_000, 20_000); err != nil {
		t.Fatal(err)
	}
	check(t, s, 100, 4_999, 1)
	if err := s.DeleteRange(200, 300); err == nil {
		t.Fatal("a hole was cut into the log")
	}
	if err := s.DeleteRange(1, 50); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRange(1, 1<<40); err != nil {
		t.Fatal(err)
	}
	check(t, s, 0, 0, 0)
	if err := s.StoreLogs(entries(9_000, 9_010, 1)); err != nil { // after the restore of a snapshot
		t.Fatal(err)
	}
	check(t, s, 9_000, 9_010, 1)
	if err := s.StoreLogs(entries(40, 50, 1)); err != nil { // below what was once deleted
		t.Fatal(err)
	}
	closeStore(t, s)
	s = open(t, dir)
	defer closeStore(t, s)
	if first, _ := s.FirstIndex(); first != 40 {
		t.Fatalf("the log begins at %d", first)
	}
}

func TestTooLargeAnEntryIsRefusedAndHarmsNothing(t *testing.T) {
	s := open(t, t.TempDir())
	defer closeStore(t, s)
	if err := s.StoreLogs([]*raft.Log{entry(1, 1), entry(2, raftstore.MaxEntryBytes)}); !errors.Is(err, raftstore.ErrTooLarge) {
		t.Fatal(err)
	}
	check(t, s, 1, 1, 1)
	if err := s.StoreLog(entry(2, 1)); err != nil {
		t.Fatal(err)
	}
}

func TestStableStore(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.Get([]byte("none")); err == nil || err.Error() != "not found" {
		t.Fatal(err)
	}
	if _, err := s.GetUint64([]byte("none")); err == nil || err.Error() != "not found" {
		t.Fatal(err)
	}
	if err := errors.Join(s.Set([]byte("k"), []byte("v")), s.SetUint64([]byte("CurrentTerm"), 7)); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = open(t, dir)
	defer closeStore(t, s)
	v, err := s.Get([]byte("k"))
	n, err2 := s.GetUint64([]byte("CurrentTerm"))
	if err != nil || err2 != nil || string(v) != "v" || n != 7 {
		t.Fatal(string(v), n, err, err2)
	}
	if _, err := s.GetUint64([]byte("k")); !errors.Is(err, raftstore.ErrCorrupt) {
		t.Fatal(err)
	}
}

// A crash between Raft's two writes of a vote must leave the old vote whole.
func TestVoteIsWrittenAtOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	term, cand := []byte("LastVoteTerm"), []byte("LastVoteCand")
	vote := func(s *raftstore.Store) string {
		n, err := s.GetUint64(term)
		c, err2 := s.Get(cand)
		return fmt.Sprint(n, " ", string(c), " ", err, err2)
	}
	if err := errors.Join(s.SetUint64(term, 4), s.Set(cand, []byte("a"))); err != nil {
		t.Fatal(err)
	}
	if err := s.SetUint64(term, 5); err != nil {
		t.Fatal(err)
	}
	if got := vote(s); got != "4 a <nil> <nil>" {
		t.Fatal("half a vote is seen:", got)
	}
	closeStore(t, s) // what a crash leaves: the term was never written
	s = open(t, dir)
	if got := vote(s); got != "4 a <nil> <nil>" {
		t.Fatal("half a vote was kept:", got)
	}
	if err := errors.Join(s.SetUint64(term, 6), s.Set(cand, []byte("b"))); err != nil {
		t.Fatal(err)
	}
	if got := vote(s); got != "6 b <nil> <nil>" {
		t.Fatal(got)
	}
	closeStore(t, s)
	s = open(t, dir)
	defer closeStore(t, s)
	if got := vote(s); got != "6 b <nil> <nil>" {
		t.Fatal(got)
	}
}

func TestBootstrapNeedsAnEmptyLog(t *testing.T) {
	s := open(t, t.TempDir())
	defer closeStore(t, s)
	if err := s.Bootstrap(entry(1, 1)); err != nil {
		t.Fatal(err)
	}
	check(t, s, 1, 1, 1)
	if err := s.Bootstrap(entry(2, 1)); err == nil {
		t.Fatal("bootstrapped twice")
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer closeStore(t, s)
	if _, err := raftstore.Open(raftstore.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}); !errors.Is(err, raftstore.ErrInUse) {
		t.Fatal(err)
	}
}

// A kill may hit badger when it has made a log file and not yet given it its
// size, or has cut it and not yet removed it; it then refused to open.
func TestEmptyFilesOfAKilledProcessDoNotMatter(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.StoreLogs(entries(1, 10, 10)); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	for _, name := range []string{"00001.mem", "00007.mem", "000009.vlog"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir)
	check(t, s, 1, 10, 10)
	if err := s.StoreLogs(entries(11, 12, 10)); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = open(t, dir)
	defer closeStore(t, s)
	check(t, s, 1, 12, 10)
}

func TestFailedWritePoisonsTheStore(t *testing.T) {
	var failures []error
	s, err := raftstore.Open(raftstore.Config{
		Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Failed: func(err error) { failures = append(failures, err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLog(entry(1, 1)); err != nil {
		t.Fatal(err)
	}
	s.BreakDisk()
	for range 2 {
		if err := s.StoreLog(entry(2, 1)); !errors.Is(err, raftstore.ErrPoisoned) {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		s.Set([]byte("k"), nil), s.SetUint64([]byte("LastVoteTerm"), 1), s.DeleteRange(1, 1),
	} {
		if !errors.Is(err, raftstore.ErrPoisoned) {
			t.Fatal(err)
		}
	}
	if len(failures) != 1 || !errors.Is(failures[0], raftstore.ErrPoisoned) {
		t.Fatal(failures)
	}
	if last, _ := s.LastIndex(); last != 1 {
		t.Fatalf("the log ends at %d after a failed write", last)
	}
}

// Deleted entries must give their space back: a log that is cut goes on for ever.
func TestSpaceOfDeletedEntriesIsFreed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	const size, round = 200 << 10, 50
	var total int64
	for r := range uint64(20) {
		if err := s.StoreLogs(entries(r*round+1, (r+1)*round, size)); err != nil {
			t.Fatal(err)
		}
		total += round * size
		if err := s.DeleteRange(1, (r+1)*round-1); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	s = open(t, dir)
	defer closeStore(t, s)
	check(t, s, 20*round, 20*round, size)
	if held := bytesIn(t, dir); held > total/3 {
		t.Errorf("%d MiB are held of %d MiB written", held>>20, total>>20)
	}
}

func bytesIn(t *testing.T, dir string) (sum int64) {
	t.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil {
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512 // files are mapped beyond what they hold
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
