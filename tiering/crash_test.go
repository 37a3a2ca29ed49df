package tiering_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/object"
)

// TestCrashAtEachStepOfAnUpload stops the archiver at each PUT and proposal,
// starts another one on what is left, and lets the sweeper clean up.
func TestCrashAtEachStepOfAnUpload(t *testing.T) {
	steps := 0
	for step := 0; ; step++ {
		reached := false
		for _, done := range []bool{false, true} { // the step has its effect, or not
			synctest.Test(t, func(t *testing.T) { reached = crashUpload(t, step, done) || reached })
		}
		if !reached {
			break
		}
		steps++
	}
	t.Logf("%d steps", steps)
	if steps < 6 {
		t.Errorf("only %d steps", steps)
	}
}

// crashUpload crashes at one step; it reports whether that step was reached.
func crashUpload(t *testing.T, step int, effect bool) bool {
	t.Helper()
	w := newWorld(t, 1)
	k := w.key(0)
	w.seal(k, 10, 100, 1000)
	w.seal(k, 10, 100, 2000)
	sweeper := w.sweeper()
	ctx, crash := context.WithCancel(t.Context())
	c := &crasher{Store: w.store, log: w.log, step: step, effect: effect, crash: crash}
	a := tiering.NewArchiver(tiering.ArchiverConfig{Store: c, Metadata: c, Hot: w.hot, TurnBytes: 1, Fanout: 4, Rand: w.source()})
	finished := make(chan struct{})
	go func() { a.Run(ctx); close(finished) }()
	time.Sleep(time.Minute)
	crash()
	<-finished
	w.checkBucket()
	w.start(w.archiver().Run)
	w.start(sweeper.Run)
	time.Sleep(2*testGrace + 2*testInterval)
	w.checkBucket()
	w.checkReplay(w.reader(), k)
	if end := w.row(k).Manifest.TieredEnd; end != 20 {
		t.Errorf("step %d: tiered end %d", step, end)
	}
	if got := w.orphans(); len(got) > 0 {
		t.Errorf("step %d: orphans %q", step, got)
	}
	return c.reached
}

// crasher lets so many steps pass and then ends its process's life, before or after the next one's effect.
type crasher struct {
	object.Store
	log    *fakeLog
	effect bool
	crash  func()

	mu      sync.Mutex
	step    int  // guarded by mu
	reached bool // guarded by mu
}

// dies counts a step. After the crash nothing has an effect any more; first is the step at which it comes.
func (c *crasher) dies() (dead, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step--
	c.reached = c.reached || c.step == -1
	return c.step < 0, c.step == -1
}

func (c *crasher) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	return c.do(func() error { return c.Store.Put(ctx, key, body, size) })
}

func (c *crasher) Delete(ctx context.Context, keys []string) error {
	return c.do(func() error { return c.Store.Delete(ctx, keys) })
}

func (c *crasher) Image() *metadata.Image { return c.log.Image() }

func (c *crasher) Propose(ctx context.Context, cmd *metadata.Command) (result metadata.Result, err error) {
	err = c.do(func() (err error) {
		result, err = c.log.Propose(ctx, cmd)
		return err
	})
	return result, err
}

func (c *crasher) do(step func() error) error {
	dead, first := c.dies()
	if !dead {
		return step()
	}
	if c.effect && first {
		_ = step()
	}
	c.crash()
	return fmt.Errorf("crash: %w", context.Canceled)
}
