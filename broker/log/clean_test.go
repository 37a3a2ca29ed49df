package log_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// keyed is a batch of one record.
func keyed(id protocol.ProducerID, sequence int32, ts protocol.Timestamp, key, value string) record.Batch {
	b := record.NewBuilder(0)
	if id >= 0 {
		b.ProducerID, b.ProducerEpoch, b.BaseSequence = id, 0, sequence
	}
	b.Add(record.Record{Timestamp: ts, Key: []byte(key), Value: []byte(value)})
	return b.Bytes()
}

func (p *part) put(b record.Batch) log.AppendInfo {
	p.w.tb.Helper()
	first := p.Segments() == 0
	info := must(p.Append(b, 1, log.AppendOptions{Now: p.w.ms(), Client: true}))(p.w.tb)
	if first {
		p.flush() // a log does not roll before its first commit
	}
	return info
}

// all: everything but the active segment may be cleaned, and is due.
func (p *part) all() log.CleanRules {
	return log.CleanRules{Stable: p.LastStable(p.Durable()), DeleteRetention: time.Hour}
}

func (p *part) clean() log.CleanStats {
	p.w.tb.Helper()
	p.flush()
	return must(p.Clean(p.all(), plenty, noPace))(p.w.tb)
}

// filler rolls the segments so that what was written before may be cleaned.
func (p *part) filler(n int) {
	p.w.tb.Helper()
	for i := range n {
		p.put(keyed(-1, 0, p.w.ms(), fmt.Sprintf("filler-%d", i%7), strings.Repeat("f", 300)))
	}
}

func TestARestartAfterCompactionStillKnowsEachProducersSequence(t *testing.T) {
	for _, lose := range []string{"nothing", "snapshots", "snapshots and checkpoints"} {
		t.Run(lose, func(t *testing.T) {
			fsys := vfs.NewMem()
			w := start(t, fsys)
			p := w.open(cleanConfig)
			const producers = 20
			places := map[protocol.ProducerID]log.AppendInfo{}
			for sequence := range int32(10) {
				for id := range protocol.ProducerID(producers) {
					places[id] = p.put(keyed(id, sequence, w.ms(), "the one key", "v"))
				}
			}
			p.filler(60)
			stats := p.clean()
			if stats.RecordsKept > 60 || p.readAll()[0].value == "v" && p.readAll()[1].value == "v" {
				t.Fatalf("%+v", stats)
			}
			check(t, w.dir.Close(false))
			for _, e := range must(fsys.List(path.Join(dataDir, "t-0")))(t) {
				if strings.HasSuffix(e.Name, ".snapshot") && lose != "nothing" {
					check(t, fsys.Remove(path.Join(dataDir, "t-0", e.Name)))
				}
			}
			if lose == "snapshots and checkpoints" {
				for _, name := range []string{"recovery-point-offset-checkpoint", "cleaner-offset-checkpoint"} {
					check(t, fsys.Remove(path.Join(dataDir, name)))
				}
			}
			w = start(t, fsys, boot("boot-2"))
			p = w.open(cleanConfig)
			for id := range protocol.ProducerID(producers) {
				again := p.put(keyed(id, 9, w.ms(), "the one key", "v"))
				if !again.Duplicate || again.First != places[id].First {
					t.Errorf("producer %d: its last batch again is at %d, duplicate %t; it was at %d", id, again.First, again.Duplicate, places[id].First)
				}
				if _, err := p.Append(keyed(id, 11, w.ms(), "k", "v"), 1, log.AppendOptions{Now: w.ms(), Client: true}); !errors.Is(err, producer.ErrOutOfOrderSequence) {
					t.Errorf("producer %d: a gap: %v", id, err)
				}
				if next := p.put(keyed(id, 10, w.ms(), "k", "v")); next.Duplicate {
					t.Errorf("producer %d: its next batch is taken for a duplicate", id)
				}
			}
			check(t, w.dir.Close(true))
		})
	}
}

