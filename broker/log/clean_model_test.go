package log_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

var (
	cleanConfig = log.Config{SegmentBytes: 2048, IndexIntervalBytes: 200, IndexMaxBytes: 1 << 20}
	plenty      = log.CleanMemory{Bytes: 1 << 20, Load: 0.9}
)

func noPace(context.Context, int) error { return nil }

// change is one record as it was written. txn numbers its transaction, from 1; 0 is none.
type change struct {
	offset protocol.Offset
	key    string
	value  *string
	txn    int
}

// fate is how a transaction ended, and where.
type fate struct {
	marker protocol.Offset
	commit bool
}

// tableLog writes keyed records and knows what a table made of them holds.
type tableLog struct {
	*part
	rng      *rand.Rand
	all      []change
	fates    map[int]fate // of transactions
	txn      int          // the one that is open, or 0
	txns     int
	sequence map[protocol.ProducerID]int32
	n        int
}

func newTableLog(p *part, seed uint64) *tableLog {
	return &tableLog{part: p, rng: rand.New(rand.NewPCG(seed, 11)), fates: map[int]fate{}, sequence: map[protocol.ProducerID]int32{}}
}

// write appends one batch, of a producer at times. An error is that of the file system.
func (l *tableLog) write() error {
	b := record.NewBuilder(0)
	id := protocol.ProducerID(l.rng.IntN(5)) - 2
	txn := 0
	if id >= 0 {
		b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = id, 0, l.sequence[id], id == 2
		if id == 2 {
			if txn = l.txn; txn == 0 {
				txn = l.txns + 1
			}
		}
	}
	var batch []change
	for range 1 + l.rng.IntN(4) {
		w := change{key: fmt.Sprintf("k%d", l.rng.IntN(40)), txn: txn}
		l.n++
		r := record.Record{Timestamp: l.w.ms(), Key: []byte(w.key)}
		if l.rng.IntN(5) > 0 {
			value := fmt.Sprintf("%d%s", l.n, strings.Repeat("x", l.rng.IntN(60)))
			w.value, r.Value = &value, []byte(value)
		}
		b.Add(r)
		batch = append(batch, w)
	}
	// Noted first: what fails in a crash may be in the log all the same.
	for i, w := range batch {
		w.offset = l.LEO() + protocol.Offset(i)
		l.all = append(l.all, w)
	}
	if id >= 0 {
		l.sequence[id] += int32(len(batch))
	}
	if txn > 0 {
		l.txn, l.txns = txn, txn
	}
	_, err := l.Append(b.Bytes(), 1, log.AppendOptions{Now: l.w.ms(), Client: true})
	return err
}

// end writes the marker of the transactional producer.
func (l *tableLog) end() error {
	commit := l.rng.IntN(2) == 0
	if l.txn > 0 {
		l.fates[l.txn] = fate{l.LEO(), commit}
	}
	l.txn = 0
	_, err := l.Append(marker(2, commit), 1, log.AppendOptions{Now: l.w.ms(), Coordinator: true})
	return err
}

// fate of a transaction as a log tells it that ends at an offset.
func (l *tableLog) fate(txn int, end protocol.Offset) string {
	f, ended := l.fates[txn]
	switch {
	case txn == 0 || ended && f.marker < end && f.commit:
		return "committed"
	case ended && f.marker < end:
		return "aborted"
	}
	return "open"
}

// table is what the committed records below an offset tell.
func (l *tableLog) table(below protocol.Offset) map[string]string {
	out := map[string]string{}
	for _, w := range l.all {
		if w.offset < below && l.fate(w.txn, below) == "committed" {
			w.apply(out)
		}
	}
	return out
}

func (w change) apply(table map[string]string) {
	if w.value == nil {
		delete(table, w.key)
	} else {
		table[w.key] = *w.value
	}
}

func (l *tableLog) step() error {
	l.w.clock.Add(int64(l.rng.IntN(50)))
	if l.rng.IntN(8) == 0 {
		return l.end()
	}
	return l.write()
}

func (l *tableLog) rules() log.CleanRules {
	return log.CleanRules{Stable: l.LastStable(l.Durable()), DeleteRetention: 500 * time.Millisecond}
}

// check reads the log and compares it with what was written: every record is one that was, and a table of them is
// that of all that was written up to the log end.
func (l *tableLog) check(p *part) error {
	aborted, err := p.Aborted(p.Start(), p.LEO())
	if err != nil {
		return err
	}
	table := map[string]string{}
	at := p.Start()
	for at < p.LEO() {
		s, err := p.Read(at, p.LEO(), 1<<20, true)
		if err != nil {
			return fmt.Errorf("read at %d: %w", at, err)
		}
		bytes := make([]byte, s.Len())
		_, err = s.ReadAt(bytes, 0)
		next := s.Next()
		s.Release()
		if err != nil {
			return err
		}
		if next <= at {
			return fmt.Errorf("nothing at %d of %d", at, p.LEO())
		}
		for len(bytes) > 0 {
			b, rest, err := record.Split(bytes)
			if err == nil {
				err = b.Check()
			}
			if err != nil {
				return err
			}
			bytes = rest
			if err := l.checkBatch(b, p.LEO(), aborted, table); err != nil {
				return err
			}
		}
		at = next
	}
	if want := l.table(p.LEO()); !maps.Equal(table, want) {
		return fmt.Errorf("the log tells\n%v, want\n%v", table, want)
	}
	return nil
}

