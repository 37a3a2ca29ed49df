package log_test

import (
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

// rolled commits until the journal has rolled a few times.
func rolled(t *testing.T, w *world, p *part) {
	t.Helper()
	w.dir.SetJournal(1<<20, 8*block, 8*block, block, time.Hour)
	for range 20 {
		p.add(1, "v")
		p.flush()
	}
}

func TestTheNextJournalSegmentIsPreparedAndGoesAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, torn := range []bool{false, true} {
			fsys := vfs.NewMem()
			w, p := journaled(t, fsys, 1)
			rolled(t, w, p[0])
			synctest.Wait()
			left := fsys.Crash(vfs.DropAll)
			check(t, w.dir.Close(false))
			names := must(left.List(journalFolder))(t)
			next := path.Join(journalFolder, names[len(names)-1].Name)
			if names[len(names)-1].Size != 8*block {
				t.Fatalf("%+v", names)
			}
			if torn {
				damageByte(t, left, next, 20)
			}
			v := start(t, left, boot("boot-2"))
			if q := v.open2(t, 0); q.LEO() != 21 || q.recovery.Unclean {
				t.Errorf("log end %d, %+v", q.LEO(), q.recovery)
			}
			if got := must(left.List(journalFolder))(t); len(got) != len(names)-1 {
				t.Errorf("%+v of %+v", got, names)
			}
			check(t, v.dir.Close(true))
		}
	})
}

// TestUnneededJournalSegmentsAreRecycledAndNotMadeAnew: one is kept for the time when the prepared
// one is used, however the commits of the files fall, and all go when the journal is idle.
func TestUnneededJournalSegmentsAreRecycledAndNotMadeAnew(t *testing.T) {
	for at := range 7 { // when the file is synced: a segment is used up in seven rounds
		synctest.Test(t, func(t *testing.T) {
			fsys := vfs.NewMem()
			w, p := journaled(t, fsys, 1)
			var recycled, removed atomic.Int64
			w.dir.SetJournal(1<<20, 8*block, 8*block, block, time.Hour)
			warm := func(rounds int) {
				for i := range rounds {
					p[0].add(1, "v")
					p[0].flush()
					synctest.Wait()
					if i%7 == at {
						p[0].add(1, strings.Repeat("x", 9*block)) // by the file
						p[0].flush()
						synctest.Wait()
					}
				}
			}
			warm(42)
			fsys.Fail(func(o vfs.Op) error {
				switch journal := strings.HasPrefix(o.Path, journalFolder); {
				case journal && o.Kind == vfs.OpRename:
					recycled.Add(1)
				case journal && o.Kind == vfs.OpRemove:
					removed.Add(1)
				}
				return nil
			})
			warm(140)
			if n := recycled.Load(); n < 15 || removed.Load() > 0 {
				t.Errorf("round %d: %d segments were recycled, %d removed", at, n, removed.Load())
			}
			if bytes, _, _ := w.dir.JournalState(); bytes > 5*8*block {
				t.Errorf("round %d: the journal has %d bytes", at, bytes)
			}
			w.dir.JournalIdle()
			synctest.Wait()
			w.dir.JournalIdle()
			synctest.Wait()
			if bytes, _, _ := w.dir.JournalState(); bytes > 0 {
				t.Errorf("round %d: an idle journal has %d bytes", at, bytes)
			}
			check(t, w.dir.Close(true))
		})
	}
}

// TestRecycledJournalSegmentsLoseNothing: a crash between any two commits around it.
func TestRecycledJournalSegmentsLoseNothing(t *testing.T) {
	fsys := vfs.NewMem()
	w, p := journaled(t, fsys, 1)
	type state struct {
		fs    *vfs.Mem
		acked protocol.Offset
	}
	var states []state
	var recycled, inside atomic.Int64
	fsys.Fail(func(o vfs.Op) error {
		if o.Kind == vfs.OpRename && strings.HasPrefix(o.Path, journalFolder) {
			recycled.Add(1)
			inside.Store(6) // the steps that follow are watched
		}
		return nil
	})
	w.dir.SetJournal(1<<20, 8*block, 8*block, block, time.Hour)
	for i := range 120 {
		p[0].add(1, "v")
		p[0].flush()
		if i%10 == 9 {
			p[0].add(1, strings.Repeat("x", 9*block)) // by the file: what the journal holds is not needed
			p[0].flush()
		}
		if inside.Add(-1) >= 0 {
			acked := p[0].Durable()
			states = append(states, state{fsys.Crash(vfs.DropAll), acked}, state{fsys.Kill(), acked})
		}
	}
	check(t, w.dir.Close(false))
	if recycled.Load() == 0 {
		t.Error("no segment was recycled")
	}
	for _, s := range states {
		v := start(t, s.fs, boot("boot-2"))
		if q := v.open2(t, 0); q.LEO() < s.acked || q.recovery.Unclean {
			t.Errorf("log end %d, want %d, %+v", q.LEO(), s.acked, q.recovery)
		}
		check(t, v.dir.Close(false))
	}
}

// TestARoundWhoseWritingFailedIsNotFoundBesideItsSuccessor: the next round gets its number, here in
// the next segment, while the one with the failed round is still there.
func TestARoundWhoseWritingFailedIsNotFoundBesideItsSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		w, p := journaled(t, fsys, 2)
		w.dir.SetJournal(1<<20, 8*block, 8*block, block, time.Hour)
		p[1].add(1, "second")
		p[1].flush()
		failed := false
		fsys.Fail(func(o vfs.Op) error {
			if o.Kind == vfs.OpWrite && strings.HasPrefix(o.Path, journalFolder) && o.Offset == 4*block && o.Length == block {
				failed = true
				return vfs.ErrNoSpace
			}
			return nil
		})
		p[0].add(1, strings.Repeat("x", block)) // two blocks, then the zeros for the next round
		p[0].flush()
		if !failed || p[0].RecoveryPoint() != 2 {
			t.Fatalf("failed %t, recovery point %d", failed, p[0].RecoveryPoint())
		}
		fsys.Fail(func(o vfs.Op) error {
			if (o.Kind == vfs.OpRename || o.Kind == vfs.OpRemove) && strings.HasPrefix(o.Path, journalFolder) {
				return vfs.ErrNoSpace // the first segment stays
			}
			return nil
		})
		w.dir.JournalIdle() // the journal may be written again
		synctest.Wait()
		p[0].add(1, strings.Repeat("y", 6*block))
		p[0].flush()
		if p[0].RecoveryPoint() != 2 || p[0].Durable() != 3 {
			t.Fatalf("recovery point %d, durable offset %d", p[0].RecoveryPoint(), p[0].Durable())
		}
		synctest.Wait() // for the segment that is prepared ahead
		left := fsys.Kill()
		check(t, w.dir.Close(false))
		if names := must(left.List(journalFolder))(t); len(names) != 3 {
			t.Fatalf("%+v", names)
		}
		v := start(t, left)
		if q := v.open2(t, 0); q.LEO() != 3 || q.recovery.Unclean {
			t.Errorf("log end %d, %+v", q.LEO(), q.recovery)
		}
		check(t, v.dir.Close(false))
	})
}
