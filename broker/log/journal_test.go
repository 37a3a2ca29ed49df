package log_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

const (
	journalFolder = dataDir + "/strata-journal"
	block         = 4096
)

func TestJournalBytes(t *testing.T) {
	id := [16]byte{0xa, 0xb}
	key := protocol.PartitionKey{Topic: protocol.TopicID{1, 2, 3}, Partition: 7}
	b := log.EncodeJournal(id, 5, log.JournalEntry{Key: key, From: 9, To: 11, Batches: []byte("batch")}, log.JournalEntry{Key: key, From: 3, Epoch: 4})
	if len(b) != 2*block {
		t.Fatalf("%d bytes", len(b))
	}
	for _, c := range []struct {
		at   int
		want string
	}{
		{0, "7374726174614a4c" + "00000001" + "0000000000000005" + "0a0b0000000000000000000000000000" + "86c288e6"},
		{block, "73744a52" + "860659e6" + "0a0b0000000000000000000000000000" + "0000000000000005" + "0000004f" + "00000002"},
		{block + 40, "01" + "01020300000000000000000000000000" + "00000007" + "0000000000000009" + "000000000000000b" + "00000005" + hex.EncodeToString([]byte("batch"))},
		{block + 86, "02" + "01020300000000000000000000000000" + "00000007" + "0000000000000003" + "00000004" + "0000000000"},
	} {
		if got := hex.EncodeToString(b[c.at : c.at+len(c.want)/2]); got != c.want {
			t.Errorf("at byte %d: %s, want %s", c.at, got, c.want)
		}
	}
	number, entries, ok := log.DecodeRound(b[block:])
	if !ok || number != 5 || len(entries) != 2 || string(entries[0].Batches) != "batch" || entries[1].From != 3 || entries[1].Epoch != 4 {
		t.Errorf("read %d, %+v, %t", number, entries, ok)
	}
}

func FuzzJournalRound(f *testing.F) {
	key := protocol.PartitionKey{Topic: topicID, Partition: 1}
	f.Add(log.EncodeJournal([16]byte{1}, 1, log.JournalEntry{Key: key, From: 1, To: 2, Batches: []byte("b")}, log.JournalEntry{Key: key, From: 3, Epoch: 4})[block:])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = log.ParseJournalHeader(b)
		if len(b) >= 40 { // else nothing but the seed gets beyond the CRC
			if n := 40 + int(binary.BigEndian.Uint32(b[32:])); n <= len(b) {
				binary.BigEndian.PutUint32(b[4:], record.CRC(b[8:n]))
			}
		}
		number, entries, ok := log.DecodeRound(b)
		if !ok {
			return
		}
		again := log.EncodeJournal([16]byte(b[8:24]), number, entries...)[block:]
		if n := 40 + int(binary.BigEndian.Uint32(b[32:])); !bytes.Equal(again[:n], b[:n]) { // what follows is padding
			t.Errorf("%x became %x", b, again)
		}
	})
}

// journaled opens a directory that commits through the journal, with one committed batch in each log.
func journaled(t *testing.T, fsys vfs.FS, logs int, options ...option) (*world, []*part) {
	t.Helper()
	w := start(t, fsys, append([]option{commitBy(log.CommitJournal)}, options...)...)
	parts := make([]*part, logs)
	for i := range parts {
		parts[i] = w.open2(t, int32(i))
		parts[i].add(1, "first")
		parts[i].flush()
	}
	return w, parts
}

// twoRounds leaves a journal of two rounds, with the offset 1 and 2, that the file has lost.
func twoRounds(t *testing.T) (left *vfs.Mem, file string) {
	t.Helper()
	fsys := vfs.NewMem()
	w, p := journaled(t, fsys, 1)
	for _, v := range []string{"second", "third"} {
		p[0].add(1, v)
		p[0].flush()
	}
	if p[0].RecoveryPoint() != 1 || p[0].Durable() != 3 {
		t.Fatalf("recovery point %d, durable offset %d", p[0].RecoveryPoint(), p[0].Durable())
	}
	left = fsys.Crash(vfs.DropAll)
	check(t, w.dir.Close(false))
	entries := must(left.List(journalFolder))(t)
	return left, path.Join(journalFolder, entries[0].Name)
}

