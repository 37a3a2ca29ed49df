package log_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
)

// TestADeletedLogIsNotCleanedOn: a pass works on files by their names, and a topic that is made anew has the same.
func TestADeletedLogIsNotCleanedOn(t *testing.T) {
	for name, leave := range map[string]func(*part) error{
		"deleted": func(p *part) error { return p.Delete() },
		"closed":  func(p *part) error { return p.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, vfs.NewMem())
			p := w.open(cleanConfig)
			p.filler(200)
			p.flush()
			under, ended := make(chan struct{}), make(chan error, 1)
			written := 0
			go func() {
				_, err := p.Clean(p.all(), plenty, func(life context.Context, _ int) error {
					if written++; written == 250 { // while it writes
						close(under)
						<-life.Done()
					}
					return nil
				})
				ended <- err
			}()
			<-under
			check(t, leave(p))
			if err := <-ended; !errors.Is(err, log.ErrClosed) {
				t.Errorf("the pass ended with %v", err)
			}
			if _, err := p.Clean(p.all(), plenty, noPace); !errors.Is(err, log.ErrClosed) {
				t.Errorf("another pass: %v", err)
			}
			again := w.open(cleanConfig)
			again.add(w.ms(), "new")
			again.flush()
			for _, e := range must(w.fs.List(dataDir + "/t-0"))(t) {
				if strings.HasSuffix(e.Name, ".cleaned") || strings.HasSuffix(e.Name, ".swap") {
					t.Errorf("%s is left", e.Name)
				}
			}
			check(t, w.dir.Close(true))
		})
	}
}

func TestAPassThatFailsForALackOfFilesIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		w := start(t, fsys)
		p := w.open(cleanConfig)
		p.filler(200)
		p.flush()
		size := p.Size()
		few := true
		fsys.Fail(func(op vfs.Op) error {
			if few && strings.HasSuffix(op.Path, ".cleaned") {
				return syscall.EMFILE
			}
			return nil
		})
		c := log.NewCleaner(log.CleanerConfig{
			Threads: 1, Logger: slog.New(slog.DiscardHandler),
			Settings: func() log.CleanerSettings { return log.CleanerSettings{Memory: plenty} },
			Targets:  func(yield func(log.CleanTarget) bool) { yield(log.CleanTarget{Log: p.Log, Rules: p.all()}) },
		})
		c.Once(t.Context())
		few = false
		if s := c.Stats(); s.Uncleanable != 0 || s.Passes != 0 || p.Size() != size {
			t.Errorf("%+v", s)
		}
		if c.Once(t.Context()) {
			t.Error("tried again at once")
		}
		time.Sleep(2 * time.Minute)
		if !c.Once(t.Context()) || p.Size() >= size {
			t.Error("not cleaned")
		}
		check(t, w.dir.Close(true))
	})
}
