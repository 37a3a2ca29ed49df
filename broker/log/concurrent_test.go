package log_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

func TestAppendReadRollAndEvictTogether(t *testing.T) {
	for _, commit := range paths {
		t.Run(string(commit), func(t *testing.T) { together(t, commit) })
	}
}

func together(t *testing.T, commit log.CommitPath) {
	t.Helper()
	fsys := vfs.NewMem()
	w := start(t, fsys, func(c *log.DirConfig) { c.MaxOpenFiles = 3 }, commitBy(commit))
	w.dir.SetJournal(64<<10, 16<<10, 8<<10, 8<<10, time.Millisecond)
	p := w.open(small)
	const n = 2000
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		defer done.Store(true)
		for i := range n {
			p.add(protocol.Timestamp(i), fmt.Sprint(i), strings.Repeat("x", i%300))
			if i%100 == 0 {
				p.flush()
			}
		}
		p.flush()
	})
	for range 3 {
		wg.Go(func() {
			for from := protocol.Offset(0); !done.Load() || from < p.LEO(); {
				s, err := p.Read(from, p.Durable(), 2000, true)
				if errors.Is(err, log.ErrOffsetOutOfRange) && from < p.Start() {
					from = p.Start()
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				b, err := s.Bytes()
				next := s.Next()
				s.Release()
				if err != nil || len(b) > 0 && next <= from {
					t.Errorf("read from %d: next %d, %v", from, next, err)
					return
				}
				from = next
			}
		})
	}
	wg.Go(func() {
		for !done.Load() {
			if _, _, err := p.Evict(p.Durable(), 20_000, -1, w.now()); err != nil {
				t.Error(err)
			}
			if _, _, err := p.OffsetForTime(protocol.Timestamp(p.LEO()/4), p.Durable()); err != nil {
				t.Error(err)
			}
			if err := w.dir.Checkpoint(); err != nil {
				t.Error(err)
			}
			if _, err := p.MaybeRoll(w.now()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if p.Start() == 0 || p.LEO() != 2*n || p.Durable() != 2*n {
		t.Fatalf("[%d, %d), durable %d", p.Start(), p.LEO(), p.Durable())
	}
	if got := p.readAll(); len(got) != int(p.LEO()-p.Start()) {
		t.Fatalf("%d records of [%d, %d)", len(got), p.Start(), p.LEO())
	}
	check(t, w.dir.Close(true))
	if got := fsys.OpenFiles(); got != 0 {
		t.Fatalf("%d files are open", got)
	}
}

// TestOneCommitServesAllThatWait holds the syncs of twenty logs: eight run, one
// a log, and what was appended meanwhile takes one more for each log.
func TestOneCommitServesAllThatWait(t *testing.T) {
	const logs = 20
	fsys := vfs.NewMem()
	w := start(t, fsys, func(c *log.DirConfig) { c.MaxOpenFiles = 2 * logs })
	parts := make([]*part, logs)
	for i := range parts {
		parts[i] = w.open2(t, int32(i))
		parts[i].add(1, "first")
		parts[i].flush()
	}
	var mu sync.Mutex
	running, most, total := map[string]int{}, 0, 0
	entered := make(chan struct{}, 1000)
	gate := make(chan struct{})
	fsys.Fail(func(o vfs.Op) error {
		if o.Kind != vfs.OpSync {
			return nil
		}
		mu.Lock()
		running[o.Path]++
		total++
		most = max(most, len(running))
		if running[o.Path] > 1 {
			t.Errorf("two syncs of %s at a time", o.Path)
		}
		mu.Unlock()
		entered <- struct{}{}
		<-gate
		mu.Lock()
		delete(running, o.Path)
		mu.Unlock()
		return nil
	})
	for _, p := range parts {
		p.add(1, "a")
	}
	for range 8 {
		<-entered
	}
	for range 50 {
		for _, p := range parts {
			p.add(1, "b")
		}
	}
	close(gate)
	for _, p := range parts {
		p.waitFor(func() bool { return p.reported.Load() == 52 })
	}
	mu.Lock()
	defer mu.Unlock()
	if most != 8 || total > 2*logs {
		t.Errorf("%d syncs, at most %d at a time, for %d appends", total, most, 51*logs)
	}
}
