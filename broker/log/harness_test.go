package log_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

const dataDir = "data"

var (
	topicID = protocol.TopicID{1, 2, 3}
	key     = protocol.PartitionKey{Topic: topicID}
	day0    = time.UnixMilli(1_700_000_000_000)
)

// world is one process on a file system.
type world struct {
	tb    testing.TB
	fs    vfs.FS
	cfg   log.DirConfig
	dir   *log.Dir
	clock atomic.Int64 // ms
	fatal atomic.Pointer[error]
}

type option func(*log.DirConfig)

func boot(id string) option { return func(c *log.DirConfig) { c.BootID = id } }

func replicated(c *log.DirConfig) { c.Fsync = false }

func commitBy(p log.CommitPath) option { return func(c *log.DirConfig) { c.Commit = p } }

// start opens a log directory on fs.
func start(tb testing.TB, fsys vfs.FS, options ...option) *world {
	tb.Helper()
	w, err := tryStart(tb, fsys, options...)
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

func tryStart(tb testing.TB, fsys vfs.FS, options ...option) (*world, error) {
	tb.Helper()
	w := &world{tb: tb, fs: fsys}
	w.clock.Store(day0.UnixMilli())
	w.cfg = log.DirConfig{
		FS: fsys, Path: dataDir, MaxOpenFiles: 8, Fsync: true, Commit: log.CommitFile, BootID: "boot-1", Now: w.now,
		OnFatal: func(err error) { w.fatal.CompareAndSwap(nil, &err) },
	}
	for _, o := range options {
		o(&w.cfg)
	}
	if err := fsys.MkdirAll(w.cfg.Path); err != nil {
		return w, err
	}
	err := fsys.SyncDir(path.Dir(w.cfg.Path))
	if err != nil {
		return w, err
	}
	w.dir, err = log.OpenDir(w.cfg)
	if err == nil {
		w.dir.SetPoints(0, 0, 1<<20) // after every seal
	}
	return w, err
}

func (w *world) now() time.Time { return time.UnixMilli(w.clock.Load()) }

func (w *world) ms() protocol.Timestamp { return protocol.Timestamp(w.clock.Load()) }

// part is an open log with what it reported.
type part struct {
	*log.Log
	w        *world
	recovery log.Recovery
	reported atomic.Int64 // greatest durable offset
	seals    atomic.Int64

	mu      sync.Mutex
	changed *sync.Cond
}

var small = log.Config{SegmentBytes: 4096, IndexIntervalBytes: 256, IndexMaxBytes: 1 << 20}

func (w *world) open(cfg log.Config) *part {
	w.tb.Helper()
	p, err := w.tryOpen("t", key, cfg, log.Init{})
	if err != nil {
		w.tb.Fatal(err)
	}
	return p
}

func (w *world) tryOpen(topic string, key protocol.PartitionKey, cfg log.Config, init log.Init) (*part, error) {
	p := &part{w: w}
	p.changed = sync.NewCond(&p.mu)
	l, rec, err := w.dir.OpenLog(topic, key, cfg, init, log.Events{
		Durable: func(o protocol.Offset) {
			p.mu.Lock()
			defer p.mu.Unlock()
			// A call of before a truncation may come late.
			p.reported.Store(max(p.reported.Load(), int64(min(o, p.Durable()))))
			p.changed.Broadcast()
		},
		Sealed: func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.seals.Add(1)
			p.changed.Broadcast()
		},
	})
	p.Log, p.recovery = l, rec
	return p, err
}

// patience is how long a test waits for what is sure to come, however busy the machine is.
const patience = time.Minute

// waitFor blocks until an event makes cond true; what says what that is.
func (p *part) waitFor(what string, cond func() bool) {
	p.w.tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if cond() {
		return
	}
	late := false
	limit := time.AfterFunc(patience, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		late = true
		p.changed.Broadcast()
	})
	defer limit.Stop()
	for !cond() {
		if late {
			p.w.tb.Fatalf("waited %v for %s: told of %d and of %d seals; log end %d, durable offset %d, recovery point %d",
				patience, what, p.reported.Load(), p.seals.Load(), p.LEO(), p.Durable(), p.RecoveryPoint())
		}
		p.changed.Wait()
	}
}

