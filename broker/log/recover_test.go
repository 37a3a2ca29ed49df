package log_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

const firstLog = dataDir + "/t-0/00000000000000000000.log"

// written makes a log of ten batches of 100 records each in one segment, of
// which a checkpoint counts the first half as synced, and kills the process.
func written(t *testing.T, options ...option) *vfs.Mem {
	t.Helper()
	fsys := vfs.NewMem()
	w := start(t, fsys, options...)
	p := w.open(log.Config{IndexIntervalBytes: 64})
	for i := range 10 {
		p.add(protocol.Timestamp(i), strings.Repeat("v", 500), fmt.Sprint(i))
		if i == 4 {
			p.flush()
			check(t, w.dir.Checkpoint())
		}
	}
	p.flush()
	left := fsys.Kill()
	check(t, w.dir.Close(false))
	return left
}

// batchLen is the size of each of written's batches.
func batchLen(t *testing.T, fsys vfs.FS) int64 {
	t.Helper()
	b := must(vfs.ReadFile(fsys, firstLog))(t)
	return int64(len(b) / 10)
}

func damage(t *testing.T, fsys vfs.FS, name string, at int64, bytes ...byte) {
	t.Helper()
	f := must(fsys.Open(name, false))(t)
	_, err := f.WriteAt(bytes, at)
	check(t, err)
	check(t, f.Close())
}

func shorten(t *testing.T, fsys vfs.FS, name string, size int64) {
	t.Helper()
	f := must(fsys.Open(name, false))(t)
	check(t, f.Truncate(size))
	check(t, f.Close())
}

func TestABadBatchIsJudgedByRecoveryPointBootAndWhatFollows(t *testing.T) {
	for _, c := range []struct {
		name    string
		harm    func(fsys vfs.FS, n int64)
		boot    string
		corrupt bool
		from    protocol.Offset
		to      protocol.Offset // of the corruption
		leo     protocol.Offset
		torn    bool
		unclean bool
	}{
		{name: "nothing wrong", harm: func(vfs.FS, int64) {}, boot: "boot-1", leo: 20},
		{name: "a header below the recovery point, same boot", harm: func(f vfs.FS, n int64) { damage(t, f, firstLog, 3*n+16, 9) }, boot: "boot-1", corrupt: true, from: 6, to: 8},
		{name: "a header below the recovery point, rebooted", harm: func(f vfs.FS, n int64) { damage(t, f, firstLog, 3*n+16, 9) }, boot: "boot-2", corrupt: true, from: 6, to: 8},
		{name: "a length below the recovery point", harm: func(f vfs.FS, n int64) { damage(t, f, firstLog, 3*n+8, 0x7f) }, boot: "boot-2", corrupt: true, from: 6, to: 8},
		{name: "an offset below the recovery point that goes back", harm: func(f vfs.FS, n int64) { damage(t, f, firstLog, 3*n+7, 1) }, boot: "boot-1", corrupt: true, from: 6, to: 8},
		{name: "the last batch below the recovery point", harm: func(f vfs.FS, n int64) { damage(t, f, firstLog, 4*n+16, 9) }, boot: "boot-2", corrupt: true, from: 8, to: 10},
		{name: "above it with good ones after, same boot", harm: func(f vfs.FS, n int64) { damage(t, f, firstLog, 7*n+100, 'x') }, boot: "boot-1", corrupt: true, from: 14, to: 16},
		{name: "a lying length with good ones after, same boot", harm: func(f vfs.FS, n int64) { damage(t, f, firstLog, 7*n+8, 0x7f) }, boot: "boot-1", corrupt: true, from: 14, to: 16},
		{name: "above it with good ones after, rebooted", harm: func(f vfs.FS, n int64) { damage(t, f, firstLog, 7*n+100, 'x') }, boot: "boot-2", leo: 14, unclean: true},
		{name: "the last batch, same boot", harm: func(f vfs.FS, n int64) { damage(t, f, firstLog, 9*n+100, 'x') }, boot: "boot-1", leo: 18, torn: true},
		{name: "the last batch cut short, same boot", harm: func(f vfs.FS, n int64) { shorten(t, f, firstLog, 10*n-1) }, boot: "boot-1", leo: 18, torn: true},
		{name: "part of a header, same boot", harm: func(f vfs.FS, n int64) { shorten(t, f, firstLog, 9*n+11) }, boot: "boot-1", leo: 18, torn: true},
		{name: "the last batch, rebooted", harm: func(f vfs.FS, n int64) { damage(t, f, firstLog, 9*n+100, 'x') }, boot: "boot-2", leo: 18, unclean: true},
		{name: "zeros at the end, rebooted", harm: func(f vfs.FS, n int64) { shorten(t, f, firstLog, 12*n) }, boot: "boot-2", leo: 20, unclean: true},
		{name: "boot unknown", harm: func(f vfs.FS, n int64) { damage(t, f, firstLog, 9*n+100, 'x') }, boot: "", leo: 18, unclean: true},
		{name: "the file ends below the recovery point", harm: func(f vfs.FS, n int64) { shorten(t, f, firstLog, 4*n) }, boot: "boot-2", corrupt: true, from: 8, to: -1},
		{name: "the file is gone", harm: func(f vfs.FS, _ int64) { check(t, f.Remove(firstLog)) }, boot: "boot-2", corrupt: true, to: -1},
		{name: "partition.metadata is gone", harm: func(f vfs.FS, _ int64) { check(t, f.Remove(dataDir+"/t-0/partition.metadata")) }, boot: "boot-1", corrupt: true, to: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := written(t)
			c.harm(fsys, batchLen(t, fsys))
			w := start(t, fsys, boot(c.boot))
			p, err := w.tryOpen("t", key, small, log.Init{})
			if c.corrupt {
				var e *log.CorruptError
				wantErr(t, err, log.ErrCorrupt)
				if !errors.As(err, &e) || e.From != c.from || e.To != c.to {
					t.Fatalf("error %v, want offsets %d to %d", err, c.from, c.to)
				}
				return
			}
			check(t, err)
			r := p.recovery
			if p.LEO() != c.leo || r.Torn != c.torn || r.Unclean != c.unclean || (c.torn || c.unclean) && r.CutFrom != c.leo {
				t.Fatalf("log end %d, recovery %+v", p.LEO(), r)
			}
			p.add(1, "goes on")
			if got := p.readAll(); len(got) != int(c.leo)+1 {
				t.Fatalf("%d records", len(got))
			}
		})
	}
}