func damageByte(t *testing.T, fsys vfs.FS, file string, at int64) {
	t.Helper()
	f := must(fsys.Open(file, false))(t)
	_, err := f.WriteAt([]byte{0xff}, at)
	check(t, errors.Join(err, f.Sync(), f.Close()))
}

func TestTheJournalEndsAtATornRoundAndRefusesDamageBeforeAnother(t *testing.T) {
	for _, c := range []struct {
		name string
		at   int64 // damaged byte
		want string
		leo  protocol.Offset
	}{
		{"the last round's header", 2 * block, "", 2},
		{"the last round's entries", 2*block + 100, "", 2},
		{"after the last round", 3 * block, "", 3},
		{"a round before another", block + 100, "at byte 4096: round 1 is damaged, round 2 after it is whole", 0},
		{"the header of a segment with rounds", 20, "at byte 4096: round 1 is damaged, round 1 after it is whole", 0},
	} {
		left, file := twoRounds(t)
		damageByte(t, left, file, c.at)
		w, err := tryStart(t, left, boot("boot-2"))
		if c.want != "" {
			if !errors.Is(err, log.ErrJournal) || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		check(t, err)
		p := w.open2(t, 0)
		if p.LEO() != c.leo || p.recovery.Unclean || p.recovery.JournaledBytes == 0 {
			t.Errorf("%s: log end %d, %+v", c.name, p.LEO(), p.recovery)
		}
		check(t, w.dir.Close(false))
	}
}

func TestAMissingJournalSegmentIsRefused(t *testing.T) {
	fsys := vfs.NewMem()
	w, p := journaled(t, fsys, 1)
	w.dir.SetJournal(1<<20, 2*block, block, block, time.Hour)
	for range 3 {
		p[0].add(1, "v")
		p[0].flush()
	}
	left := fsys.Kill()
	check(t, w.dir.Close(false))
	segments := must(left.List(journalFolder))(t)
	if len(segments) < 3 { // and one that was prepared
		t.Fatalf("%d segments", len(segments))
	}
	check(t, left.Remove(path.Join(journalFolder, segments[1].Name)))
	_, err := tryStart(t, left)
	if !errors.Is(err, log.ErrJournal) || !strings.Contains(err.Error(), segments[2].Name) {
		t.Errorf("%v", err)
	}
}

func TestALogThatLostSyncedBytesIsReportedAndNotPatched(t *testing.T) {
	left, _ := twoRounds(t)
	segment := dataDir + "/t-0/00000000000000000000.log"
	f := must(left.Open(segment, false))(t)
	check(t, errors.Join(f.Truncate(0), f.Sync(), f.Close()))
	for round := range 2 { // the reset makes the second start a quiet one
		w := start(t, left, boot("boot-2"))
		p := w.open2(t, 0)
		if p.LEO() != 0 || p.recovery.Unclean != (round == 0) || round == 0 && (p.recovery.CutFrom != 0 || p.recovery.CutTo != 3) {
			t.Errorf("start %d: log end %d, %+v", round, p.LEO(), p.recovery)
		}
		check(t, w.dir.Close(false))
	}
}

// TestTheJournalRestoresWhatAFailedWriteBackLost: in the same boot a bad batch before a good one is
// corruption, unless all from there on is in the journal.
func TestTheJournalRestoresWhatAFailedWriteBackLost(t *testing.T) {
	for _, beyond := range []bool{false, true} {
		fsys := vfs.NewMem()
		w := start(t, fsys, commitBy(log.CommitAuto))
		p := w.open(log.Config{})
		values := []string{"first", "second", "third"}
		if beyond {
			values = append(values, strings.Repeat("x", log.JournalBacklog)) // goes by the file
		}
		for _, v := range values {
			p.add(1, v)
			p.flush()
		}
		left := fsys.Kill()
		check(t, w.dir.Close(false))
		damageByte(t, left, dataDir+"/t-0/00000000000000000000.log", 90)
		q, err := start(t, left).tryOpen("t", key, log.Config{}, log.Init{})
		if beyond {
			wantErr(t, err, log.ErrCorrupt)
			continue
		}
		check(t, err)
		if got := q.readAll(); len(got) != 3 || got[2].value != "third" || q.recovery.Torn || q.recovery.Unclean || q.recovery.JournaledBytes == 0 {
			t.Errorf("read %v, %+v", got, q.recovery)
		}
	}
}

func TestTheJournalKeepsItsBound(t *testing.T) {
	const bound, segment = 128 << 10, 16 << 10
	fsys := vfs.NewMem()
	w, parts := journaled(t, fsys, 20, func(c *log.DirConfig) { c.MaxOpenFiles = 100 })
	w.dir.SetJournal(bound, segment, 8<<10, 8<<10, time.Hour)
	var most int64
	for i := range 400 {
		for _, p := range parts {
			p.add(1, strings.Repeat("x", 300))
		}
		for _, p := range parts {
			p.flush()
		}
		n, _, _ := w.dir.JournalState()
		most = max(most, n)
		if n > bound+segment {
			t.Fatalf("%d bytes after %d rounds", n, i)
		}
	}
	left := fsys.Crash(vfs.DropAll)
	check(t, w.dir.Close(false))
	v := start(t, left, boot("boot-2"))
	_, live, places := v.dir.JournalState()
	if places > 20*(bound+segment)/block {
		t.Errorf("%d logs, %d entries are remembered", live, places)
	}
	for i := range parts {
		if p := v.open2(t, int32(i)); p.LEO() != 401 || p.recovery.Unclean {
			t.Fatalf("log end %d, %+v", p.LEO(), p.recovery)
		}
	}
	if _, live, places = v.dir.JournalState(); live+places > 0 {
		t.Errorf("%d logs, %d entries are remembered after all are open", live, places)
	}
	check(t, v.dir.Close(true))
	if files := must(left.List(journalFolder))(t); len(files) > 0 {
		t.Errorf("%v after a clean stop", files)
	}
	t.Logf("at most %d bytes of %d", most, bound)
}

func TestAQuietJournalIsEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		w, parts := journaled(t, fsys, 3)
		for _, p := range parts {
			p.add(1, "second")
			p.flush()
		}
		if n, live, _ := w.dir.JournalState(); n == 0 || live != 3 {
			t.Fatalf("%d bytes, %d logs", n, live)
		}
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if n, live, _ := w.dir.JournalState(); n != 0 || live != 0 {
			t.Errorf("%d bytes, %d logs", n, live)
		}
		if files := must(fsys.List(journalFolder))(t); len(files) > 0 {
			t.Errorf("%v", files)
		}
		for _, p := range parts {
			if p.RecoveryPoint() != 2 {
				t.Errorf("recovery point %d", p.RecoveryPoint())
			}
		}
		points := must(log.ParseOffsets(must(vfs.ReadFile(fsys, pointsFile))(t)))(t)
		if points["t-0"] != 2 {
			t.Errorf("recovery points %v", points)
		}
		parts[0].add(1, "third")
		parts[0].flush()
		if parts[0].RecoveryPoint() != 2 || parts[0].Durable() != 3 {
			t.Errorf("recovery point %d, durable offset %d", parts[0].RecoveryPoint(), parts[0].Durable())
		}
		check(t, w.dir.Close(true))
	})
}

