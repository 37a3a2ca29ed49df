package log_test

import (
	"errors"
	"fmt"
	"runtime"
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
		for last := false; !last; {
			last = done.Load() // once more after that, however late this goroutine came
			if _, _, err := p.Evict(p.Durable(), 20_000, -1, w.now()); err != nil {
				t.Error(err)
			}
			if _, _, err := p.OffsetForTime(protocol.Timestamp(p.LEO()/4), 0, p.Durable()); err != nil {
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
		p.waitFor("the append", func() bool { return p.reported.Load() == 52 })
	}
	mu.Lock()
	defer mu.Unlock()
	if most != 8 || total > 2*logs {
		t.Errorf("%d syncs, at most %d at a time, for %d appends", total, most, 51*logs)
	}
}

// waitsForMutex tells whether a goroutine waits for a mutex in the function.
func waitsForMutex(function string) bool {
	b := make([]byte, 1<<20)
	b = b[:runtime.Stack(b, true)]
	for g := range strings.SplitSeq(string(b), "\n\n") {
		if strings.Contains(g, "[sync.Mutex.Lock") && strings.Contains(g, function) {
			return true
		}
	}
	return false
}

// TestNoRoundOfTheJournalOutlivesItsLog: a partition is closed while a round has bytes of it, opened again and
// cut. Did the round come to the disk only then, it would stand behind the reset, and a
// start would append again what was cut off.
func TestNoRoundOfTheJournalOutlivesItsLog(t *testing.T) {
	fsys := vfs.NewMem()
	w, parts := journaled(t, fsys, 1)
	entered, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fsys.Fail(func(o vfs.Op) error {
		if o.Kind == vfs.OpMkdir && o.Path == journalFolder { // the round has the bytes, and its segment is being made
			once.Do(func() {
				close(entered)
				<-gate
			})
		}
		return nil
	})
	parts[0].add(1, "second")
	<-entered
	closed := make(chan error, 1)
	go func() { closed <- parts[0].Close() }()
	early := false
	for limit := time.Now().Add(patience); !early && !waitsForMutex("log.(*Log).Close("); runtime.Gosched() {
		early = len(closed) > 0
		if time.Now().After(limit) {
			t.Fatalf("waited %v for Close", patience)
		}
	}
	if early {
		t.Error("the log was closed while a round had bytes of it")
	} else {
		close(gate)
	}
	check(t, <-closed)
	check(t, w.open2(t, 0).Truncate(1))
	if early {
		close(gate)
	}
	other := w.open2(t, 1)
	for range 2 { // by its file, then in a later round
		other.add(1, "value")
		other.flush()
	}
	left := fsys.Crash(vfs.DropAll)
	check(t, w.dir.Close(false))
	if q := start(t, left, boot("boot-2")).open2(t, 0); q.LEO() != 1 {
		t.Errorf("log end %d after it was cut to 1: %v", q.LEO(), q.readAll())
	}
}
