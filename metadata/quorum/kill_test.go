package quorum_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/metadata/quorum"
)

// childDir, where it is set, makes the test binary a proposer that waits to be killed.
const childDir = "STRATA_TEST_QUORUM"

const killWorkers = 8

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, proposeForEver(context.Background(), dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// killConfig takes snapshots often, so that kills hit them too.
func killConfig(dir string) quorum.Config {
	c := config(dir)
	c.SnapshotEntries, c.TrailingEntries = 150, 20
	return c
}

// proposeForEver counts up one config a worker, and prints what was acknowledged.
func proposeForEver(ctx context.Context, dir string) error {
	n, err := quorum.Open(ctx, killConfig(dir))
	if err != nil {
		return err
	}
	if err := n.WaitLeader(ctx); err != nil {
		return err
	}
	if n.Image().ClusterID() == "" {
		if _, err := n.Propose(ctx, initCluster()); err != nil {
			return err
		}
	}
	failed := make(chan error, killWorkers)
	for w := range killWorkers {
		name := fmt.Sprint("worker", w)
		go func() {
			count, _ := strconv.Atoi(configOf(n.Image(), name))
			for {
				count++
				cmd := setConfig(name, strconv.Itoa(count))
				if count%40 == 0 { // a large one now and then
					pad := string(make([]byte, 200<<10))
					changes := cmd.GetAlterConfigs()
					changes.Changes = append(changes.Changes, &metadatapb.Config{Name: name + "pad", Value: &pad})
				}
				if _, err := n.Propose(ctx, cmd); err != nil {
					failed <- err
					return
				}
				fmt.Println(w, count)
			}
		}()
	}
	return <-failed
}

func TestNothingAcknowledgedIsLostWhenKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var acked [killWorkers]int
	const rounds = 15
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
		killer := time.AfterFunc(time.Duration(20+rand.IntN(250))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var w, count int
			if n, _ := fmt.Sscan(lines.Text(), &w, &count); n == 2 && w < killWorkers {
				acked[w] = max(acked[w], count)
			}
		}
		_ = cmd.Wait() // it was killed
		killer.Stop()
		n := open(t, killConfig(dir))
		for w, want := range acked {
			if got, _ := strconv.Atoi(configOf(n.Image(), fmt.Sprint("worker", w))); got < want {
				t.Fatalf("worker %d: %d was acknowledged, %d is there", w, want, got)
			}
		}
		closeNode(t, n)
	}
	total := 0
	for _, n := range acked {
		total += n
	}
	if total == 0 {
		t.Fatal("the child never proposed")
	}
	t.Logf("%d proposals acknowledged over %d kills", total, rounds)
}

// A kill before the format file was in place, or before the first entry was,
// must leave a folder that can be opened.
func TestStartCutShortCanBeStartedAgain(t *testing.T) {
	c := config(t.TempDir())
	if err := os.WriteFile(c.Dir+"/format.tmp", []byte("str"), 0o600); err != nil {
		t.Fatal(err)
	}
	closeNode(t, founded(t, c))

	c = config(t.TempDir())
	c.Bootstrap = false // stops after the store was made
	if _, err := quorum.Open(t.Context(), c); !errors.Is(err, quorum.ErrForeignFolder) {
		t.Fatal(err)
	}
	c.Bootstrap = true
	closeNode(t, founded(t, c))
}