func TestALogThatGoesOfflineDoesNotPinTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		w, parts := journaled(t, fsys, 3)
		for _, p := range parts {
			p.add(1, "second")
			p.flush()
		}
		broken := errors.New("I/O error")
		fsys.Fail(func(o vfs.Op) error { // neither the write nor its undoing: the log goes offline
			if strings.HasPrefix(o.Path, dataDir+"/t-1/") && (o.Kind == vfs.OpWrite || o.Kind == vfs.OpTruncate || o.Kind == vfs.OpSize) {
				return broken
			}
			return nil
		})
		_, err := parts[1].Append(plain(1, "third"), 1, log.AppendOptions{})
		wantErr(t, err, broken)
		_, err = parts[1].Append(plain(1, "third"), 1, log.AppendOptions{})
		wantErr(t, err, log.ErrOffline)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n, live, _ := w.dir.JournalState(); n != 0 || live != 0 {
			t.Errorf("%d bytes, %d logs", n, live)
		}
		if at := parts[1].RecoveryPoint(); at != 2 {
			t.Errorf("recovery point %d of the log that is offline", at)
		}
		v := start(t, fsys.Crash(vfs.DropAll), boot("boot-2"))
		if p := v.open2(t, 1); p.LEO() != 2 || p.recovery.Unclean {
			t.Errorf("log end %d after a power cut, %+v", p.LEO(), p.recovery)
		}
		check(t, v.dir.Close(true))
		_ = w.dir.Close(false)
	})
}

