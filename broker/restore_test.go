package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/stratabroker/strata/broker"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/mem"
	"github.com/stratabroker/strata/tiering/recovery"
)

func TestALostDiskComesBackFromTheBucket(t *testing.T) {
	l := loseDisk(t)
	var text strings.Builder
	dir := filepath.Join(t.TempDir(), "second")
	n, err := restored(t, dir, "latest", l.store, slog.New(slog.NewTextHandler(&text, nil)))
	if err != nil {
		t.Fatal(err)
	}
	l.check(t, n)
	n.stop()
	verifyClean(t, l.store)
	for _, want := range []string{"topic=hot partition=0", "nothing of a partition was in the bucket", "topic=events partition=1 start=0 end=100", "generation=2", "offset of hot-0 set back from 10 to 0"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the log does not tell %q:\n%s", want, text.String())
		}
	}
	// The same command again goes on, as does a start without it; another restore into this folder is refused.
	for _, target := range []string{"latest", ""} {
		if n, err = restored(t, dir, target, l.store, nil); err != nil {
			t.Fatalf("started again with %q: %v", target, err)
		}
		n.stop()
	}
	if _, err := restored(t, dir, "2026-01-01T00:00:00Z", l.store, nil); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("another restore into the folder: %v", err)
	}
}

func TestARestoreThatIsBrokenOffAtAnyStepGoesOn(t *testing.T) {
	l := loseDisk(t)
	steps := 0
	for at := int64(1); ; at++ {
		store, dir := copyOf(t, l.store), filepath.Join(t.TempDir(), fmt.Sprint("disk-", at))
		dies := &dying{Store: store}
		dies.left.Store(at)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		b, err := broker.New(ctx, broker.Config{
			Static: settings(t, dir, sealing...), Logger: slog.New(slog.DiscardHandler), Store: dies, Restore: "latest", Fatal: func(err error) { t.Error(err) },
		})
		cancel()
		if err == nil { // it needs no more calls than that
			b.Abandon()
			if dies.left.Load() > 0 {
				break
			}
		}
		steps++
		target := "latest"
		if _, statErr := os.Stat(filepath.Join(dir, "strata-restore")); statErr == nil && at%2 == 0 {
			target = "" // a plain start goes on as well
		}
		n, err := restored(t, dir, target, store, nil)
		if err != nil {
			t.Fatalf("broken off at call %d, then %q: %v", at, target, err)
		}
		l.check(t, n)
		n.stop()
		verifyClean(t, store)
		if t.Failed() {
			t.Fatalf("broken off at call %d", at)
		}
	}
	t.Logf("broken off at %d calls of the store", steps)
	if steps < 10 {
		t.Errorf("only %d calls of the store", steps)
	}
}

// logged is a log that tests wait on.
type logged struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) tells(want string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !strings.Contains(l.text.String(), want) {
		return fmt.Errorf("the log does not tell %q", want)
	}
	return nil
}

// counting counts what one broker writes and deletes.
type counting struct {
	object.Store
	writes atomic.Int64
}

func (c *counting) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	c.writes.Add(1)
	return c.Store.Put(ctx, key, body, size)
}

func (c *counting) Delete(ctx context.Context, keys []string) error {
	c.writes.Add(1)
	return c.Store.Delete(ctx, keys)
}

func TestABrokerWhoseBucketWasTakenByARestoreWritesNothingMore(t *testing.T) {
	bucket := mem.New()
	mine, text := &counting{Store: bucket}, &logged{}
	oldDir := filepath.Join(t.TempDir(), "old")
	old, err := restored(t, oldDir, "", mine, slog.New(slog.NewTextHandler(text, nil)))
	if err != nil {
		t.Fatal(err)
	}
	c := old.client(t)
	write := func() {
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	write()
	old.awaitTiered(t, bucket, "events")
	n, err := restored(t, filepath.Join(t.TempDir(), "new"), "latest", bucket, nil)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the old broker sees that it is not the owner", func() error {
		write() // it still serves: nobody told it to stop
		return text.tells("uploads stand still")
	})
	before := mine.writes.Load()
	write()
	adm := kadm.NewClient(old.client(t))
	await(t, "what it has is sealed and waits", func() error {
		if _, err := adm.ListEndOffsets(t.Context(), "events"); err != nil {
			return err
		}
		return text.tells("tiering turn failed")
	})
	if now := mine.writes.Load(); now != before {
		t.Errorf("%d writes after it saw that the bucket is another's", now-before)
	}
	old.stop()
	if _, err := restored(t, oldDir, "", mine, nil); err == nil || !strings.Contains(err.Error(), "generation 2") {
		t.Errorf("the old broker started again: %v", err)
	}
	if now := mine.writes.Load(); now != before {
		t.Errorf("%d writes of a start that was refused", now-before)
	}
	if err := n.client(t).ProduceSync(t.Context(), &kgo.Record{Topic: "events", Value: []byte("y")}).FirstErr(); err != nil {
		t.Error(err)
	}
	n.awaitTiered(t, bucket, "events")
	n.stop()
	verifyClean(t, bucket)
}

func TestARestoreNeedsAnEmptyFolderAndABucketWithARoot(t *testing.T) {
	l := loseDisk(t)
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "meta.properties"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir, target string
		store       object.Store
		want        string
	}{
		"a folder with something in it": {full, "latest", l.store, "is not empty, it holds meta.properties"},
		"an empty bucket":               {filepath.Join(t.TempDir(), "d"), "latest", mem.New(), "no cluster has written here"},
		"a root that is not there":      {filepath.Join(t.TempDir(), "d"), "1.999999", l.store, "no such root"},
		"a time before the first root":  {filepath.Join(t.TempDir(), "d"), "2001-01-01T00:00:00Z", l.store, "no such root"},
		"a target that is none":         {filepath.Join(t.TempDir(), "d"), "newest", l.store, "want latest"},
	} {
		if _, err := restored(t, c.dir, c.target, c.store, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if entries, err := os.ReadDir(full); err != nil || len(entries) > 2 { // the lock is the other
		t.Errorf("the folder that was refused holds %v, %v", entries, err)
	}
	// What was refused took nothing: the bucket can still be had.
	n, err := restored(t, filepath.Join(t.TempDir(), "d"), time.Now().Add(time.Hour).UTC().Format(time.RFC3339), l.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.check(t, n)
	n.stop()
}

func TestTwoRestoresOfOneBucketHaveOneWinner(t *testing.T) {
	l := loseDisk(t)
	claim, err := recovery.NextClaim(t.Context(), l.store, "first", "")
	if err != nil {
		t.Fatal(err)
	}
	second, err := recovery.NextClaim(t.Context(), l.store, "second", "")
	if err != nil || second.Generation != claim.Generation {
		t.Fatalf("%+v, %v", second, err)
	}
	for range 2 { // again after a crash
		if err := claim.Take(t.Context(), l.store); err != nil {
			t.Fatal(err)
		}
	}
	if err := second.Take(t.Context(), l.store); !errors.Is(err, recovery.ErrTaken) {
		t.Errorf("the second: %v", err)
	}
}
