package raftstore_test

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stratabroker/strata/metadata/raftstore"
)

// childDir, where it is set, makes the test binary a writer that waits to be killed.
const childDir = "STRATA_TEST_RAFTSTORE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, writeForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const killEntrySize = 3000

// writeForEver appends from the end of the log, cuts it from behind, and
// prints each index that is durable.
func writeForEver(dir string) error {
	s, err := raftstore.Open(raftstore.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	for n := uint64(1); ; n = n%400 + 1 {
		if err := s.StoreLogs(entries(last+1, last+n, killEntrySize)); err != nil {
			return err
		}
		last += n
		if err := errors.Join(s.SetUint64([]byte("LastVoteTerm"), last), s.Set([]byte("LastVoteCand"), []byte(strconv.FormatUint(last, 10)))); err != nil {
			return err
		}
		fmt.Println(last)
		if last > 1000 {
			if err := s.DeleteRange(1, last-1000); err != nil {
				return err
			}
		}
	}
}

func TestNothingDurableIsLostWhenKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	acked, rounds := uint64(0), 12
	for range rounds {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killer := time.AfterFunc(time.Duration(50+rand.IntN(250))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if n, err := strconv.ParseUint(lines.Text(), 10, 64); err == nil {
				acked = n
			}
		}
		_ = cmd.Wait() // it was killed
		killer.Stop()
		if err := checkKilled(dir, acked); err != nil {
			t.Fatal(err)
		}
	}
	if acked == 0 {
		t.Fatal("the child never wrote")
	}
	t.Logf("%d entries over %d kills", acked, rounds)
}

// checkKilled reads what a killed writer left.
func checkKilled(dir string, acked uint64) error {
	began := time.Now()
	s, err := raftstore.Open(raftstore.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	took := time.Since(began)
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	if last < acked || acked > 0 && (first == 0 || first > max(1, acked-min(acked, 1000)+400)) {
		return fmt.Errorf("the log is [%d, %d] after %d was acknowledged", first, last, acked)
	}
	for i := first; i <= last && i > 0; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil || l.Data[0] != byte(i) || len(l.Data) != killEntrySize {
			return fmt.Errorf("entry %d of [%d, %d]: %w", i, first, last, err)
		}
	}
	term, _ := s.GetUint64([]byte("LastVoteTerm"))
	if cand, _ := s.Get([]byte("LastVoteCand")); term < acked || term > 0 && string(cand) != strconv.FormatUint(term, 10) {
		return fmt.Errorf("vote %d for %s after %d was acknowledged", term, cand, acked)
	}
	if took > 2*time.Second {
		return fmt.Errorf("opened in %v", took)
	}
	return s.Close()
}