// TestRecordsBelowTheRecoveryPointAreNotRead: as in sealed segments, damage that no crash makes is left to
// who reads them; the log is neither cut nor offline. Where it is not sure what was synced, all is read.
func TestRecordsBelowTheRecoveryPointAreNotRead(t *testing.T) {
	fsys := written(t)
	n := batchLen(t, fsys)
	damage(t, fsys, firstLog, 3*n+100, 'x')
	for _, id := range []string{"boot-1", "boot-2"} {
		left := fsys.Kill()
		p := start(t, left, boot(id)).open(small)
		if r := p.recovery; p.LEO() != 20 || r.ScannedBytes != 5*n || r.Torn || r.Unclean {
			t.Errorf("%s: log end %d, recovery %+v", id, p.LEO(), r)
		}
		if _, err := p.tryReadAll(0, 20, 10_000); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("%s: read: %v", id, err)
		}
		if got := must(p.tryReadAll(8, 20, 10_000))(t); len(got) != 12 {
			t.Errorf("%s: %d records from the batch after it", id, len(got))
		}
	}
	damage(t, fsys, firstLog, 7*n+100, 'x')
	for _, from := range []protocol.Offset{14, 6} { // the second start knows that the file is not as it should be
		_, err := start(t, fsys).tryOpen("t", key, small, log.Init{})
		var e *log.CorruptError
		if !errors.As(err, &e) || e.From != from || e.To != from+2 {
			t.Fatalf("error %v, want offsets from %d", err, from)
		}
	}
}