func TestReadersOfAReplacedSegmentReadOnInItsOldFiles(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(cleanConfig)
	for range 3 {
		p.filler(30)
	}
	p.flush()
	var held []log.Slice
	var before [][]byte
	for at := p.Start(); at < p.LEO(); {
		s := must(p.Read(at, p.LEO(), 1000, true))(t)
		held, before = append(held, s), append(before, must(s.Bytes())(t))
		at = s.Next()
	}
	sealed := must(p.Sealed(0, p.LEO()))(t)
	upload := must(p.OpenSealed(sealed[0]))(t)
	first := make([]byte, sealed[0].Bytes)
	must(upload.ReadAt(first, 0))(t)

	for range 2 { // two lives of the same base are held at a time
		if stats := p.clean(); stats.Groups == 0 {
			t.Fatalf("%+v", stats)
		}
		p.filler(30)
	}
	for i, s := range held {
		if !bytes.Equal(must(s.Bytes())(t), before[i]) {
			t.Errorf("slice %d shows other bytes", i)
		}
		s.Release()
	}
	after := make([]byte, sealed[0].Bytes)
	must(upload.ReadAt(after, 0))(t)
	if !bytes.Equal(first, after) {
		t.Error("the range that is uploaded shows other bytes")
	}
	check(t, upload.Close())
	if _, err := p.OpenSealed(sealed[0]); !errors.Is(err, log.ErrOffsetOutOfRange) {
		t.Errorf("a range of before the cleaning: %v", err)
	}
	for _, e := range must(fsys.List(path.Join(dataDir, "t-0")))(t) {
		if strings.HasSuffix(e.Name, ".deleted") {
			t.Errorf("%s is left", e.Name)
		}
	}
	check(t, w.dir.Close(true))
}