func TestADirectoryThatNeverNeedsAJournalHasNone(t *testing.T) {
	for _, c := range []log.CommitPath{log.CommitFile, log.CommitAuto} {
		fsys := vfs.NewMem()
		w := start(t, fsys, commitBy(c))
		p := w.open(log.Config{})
		for range 3 {
			p.add(1, strings.Repeat("x", log.JournalBacklog))
			p.flush()
		}
		if _, err := fsys.List(journalFolder); err == nil {
			t.Errorf("%s: there is a journal", c)
		}
		check(t, w.dir.Close(true))
	}
}

// journalFault lets operations on the journal fail while it is set.
type journalFault struct {
	kind vfs.OpKind
	set  atomic.Bool
	err  error
}

func (f *journalFault) hook(o vfs.Op) error {
	if f.set.Load() && o.Kind == f.kind && strings.HasPrefix(o.Path, journalFolder) {
		return f.err
	}
	return nil
}

func TestAJournalThatCannotBeWrittenLeavesItToTheFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		fault := &journalFault{kind: vfs.OpWrite, err: vfs.ErrNoSpace}
		fsys.Fail(fault.hook)
		w, parts := journaled(t, fsys, 3)
		fault.set.Store(true)
		for _, p := range parts {
			p.add(1, "second")
			p.flush()
			if p.RecoveryPoint() != 2 {
				t.Errorf("recovery point %d", p.RecoveryPoint())
			}
		}
		fault.set.Store(false)
		time.Sleep(time.Minute)
		parts[0].add(1, "third")
		parts[0].flush()
		if parts[0].RecoveryPoint() != 2 || parts[0].Durable() != 3 {
			t.Errorf("recovery point %d, durable offset %d a minute later", parts[0].RecoveryPoint(), parts[0].Durable())
		}
		check(t, w.dir.Close(true))
	})
}

func TestAFailedSyncOfTheJournalEndsTheProcess(t *testing.T) {
	fsys := vfs.NewMem()
	fault := &journalFault{kind: vfs.OpSync, err: errors.New("I/O error")}
	fsys.Fail(fault.hook)
	var ask func() error
	w, parts := journaled(t, fsys, 1, func(c *log.DirConfig) {
		end := c.OnFatal
		c.OnFatal = func(err error) {
			if err := ask(); errors.Is(err, log.ErrOffline) {
				t.Errorf("told before the process was ended: %v", err)
			}
			end(err)
		}
	})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	ask = func() error { return parts[0].Flush(gone) }
	fault.set.Store(true)
	parts[0].add(1, "second")
	wantErr(t, parts[0].Flush(t.Context()), log.ErrOffline)
	if err := w.fatal.Load(); err == nil || !errors.Is(*err, fault.err) || parts[0].Durable() != 1 {
		t.Errorf("durable offset %d", parts[0].Durable())
	}
	check(t, w.dir.Close(false))
}

func TestACorruptLogKeepsItsEntriesUntilItIsSetAside(t *testing.T) {
	fsys := vfs.NewMem()
	w, parts := journaled(t, fsys, 2)
	check(t, w.dir.Checkpoint())
	for _, p := range parts {
		p.add(1, "second")
		p.flush()
	}
	left := fsys.Crash(vfs.DropAll)
	check(t, w.dir.Close(false))
	damageByte(t, left, dataDir+"/t-0/00000000000000000000.log", 16) // the magic
	w = start(t, left, boot("boot-2"))
	_, err := w.tryOpen("t", crashKey(0), small, log.Init{})
	wantErr(t, err, log.ErrCorrupt)
	if p := w.open2(t, 1); p.LEO() != 2 {
		t.Errorf("log end %d", p.LEO())
	}
	w.dir.JournalIdle()
	if n, live, _ := w.dir.JournalState(); n == 0 || live != 1 {
		t.Errorf("%d bytes, %d logs", n, live)
	}
	check(t, w.dir.SetAside("t-0"))
	w.dir.JournalIdle()
	if n, live, _ := w.dir.JournalState(); n != 0 || live != 0 {
		t.Errorf("%d bytes, %d logs after it was set aside", n, live)
	}
	check(t, w.dir.Close(true))
}