func TestALogFoundCorruptIsNeverCutByALaterReboot(t *testing.T) {
	fsys := written(t)
	damage(t, fsys, firstLog, 7*batchLen(t, fsys)+100, 'x')
	size := len(must(vfs.ReadFile(fsys, firstLog))(t))
	for _, id := range []string{"boot-1", "boot-2", "boot-3"} {
		w := start(t, fsys, boot(id))
		_, err := w.tryOpen("t", key, small, log.Init{})
		wantErr(t, err, log.ErrCorrupt)
		check(t, w.dir.Checkpoint())
		check(t, w.dir.Close(true))
	}
	if n := len(must(vfs.ReadFile(fsys, firstLog))(t)); n != size {
		t.Fatalf("the file was cut from %d to %d", size, n)
	}
	w := start(t, fsys)
	check(t, w.dir.SetAside("t-0"))
	p := w.open(small)
	p.add(1, "anew")
	if p.LEO() != 1 {
		t.Fatalf("log end %d", p.LEO())
	}
}

func TestALostRecoveryPointFileNeverCutsMoreThanATornEnd(t *testing.T) {
	fsys := written(t)
	damage(t, fsys, dataDir+"/recovery-point-offset-checkpoint", 0, 'x')
	damage(t, fsys, firstLog, 3*batchLen(t, fsys)+100, 'x')
	w := start(t, fsys, boot("boot-2"))
	_, err := w.tryOpen("t", key, small, log.Init{})
	wantErr(t, err, log.ErrCorrupt)
}

func TestIndexesEpochsAndSnapshotsAreRebuilt(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(small)
	for i := range 100 {
		b := idempotent(7, 0, int32(i), strings.Repeat("v", 200))
		must(p.Append(b, protocol.Epoch(i/30), log.AppendOptions{Now: w.ms(), Client: true}))(t)
	}
	epochs, segments := p.Epochs(), p.Segments()
	check(t, w.dir.Close(true))
	entries := must(fsys.List(dataDir + "/t-0"))(t)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name, ".log") && e.Name != "partition.metadata" {
			check(t, fsys.Remove(dataDir+"/t-0/"+e.Name))
		}
	}
	for round := range 2 {
		w = start(t, fsys)
		p = w.open(small)
		if round == 0 && p.recovery.Clean {
			t.Fatal("a log without indexes was taken for clean")
		}
		if got := p.Epochs(); fmt.Sprint(got) != fmt.Sprint(epochs) || p.Segments() != segments || len(p.readAll()) != 100 {
			t.Fatalf("epochs %v, want %v; %d segments", got, epochs, p.Segments())
		}
		for _, sequence := range []int32{95, 99} {
			info := must(p.Append(idempotent(7, 0, sequence, "v"), 9, log.AppendOptions{Client: true}))(t)
			if !info.Duplicate || info.First != protocol.Offset(sequence) {
				t.Fatalf("repeat gave %+v", info)
			}
		}
		check(t, w.dir.Close(true))
	}
}

func TestProducerStateBelowTheStartIsAskedForNotTakenAsEmpty(t *testing.T) {
	make50 := func() *vfs.Mem {
		fsys := vfs.NewMem()
		w := start(t, fsys)
		p := must(w.tryOpen("t", key, small, log.Init{Start: 50}))(t)
		p.add(1, "a")
		check(t, w.dir.Close(true))
		check(t, fsys.Remove(dataDir+"/t-0/00000000000000000050.snapshot"))
		check(t, fsys.Remove(dataDir+"/t-0/00000000000000000051.snapshot"))
		return fsys
	}
	p := start(t, make50()).open(small)
	if p.recovery.ProducersUnknownBelow != 50 {
		t.Fatalf("recovery %+v", p.recovery)
	}
	w := start(t, vfs.NewMem())
	q := w.open(small)
	must(q.Append(idempotent(3, 0, 0, "x"), 0, log.AppendOptions{Client: true}))(t)
	asked := protocol.NoOffset
	r := must(start(t, make50()).tryOpen("t", key, small, log.Init{Rebuild: func(at protocol.Offset) ([]byte, error) {
		asked = at
		return q.ProducerState().Encode(), nil
	}}))(t)
	if asked != 50 || r.recovery.ProducersUnknownBelow != 0 || r.ProducerState().Len() != 1 {
		t.Fatalf("asked at %d, recovery %+v", asked, r.recovery)
	}
	nobody := must(start(t, make50()).tryOpen("t", key, small, log.Init{Rebuild: func(protocol.Offset) ([]byte, error) { return nil, nil }}))(t)
	if nobody.recovery.ProducersUnknownBelow != 50 {
		t.Fatalf("where no object knows the state: recovery %+v", nobody.recovery)
	}
}