func (l *tableLog) checkBatch(b record.Batch, end protocol.Offset, aborted []protocol.AbortedTxn, table map[string]string) error {
	if b.Control() {
		return nil
	}
	out := slices.ContainsFunc(aborted, func(a protocol.AbortedTxn) bool {
		return b.Transactional() && a.Producer == b.ProducerID() && a.First <= b.BaseOffset() && b.BaseOffset() < a.Last
	})
	for r, err := range b.Records(1 << 20) {
		if err != nil {
			return err
		}
		i, found := slices.BinarySearchFunc(l.all, r.Offset, func(w change, o protocol.Offset) int { return cmp.Compare(w.offset, o) })
		if !found || l.all[i].key != string(r.Key) || (l.all[i].value == nil) != (r.Value == nil) || r.Value != nil && *l.all[i].value != string(r.Value) {
			return fmt.Errorf("at %d there is %s=%q, which was not written there", r.Offset, r.Key, r.Value)
		}
		w := l.all[i]
		if out != (l.fate(w.txn, end) == "aborted") {
			return fmt.Errorf("record at %d counts as aborted: %t, it is %s", r.Offset, out, l.fate(w.txn, end))
		}
		if l.fate(w.txn, end) == "committed" {
			w.apply(table)
		}
	}
	return nil
}

func TestALogThatIsCleanedAgainAndAgainTellsWhatATableHolds(t *testing.T) {
	for seed := range uint64(25) {
		fsys := vfs.NewMem()
		w := start(t, fsys)
		l := newTableLog(w.open(cleanConfig), seed)
		biggest := protocol.Offset(0)
		for round := range 12 {
			for range 40 {
				check(t, l.step())
			}
			l.flush()
			memory := plenty
			if round%3 == 1 {
				memory.Bytes = 24 * 8
			}
			w.clock.Add(int64(l.rng.IntN(1000)))
			stats, err := l.Clean(l.rules(), memory, noPace)
			check(t, err)
			if err := l.check(l.part); err != nil {
				t.Fatalf("seed %d, round %d: %v (%+v)", seed, round, err, stats)
			}
			if l.LEO() < biggest {
				t.Fatalf("log end went back from %d to %d", biggest, l.LEO())
			}
			biggest = l.LEO()
			if l.rng.IntN(3) == 0 {
				state := l.ProducerState().Encode()
				clean := l.rng.IntN(2) == 0
				check(t, w.dir.Close(clean))
				w = start(t, fsys)
				w.clock.Store(l.w.clock.Load())
				l.part = w.open(cleanConfig)
				if l.recovery.Unclean || l.recovery.Torn {
					t.Fatalf("recovery %+v", l.recovery)
				}
				if got := l.ProducerState().Encode(); len(got) != len(state) {
					t.Fatalf("seed %d, round %d, clean %t: the producers are others after the start", seed, round, clean)
				}
				if err := l.check(l.part); err != nil {
					t.Fatalf("seed %d, round %d, after a start: %v", seed, round, err)
				}
			}
		}
		for range 2 { // all that was to go goes
			w.clock.Add(1000)
			_, err := l.Clean(l.rules(), plenty, noPace)
			check(t, err)
		}
		check(t, w.dir.Close(true))
	}
}

// cleaningLife writes and cleans until the world stops, and tells what was acknowledged.
func cleaningLife(t *testing.T, fsys *vfs.Mem, seed uint64, commit log.CommitPath, stopAt int) (l *tableLog, acked protocol.Offset) {
	t.Helper()
	fsys.StopAt(stopAt)
	w, err := tryStart(t, fsys, commitBy(commit))
	l = newTableLog(&part{w: w}, seed)
	if err == nil {
		tinyJournal(w.dir)
		l.part, err = w.tryOpen("t", key, cleanConfig, log.Init{})
	}
	for round := 0; err == nil && round < 4; round++ {
		for i := 0; err == nil && i < 25; i++ {
			err = l.step()
		}
		if err == nil {
			err = l.Flush(context.Background())
		}
		memory := plenty
		if round == 1 {
			memory.Bytes = 24 * 8
		}
		if err == nil {
			w.clock.Add(300)
			_, err = l.Clean(l.rules(), memory, noPace)
		}
	}
	if l.Log != nil {
		acked = l.Durable()
	}
	if w.dir != nil {
		_ = w.dir.Close(false)
	}
	if err != nil && !errors.Is(err, vfs.ErrCrashed) && !errors.Is(err, log.ErrOffline) {
		t.Fatalf("seed %d, step %d: %v", seed, stopAt, err)
	}
	return l, acked
}