func (p *part) flush() {
	p.w.tb.Helper()
	if err := p.Flush(context.Background()); err != nil {
		p.w.tb.Fatal(err)
	}
}

// add appends one batch of records with the given values and timestamp.
func (p *part) add(ts protocol.Timestamp, values ...string) log.AppendInfo {
	p.w.tb.Helper()
	info, err := p.Append(plain(ts, values...), 1, log.AppendOptions{Now: p.w.ms(), Client: true})
	if err != nil {
		p.w.tb.Fatal(err)
	}
	return info
}

func plain(ts protocol.Timestamp, values ...string) record.Batch {
	b := record.NewBuilder(0)
	for _, v := range values {
		b.Add(record.Record{Timestamp: ts, Value: []byte(v)})
	}
	return b.Bytes()
}

// idempotent is a batch of a producer.
func idempotent(id protocol.ProducerID, epoch protocol.ProducerEpoch, sequence int32, values ...string) record.Batch {
	b := record.NewBuilder(0)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = id, epoch, sequence
	for _, v := range values {
		b.Add(record.Record{Timestamp: protocol.Timestamp(day0.UnixMilli()), Value: []byte(v)})
	}
	return b.Bytes()
}

func transactional(id protocol.ProducerID, sequence int32, values ...string) record.Batch {
	b := record.NewBuilder(0)
	b.ProducerID, b.BaseSequence, b.Transactional, b.ProducerEpoch = id, sequence, true, 0
	for _, v := range values {
		b.Add(record.Record{Timestamp: protocol.Timestamp(day0.UnixMilli()), Value: []byte(v)})
	}
	return b.Bytes()
}

func marker(id protocol.ProducerID, commit bool) record.Batch {
	b := record.NewBuilder(0)
	b.ProducerID, b.ProducerEpoch, b.Transactional, b.Control = id, 0, true, true
	kind := byte(0)
	if commit {
		kind = 1
	}
	b.Add(record.Record{Key: []byte{0, 0, 0, kind}, Value: []byte{0, 0, 0, 0, 0, 0}})
	return b.Bytes()
}

// entry is one record as it was read.
type entry struct {
	offset protocol.Offset
	value  string
}

// readAll reads [Start, LEO) slice by slice and checks what every reader relies on.
func (p *part) readAll() []entry {
	p.w.tb.Helper()
	out, err := p.tryReadAll(p.Start(), p.LEO(), 1000)
	if err != nil {
		p.w.tb.Fatal(err)
	}
	return out
}

func (p *part) tryReadAll(from, below protocol.Offset, maxBytes int) ([]entry, error) {
	var out []entry
	for from < below {
		s, err := p.Read(from, below, maxBytes, true)
		if err != nil {
			return out, err
		}
		if s.Len() == 0 {
			return out, nil
		}
		b, err := s.Bytes()
		next := s.Next()
		s.Release()
		if err != nil {
			return out, err
		}
		last := protocol.NoOffset
		for len(b) > 0 {
			batch, rest, err := record.Split(b)
			if err == nil {
				err = batch.Check()
			}
			if err != nil {
				return out, fmt.Errorf("read from %d: %w", from, err)
			}
			for r, err := range batch.Records(1 << 20) {
				if err != nil {
					return out, err
				}
				if r.Offset >= from && !batch.Control() {
					out = append(out, entry{r.Offset, string(r.Value)})
				}
			}
			last, b = batch.LastOffset(), rest
		}
		if next != last+1 || next <= from {
			return out, fmt.Errorf("read from %d: slice ends at %d, its last batch at %d", from, next, last)
		}
		from = next
	}
	return out, nil
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func wantErr(tb testing.TB, err, want error) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Fatalf("error is %v, want %v", err, want)
	}
}