func TestAFailedSyncShowsWhatTheDiskHoldsAfterTheRestart(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(small)
	p.add(1, "durable")
	p.flush()
	broken := errors.New("I/O error")
	fsys.Fail(func(o vfs.Op) error {
		if o.Kind == vfs.OpSync {
			return broken
		}
		return nil
	})
	p.add(2, "lost")
	wantErr(t, p.Flush(t.Context()), log.ErrOffline)
	if err := w.fatal.Load(); err == nil || !errors.Is(*err, broken) {
		t.Fatalf("the process was not ended: %v", err)
	}
	if p.Durable() != 1 {
		t.Fatalf("durable offset %d", p.Durable())
	}
	_, err := p.Append(plain(1, "more"), 1, log.AppendOptions{})
	wantErr(t, err, log.ErrOffline)
	check(t, w.dir.Close(false))
	q := start(t, fsys.Kill()).open(small)
	if got := q.readAll(); len(got) != 1 || got[0].value != "durable" {
		t.Fatalf("read %v", got)
	}
}

// TestAFailedSyncAboveTheRecoveryPoint: below it the cache is believed, and the block in which both lie is read anew.
func TestAFailedSyncAboveTheRecoveryPoint(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(log.Config{})
	for range 20 {
		p.add(1, strings.Repeat("d", 500))
	}
	p.flush()
	check(t, w.dir.Checkpoint())
	appended := make(chan struct{})
	fsys.Fail(func(o vfs.Op) error {
		if o.Kind == vfs.OpSync {
			<-appended
			return errors.New("I/O error")
		}
		return nil
	})
	for range 20 {
		p.add(1, strings.Repeat("l", 500))
	}
	close(appended)
	wantErr(t, p.Flush(t.Context()), log.ErrOffline)
	check(t, w.dir.Close(false))
	q := start(t, fsys.Kill()).open(log.Config{})
	if got := q.readAll(); len(got) != 20 || got[19].value[0] != 'd' || !q.recovery.Torn {
		t.Fatalf("%d records, recovery %+v", len(got), q.recovery)
	}
}

func TestADirectoryThatIsGoneIsReportedByItsHighWatermark(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(small)
	p.add(1, "a", "b", "c")
	p.flush()
	p.SetHighWatermark(3)
	other := w.open2(t, 1)
	other.add(1, "a")
	other.flush()
	check(t, w.dir.Checkpoint())
	left := fsys.Kill()
	check(t, w.dir.Close(false))
	check(t, vfs.RemoveAll(left, dataDir+"/t-0"))
	w = start(t, left)
	p = w.open(small)
	if r := p.recovery; r.Existed || r.HighWatermark != 3 || p.LEO() != 0 {
		t.Fatalf("log end %d, recovery %+v", p.LEO(), r)
	}
	// What was deleted on purpose is not lost.
	other = w.open2(t, 1)
	other.SetHighWatermark(1)
	check(t, w.dir.Checkpoint())
	check(t, other.Delete())
	if again := w.open2(t, 1); again.recovery.HighWatermark != 0 {
		t.Fatalf("recovery %+v", again.recovery)
	}
	check(t, w.dir.Close(true))
}

// TestALogEmptiedJustBeforeACrashMayBeginAnewInTheNextCrash: the crash took the segment that the log was to begin
// anew with, and the next one came while its files were being made again.
func TestALogEmptiedJustBeforeACrashMayBeginAnewInTheNextCrash(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(small)
	p.add(1, "a")
	p.flush()
	check(t, w.dir.Checkpoint())
	check(t, p.TruncateFully(log.Init{}))
	left := fsys.Kill()
	check(t, w.dir.Close(false))
	check(t, left.Remove(firstLog))
	w = start(t, left, boot("boot-2"))
	p = w.open(small)
	p.add(1, "b")
	again := left.Kill()
	check(t, w.dir.Close(false))
	shorten(t, again, dataDir+"/t-0/partition.metadata", 20)
	p = start(t, again, boot("boot-3")).open(small)
	if p.LEO() != 0 {
		t.Errorf("log end %d", p.LEO())
	}
}