// afterCleaning starts on what a crash left, cleans once more, and starts again.
func afterCleaning(t *testing.T, left *vfs.Mem, id string, commit log.CommitPath, l *tableLog, acked protocol.Offset) error {
	t.Helper()
	for round := range 3 {
		w, err := tryStart(t, left, boot(id), commitBy(commit))
		if err != nil {
			return err
		}
		w.clock.Store(l.w.clock.Load() + int64(round)*1000)
		p, err := w.tryOpen("t", key, cleanConfig, log.Init{})
		if err != nil {
			return fmt.Errorf("start %d: %w", round, err)
		}
		if p.LEO() < acked {
			return fmt.Errorf("start %d: log end %d, acknowledged up to %d", round, p.LEO(), acked)
		}
		if err := l.check(p); err != nil {
			return fmt.Errorf("start %d: %w (recovery %+v)", round, err, p.recovery)
		}
		rules := log.CleanRules{Stable: p.LastStable(p.Durable()), DeleteRetention: 500 * time.Millisecond}
		if _, err := p.Clean(rules, plenty, noPace); err != nil {
			return fmt.Errorf("start %d: %w", round, err)
		}
		if err := l.check(p); err != nil {
			return fmt.Errorf("start %d, cleaned: %w (recovery %+v)", round, err, p.recovery)
		}
		if err := w.dir.Close(round == 0); err != nil {
			return err
		}
		if n := left.OpenFiles(); n > 0 {
			return fmt.Errorf("%d files are open", n)
		}
		entries, err := left.List(path.Join(dataDir, "t-0"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name, ".cleaned") || strings.HasSuffix(e.Name, ".swap") || strings.HasSuffix(e.Name, ".deleted") {
				return fmt.Errorf("start %d: %s is left", round, e.Name)
			}
		}
	}
	return nil
}

func TestNoCrashDuringCleaningLosesOrBringsBackARecord(t *testing.T) {
	for i, commit := range paths {
		t.Run(string(commit), func(t *testing.T) {
			cases, steps := 0, 0
			for seed := range uint64(2) {
				whole := vfs.NewMem()
				cleaningLife(t, whole, seed, commit, 0)
				total := whole.DurableSteps()
				steps += total
				stride := 3 * crashStride
				if commit != log.CommitAuto {
					stride *= 4
				}
				for n := 1 + (int(seed)+i)%stride; n <= total; n += stride {
					left := vfs.NewMem()
					l, acked := cleaningLife(t, left, seed, commit, n)
					for _, a := range aftermaths(seed<<16 + uint64(n)) {
						cases++
						if err := afterCleaning(t, a.make(left), a.boot, commit, l, acked); err != nil {
							t.Fatalf("seed %d, crash before durable step %d, %s: %v", seed, n, a.name, err)
						}
					}
				}
			}
			t.Logf("%d durable steps, %d crashes recovered", steps, cases)
		})
	}
}

// A start that ends an interrupted cleaning may itself be cut short: by another kill, or by a power cut that takes
// what the killed process had not made durable.
func TestACrashWhileAStartEndsACleaningLosesNothing(t *testing.T) {
	cases := 0
	const seed = 1
	whole := vfs.NewMem()
	cleaningLife(t, whole, seed, log.CommitFile, 0)
	for n := 1; n <= whole.DurableSteps(); n += 7 * crashStride {
		left := vfs.NewMem()
		l, acked := cleaningLife(t, left, seed, log.CommitFile, n)
		if !interrupted(t, left) {
			continue
		}
		for stop := 1; ; stop++ {
			again := left.Kill()
			again.StopAt(stop)
			w, err := tryStart(t, again)
			if err == nil {
				_, err = w.tryOpen("t", key, cleanConfig, log.Init{})
			}
			if w.dir != nil {
				_ = w.dir.Close(false)
			}
			if err != nil && !errors.Is(err, vfs.ErrCrashed) && !errors.Is(err, log.ErrOffline) {
				t.Fatalf("step %d, then step %d: %v", n, stop, err)
			}
			for _, a := range aftermaths(uint64(n<<8 + stop)) {
				cases++
				if err := afterCleaning(t, a.make(again), a.boot, log.CommitFile, l, acked); err != nil {
					t.Fatalf("crash before durable step %d, then before step %d of the start, %s: %v", n, stop, a.name, err)
				}
			}
			if !again.Stopped() {
				break
			}
		}
	}
	if cases < 100 {
		t.Errorf("only %d crashes", cases)
	}
	t.Logf("%d crashes recovered", cases)
}

// interrupted tells whether a cleaning was under way.
func interrupted(t *testing.T, fsys *vfs.Mem) bool {
	t.Helper()
	entries, err := fsys.Kill().List(path.Join(dataDir, "t-0"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return slices.ContainsFunc(entries, func(e vfs.Entry) bool { return strings.HasSuffix(e.Name, ".swap") })
}