// Run with -race: readers, an appender and the cleaner at a time.
func TestReadersAndAppendsGoOnWhileALogIsCleaned(t *testing.T) {
	w := start(t, vfs.NewMem())
	p := w.open(cleanConfig)
	p.filler(50)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for !stop.Load() {
				if _, err := p.tryReadAll(p.Start(), p.LEO(), 700); err != nil {
					t.Error(err)
					return
				}
				for _, look := range []func() error{
					func() error { _, _, err := p.OffsetForTime(w.ms(), p.Start(), p.LEO()); return err },
					func() error { _, _, err := p.MaxTimestamp(p.Start(), p.LEO()); return err },
					func() error { _, err := p.Aborted(p.Start(), p.LEO()); return err },
				} {
					if err := look(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for range 40 {
		w.clock.Add(10)
		p.filler(10)
		p.clean()
	}
	stop.Store(true)
	wg.Wait()
	if p.Segments() > 6 {
		t.Errorf("%d segments are left", p.Segments())
	}
	check(t, w.dir.Close(true))
}

func TestSmallSegmentsBecomeOneAndTheActiveOneIsNeverTouched(t *testing.T) {
	w := start(t, vfs.NewMem())
	p := w.open(cleanConfig)
	p.filler(200)
	p.flush()
	before, size := p.Segments(), p.Size()
	p.clean()
	p.filler(30)
	stats := p.clean() // what became small goes together now
	if p.Segments() > 12 || before < 20 || p.Size() >= size/5 || stats.DirtyLeft {
		t.Errorf("%d segments of %d bytes became %d of %d: %+v", before, size, p.Segments(), p.Size(), stats)
	}
	if got := p.readAll(); got[len(got)-1].offset != p.LEO()-1 {
		t.Errorf("the last record is at %d, log end %d", got[len(got)-1].offset, p.LEO())
	}
	if stats := p.clean(); stats.Groups > 0 || stats.BatchesRead > 0 {
		t.Errorf("nothing is dirty, and it was cleaned: %+v", stats)
	}
	check(t, w.dir.Close(true))
}

func TestASegmentOfWhichAllStaysIsNotWrittenAgain(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(cleanConfig)
	for i := range 100 {
		p.put(keyed(-1, 0, w.ms(), fmt.Sprintf("key-%d", i), strings.Repeat("x", 600)))
	}
	p.flush()
	renames := fsys.Counts()[vfs.OpRename]
	stats := p.clean()
	if stats.Groups != 0 || stats.RecordsKept == 0 || fsys.Counts()[vfs.OpRename] > renames+6 { // the checkpoints
		t.Errorf("%d renames: %+v", fsys.Counts()[vfs.OpRename]-renames, stats)
	}
	check(t, w.dir.Close(true))
}

func TestWhatIsTruncatedAndWrittenAnewIsDirtyAgain(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(cleanConfig)
	p.filler(60)
	p.clean()
	cut := p.LEO() / 2
	check(t, p.Truncate(cut))
	p.filler(60)
	p.flush()
	if d := must(p.Dirt(p.all(), w.now()))(t); d.First > cut || d.DirtyBytes == 0 {
		t.Errorf("%+v after a truncation to %d", d, cut)
	}
	// Also for a start after a power cut.
	w = start(t, fsys.Crash(vfs.DropAll), boot("boot-2"))
	p = w.open(cleanConfig)
	if d := must(p.Dirt(p.all(), w.now()))(t); d.First > cut {
		t.Errorf("%+v after a truncation to %d and a start", d, cut)
	}
	check(t, p.TruncateFully(log.Init{Start: 5}))
	p.filler(60)
	p.flush()
	if d := must(p.Dirt(p.all(), w.now()))(t); d.First != 5 {
		t.Errorf("%+v of a log that began anew at 5", d)
	}
	check(t, w.dir.Close(true))
}

func TestTheCleanersCheckpointIsKafkasAndNoMoreThanAHint(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(cleanConfig)
	p.filler(60)
	to := p.clean().To
	name := path.Join(dataDir, "cleaner-offset-checkpoint")
	if got := string(must(vfs.ReadFile(fsys, name))(t)); got != fmt.Sprintf("0\n1\nt 0 %d\n", to) {
		t.Errorf("checkpoint %q", got)
	}
	check(t, w.dir.Close(true))
	for _, content := range []string{"0\n1\nt 0 999999\n", "nonsense", ""} {
		check(t, vfs.WriteFileAtomic(fsys, name, []byte(content)))
		w = start(t, fsys)
		p = w.open(cleanConfig)
		if d := must(p.Dirt(p.all(), w.now()))(t); d.First != 0 || d.DirtyBytes == 0 {
			t.Errorf("checkpoint %q: %+v", content, d)
		}
		p.clean()
		check(t, w.dir.Close(true))
	}
	w = start(t, fsys)
	p = w.open(cleanConfig)
	if d := must(p.Dirt(p.all(), w.now()))(t); d.First != to {
		t.Errorf("after a start: %+v, was clean to %d", d, to)
	}
	check(t, w.dir.Close(true))
}

func TestWhatMayBeCleanedEndsAtTheLagTheStableOffsetAndTheActiveSegment(t *testing.T) {
	w := start(t, vfs.NewMem())
	p := w.open(cleanConfig)
	old := w.clock.Load()
	p.filler(30)
	middle := p.LEO()
	w.clock.Add(10_000)
	p.filler(30)
	p.flush()
	dirt := func(change func(*log.CleanRules)) log.Dirt {
		rules := p.all()
		change(&rules)
		return must(p.Dirt(rules, w.now()))(t)
	}
	all := dirt(func(*log.CleanRules) {})
	if all.First != 0 || all.End >= p.LEO() || all.End < p.LEO()-8 || all.Ratio() != 1 || all.Overdue != 0 {
		t.Errorf("all: %+v, log end %d", all, p.LEO())
	}
	if d := dirt(func(r *log.CleanRules) { r.MinLag = 5 * time.Second }); d.End > middle || d.End < middle-8 {
		t.Errorf("min lag: %+v, want up to about %d", d, middle)
	}
	if d := dirt(func(r *log.CleanRules) { r.Stable = 7 }); d.End > 7 || d.End == 0 {
		t.Errorf("stable offset 7: %+v", d)
	}
	if d := dirt(func(r *log.CleanRules) { r.MaxLag = 4 * time.Second }); d.Overdue != time.Duration(w.clock.Load()-old)*time.Millisecond-4*time.Second {
		t.Errorf("max lag: %+v", d)
	}
	check(t, w.dir.Close(true))
}

func TestLookUpByTimeIsRightAfterCompaction(t *testing.T) {
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 5))
		w := start(t, vfs.NewMem())
		p := w.open(cleanConfig)
		for range 300 {
			ts := protocol.Timestamp(rng.IntN(5000))
			if rng.IntN(10) == 0 {
				ts = protocol.NoTimestamp
			}
			p.put(keyed(protocol.ProducerID(-1), 0, ts, fmt.Sprint(rng.IntN(50)), strings.Repeat("x", rng.IntN(50))))
		}
		p.clean()
		var all []log.TimedOffset
		for at := p.Start(); at < p.LEO(); {
			s := must(p.Read(at, p.LEO(), 1<<20, true))(t)
			b := must(s.Bytes())(t)
			at = s.Next()
			s.Release()
			for len(b) > 0 {
				batch, rest, err := record.Split(b)
				check(t, err)
				for r := range batch.Records(1 << 20) {
					all = append(all, log.TimedOffset{Offset: r.Offset, Timestamp: r.Timestamp, Epoch: 1})
				}
				b = rest
			}
		}
		for range 200 {
			ts := protocol.Timestamp(rng.IntN(5100))
			i := slices.IndexFunc(all, func(o log.TimedOffset) bool { return o.Timestamp >= ts })
			got, ok, err := p.OffsetForTime(ts, p.Start(), p.LEO())
			check(t, err)
			if ok != (i >= 0) || ok && got != all[i] {
				t.Fatalf("seed %d: time %d is at %+v, %t, want record %d", seed, ts, got, ok, i)
			}
		}
		want := all[0]
		for _, o := range all {
			if o.Timestamp > want.Timestamp {
				want = o
			}
		}
		if got, ok, err := p.MaxTimestamp(p.Start(), p.LEO()); err != nil || !ok || got != want {
			t.Fatalf("seed %d: max timestamp at %+v, %t, %v, want %+v", seed, got, ok, err, want)
		}
		check(t, w.dir.Close(true))
	}
}