func TestOneRoundServesManyLogs(t *testing.T) {
	fsys := vfs.NewMem()
	w, parts := journaled(t, fsys, 50, func(c *log.DirConfig) { c.MaxOpenFiles = 200 })
	entered, gate := make(chan struct{}, 100), make(chan struct{})
	var syncs atomic.Int64
	fsys.Fail(func(o vfs.Op) error {
		if o.Kind == vfs.OpSync {
			syncs.Add(1)
			entered <- struct{}{}
			<-gate
		}
		return nil
	})
	parts[0].add(1, "a")
	<-entered // the header of the first segment
	for _, p := range parts {
		p.add(1, "b")
	}
	close(gate)
	for i, p := range parts {
		p.waitFor("both appends", func() bool { return p.reported.Load() >= int64(2) && p.reported.Load() == int64(p.LEO()) })
		if i > 0 && p.RecoveryPoint() != 1 {
			t.Errorf("recovery point %d", p.RecoveryPoint())
		}
	}
	if n := syncs.Load(); n > 4 {
		t.Errorf("%d syncs", n)
	}
	check(t, w.dir.Close(false))
}

func TestAStartForgetsTheJournalOfPartitionsThatAreGone(t *testing.T) {
	left, _ := twoRounds(t)
	check(t, vfs.RemoveAll(left, dataDir+"/t-0"))
	check(t, left.SyncDir(dataDir))
	w := start(t, left, boot("boot-2"), commitBy(log.CommitJournal))
	p := w.open2(t, 0)
	if p.LEO() != 0 {
		t.Fatalf("log end %d", p.LEO())
	}
	p.add(1, "new") // where the old life's entry would continue
	p.flush()
	again := left.Crash(vfs.DropAll)
	check(t, w.dir.Close(false))
	q := start(t, again, boot("boot-3")).open2(t, 0)
	if got := q.readAll(); fmt.Sprint(got) != "[{0 new}]" {
		t.Errorf("read %v", got)
	}
}

func TestATruncationTellsOfWhatItMadeDurable(t *testing.T) {
	fsys := vfs.NewMem()
	w, parts := journaled(t, fsys, 1)
	p := parts[0]
	p.add(1, "second")
	p.flush() // in the journal
	hold := make(chan struct{})
	held, synced := make(chan struct{}, 10), make(chan struct{}, 10)
	fsys.Fail(func(o vfs.Op) error {
		if o.Kind == vfs.OpSync && o.Path == dataDir+"/t-0/00000000000000000000.log" {
			synced <- struct{}{}
		}
		if o.Kind == vfs.OpWrite && strings.HasPrefix(o.Path, journalFolder) {
			held <- struct{}{}
			<-hold
		}
		return nil
	})
	other := w.open2(t, 1)
	other.add(1, "first")
	other.waitFor("the first append", func() bool { return other.reported.Load() == 1 })
	other.add(1, "second")
	<-held // a round without p is under way: p's next append waits for the one after it
	p.add(1, "third")
	p.add(1, "fourth")
	truncated := make(chan error)
	go func() { truncated <- p.Truncate(3) }()
	<-synced // before the reset
	close(hold)
	check(t, <-truncated)
	// It may have been told of 4 while the file was synced for the cut: that was true then.
	p.waitFor("what the truncation made durable", func() bool { return p.reported.Load() >= 3 })
	if p.LEO() != 3 || p.Durable() != 3 {
		t.Errorf("log end %d, durable offset %d", p.LEO(), p.Durable())
	}
	check(t, w.dir.Close(true))
}

func TestTheJournalPinsNoMoreThanThreeQuartersOfTheFileHandles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		w, parts := journaled(t, fsys, 40, func(c *log.DirConfig) { c.MaxOpenFiles = 20 })
		for range 5 {
			for i, p := range parts {
				p.add(1, "v")
				p.flush()
				synctest.Wait() // until what is overdue is synced
				if _, live, _ := w.dir.JournalState(); live == 0 || live > 15 {
					t.Fatalf("the journal holds %d logs after log %d", live, i)
				}
			}
		}
		check(t, w.dir.Close(true))
		if n := fsys.OpenFiles(); n > 0 {
			t.Errorf("%d files are open", n)
		}
	})
}