func TestALogThatCannotBeReadIsSetApartAndTheOthersAreCleaned(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	bad := w.open(cleanConfig)
	good := must(w.tryOpen("u", protocol.PartitionKey{Topic: protocol.TopicID{9}}, cleanConfig, log.Init{}))(t)
	for _, p := range []*part{bad, good} {
		p.filler(60)
		p.flush()
	}
	f := must(fsys.Open(path.Join(dataDir, "t-0", "00000000000000000000.log"), false))(t)
	must(f.WriteAt([]byte("?"), 200))(t)
	check(t, f.Close())
	size := bad.Size()
	c := log.NewCleaner(log.CleanerConfig{
		Threads: 1, Logger: slog.New(slog.DiscardHandler),
		Settings: func() log.CleanerSettings { return log.CleanerSettings{Memory: plenty} },
		Targets: func(yield func(log.CleanTarget) bool) {
			for _, p := range []*part{bad, good} {
				if !yield(log.CleanTarget{Log: p.Log, Rules: p.all()}) {
					return
				}
			}
		},
	})
	for range 3 {
		c.Once(context.Background())
	}
	s := c.Stats()
	if s.Uncleanable != 1 || s.UncleanableBytes != size || s.Passes != 1 || bad.Size() != size || good.Size() > size/2 {
		t.Errorf("%+v, sizes %d, %d and %d", s, size, bad.Size(), good.Size())
	}
	check(t, w.dir.Close(false))
}

func TestCleaningKeepsToItsPaceAndEndsWhenTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, vfs.NewMem())
		p := w.open(cleanConfig)
		p.filler(200)
		p.flush()
		bytes := p.Size()
		c := log.NewCleaner(log.CleanerConfig{
			Threads: 1, Logger: slog.New(slog.DiscardHandler),
			Settings: func() log.CleanerSettings {
				return log.CleanerSettings{Memory: plenty, BytesPerSecond: 1000, Backoff: time.Second}
			},
			Targets: func(yield func(log.CleanTarget) bool) { yield(log.CleanTarget{Log: p.Log, Rules: p.all()}) },
		})
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		c.Run(ctx)
		cancel()
		if took := time.Since(began); took > 11*time.Second || p.Size() != bytes {
			t.Errorf("ended after %v, %d bytes of %d are left", took, p.Size(), bytes)
		}
		began = time.Now()
		if !c.Once(t.Context()) || p.Size() >= bytes {
			t.Error("not cleaned")
		}
		// Read for the keys, read again, and the little that stays written.
		if took, least := time.Since(began).Seconds(), 2*float64(bytes)/1000*0.9; took < least || took > 1.4*least {
			t.Errorf("%d bytes took %f s at 1000 bytes a second", bytes, took)
		}
		check(t, w.dir.Close(true))
	})
}
