package integration_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/integration/checker"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// crashOps is the length of a load: long enough that each kind of step comes often.
const crashOps = 70

// run does the load on an empty disk, until it is over or the machine has stopped.
func (w *crashWorld) run(fs *vfs.Mem) error {
	err := w.start(fs, "boot-1")
	if err == nil {
		err = w.createMissing()
	}
	for range crashOps {
		if err != nil {
			return err
		}
		if err = w.step(); err == nil {
			err = w.observe()
		}
	}
	return err
}

func (w *crashWorld) createMissing() error {
	for _, name := range []string{"tiered", "plain", "gone"} {
		if _, ok := w.image().Topic(name); ok {
			continue
		}
		partitions := int32(1)
		if name == "tiered" {
			partitions = 2
		}
		if err := w.create(name, partitions); err != nil {
			return err
		}
	}
	return nil
}

// step is one thing that happens to a broker.
func (w *crashWorld) step() error {
	w.clock += 10
	switch k := w.rng.IntN(100); {
	case k < 50:
		return w.burst()
	case k < 58:
		return w.again()
	case k < 68:
		w.m.Sweep(context.Background())
		return nil
	case k < 70:
		w.clock += 2 * 3600 * 1000 // segments grow old, producers are still known
		w.m.Sweep(context.Background())
		return nil
	case k < 84:
		return w.each("tiered", w.upload)
	case k < 88:
		return w.dir.Checkpoint()
	case k < 92:
		return w.moveStart()
	case k < 95:
		if err := w.remove("gone"); err != nil {
			return err
		}
		return w.create("gone", 1)
	default:
		if err := w.end(true); err != nil {
			return err
		}
		return w.start(w.fs, "boot-1")
	}
}

// burst sends up to four batches of each of some lanes at once and waits for the answers.
func (w *crashWorld) burst() error {
	answered := make(chan error, 4*len(w.lanes))
	sent := 0
	for _, i := range w.rng.Perm(len(w.lanes))[:1+w.rng.IntN(4)] {
		l := w.lanes[i]
		for range 1 + w.rng.IntN(4) {
			b := w.batch(l)
			l.mu.Lock()
			l.unanswered = append(l.unanswered, b)
			l.mu.Unlock()
			w.send(l, b, answered)
			sent++
		}
	}
	return w.await(answered, sent)
}

// again repeats a batch whose answer a producer may have lost.
func (w *crashWorld) again() error { return w.repeat(w.lanes[w.rng.IntN(len(w.lanes))]) }

// repeat sends the last batch that was acknowledged once more: it must be found where it lies.
func (w *crashWorld) repeat(l *lane) error {
	l.mu.Lock()
	last, first := l.last, l.lastFirst
	l.mu.Unlock()
	if last == nil {
		return nil
	}
	leader, err := w.m.Get(l.key)
	if err != nil {
		return err
	}
	answered := make(chan error, 1)
	leader.Append(slices.Clone(last), replica.AcksAll, w.now(), func(a replica.Appended, err error) {
		if err == nil && a.First != first {
			err = fmt.Errorf("%w: %s: a repeat of the batch at %d was answered with %d", errBroken, l.part, first, a.First)
		}
		answered <- err
	})
	return w.await(answered, 1)
}

// each calls do for the partitions of a topic.
func (w *crashWorld) each(topic string, do func(*replica.Leader) error) error {
	t, ok := w.image().Topic(topic)
	if !ok {
		return fmt.Errorf("no topic %s", topic)
	}
	for p := range t.Partitions {
		l, err := w.m.Get(protocol.PartitionKey{Topic: t.ID, Partition: p})
		if err == nil {
			err = do(l)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// moveStart moves a log start, as retention in the bucket or a client may, and
// for the tiered topic not above the tiered end.
func (w *crashWorld) moveStart() error {
	l := w.lanes[w.rng.IntN(len(w.lanes))]
	leader, err := w.m.Get(l.key)
	if err != nil {
		return err
	}
	row, limit := leader.Row(), leader.HighWatermark()
	if leader.Tiered() {
		limit = row.Manifest.TieredEnd
	}
	if limit <= row.LogStart {
		return nil
	}
	to := row.LogStart + protocol.Offset(w.rng.Int64N(int64(limit-row.LogStart)+1))
	_, err = w.propose(context.Background(), &metadata.Command{Kind: &metadatapb.Command_AdvanceLogStarts{AdvanceLogStarts: &metadatapb.AdvanceLogStarts{
		Rows: []*metadatapb.LogStart{{TopicId: l.key.Topic[:], Partition: l.key.Partition, Offset: int64(to), LeaderEpoch: int32(row.LeaderEpoch)}},
	}}})
	return err
}

// observe asks for the bounds of all partitions, which must never go back, and
// checks the invariants of the tiers.
func (w *crashWorld) observe() error {
	seen := map[checker.Partition]bool{}
	for _, l := range w.lanes {
		if seen[l.part] {
			continue
		}
		seen[l.part] = true
		answer := w.Ask(l.part)
		leader, err := w.m.Get(l.key)
		if err != nil {
			return err
		}
		row, hot := leader.Row(), leader.Log()
		answer(row.LogStart, leader.HighWatermark())
		switch hw := leader.HighWatermark(); {
		case hw > hot.Durable() || hot.Durable() > hot.LEO():
			return fmt.Errorf("%w: %s: HW %d, durable %d, log end %d", errBroken, l.part, hw, hot.Durable(), hot.LEO())
		case leader.Tiered() && (row.Manifest.TieredEnd > hot.Durable() || hot.Start() > row.Manifest.TieredEnd):
			return fmt.Errorf("%w: %s: the tiered end %d is not in the hot tier [%d, %d)", errBroken, l.part, row.Manifest.TieredEnd, hot.Start(), hot.Durable())
		case !leader.Tiered() && hot.Start() > row.LogStart:
			return fmt.Errorf("%w: %s: the log begins at %d, the log start is %d", errBroken, l.part, hot.Start(), row.LogStart)
		}
	}
	return nil
}

// recovered starts on what is left and goes on: the producers repeat what was
// not answered and send more; then everything is read and judged. A clean stop
// and a second start must change nothing.
func (w *crashWorld) recovered(left *vfs.Mem, boot string) error {
	if err := w.start(left, boot); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := w.createMissing(); err != nil {
		return err
	}
	if n := w.m.Offline(); n > 0 {
		return fmt.Errorf("%d partitions are offline", n)
	}
	if err := w.observe(); err != nil {
		return err
	}
	for _, l := range w.lanes {
		if err := w.resend(l); err != nil {
			return fmt.Errorf("%s, producer %d repeats: %w", l.part, l.producer, err)
		}
	}
	if err := w.burst(); err != nil {
		return fmt.Errorf("go on: %w", err)
	}
	if err := w.readAll("after the crash"); err != nil {
		return err
	}
	if err := w.end(true); err != nil {
		return fmt.Errorf("clean stop: %w", err)
	}
	if err := w.start(left, boot); err != nil {
		return fmt.Errorf("second start: %w", err)
	}
	if err := w.readAll("after the second start"); err != nil {
		return err
	}
	if found := w.Check(); len(found) > 0 {
		return errors.New(checker.Lines(found))
	}
	return w.end(true)
}

// resend repeats the last batch that was answered, and in order those that were not.
func (w *crashWorld) resend(l *lane) error {
	if err := w.repeat(l); err != nil {
		return err
	}
	l.mu.Lock()
	open := slices.Clone(l.unanswered)
	l.mu.Unlock()
	answered := make(chan error, len(open))
	for _, b := range open {
		w.send(l, b, answered)
	}
	return w.await(answered, len(open))
}

// readAll reads every partition from its log start to its HW, through both tiers.
func (w *crashWorld) readAll(reader string) error {
	seen := map[checker.Partition]bool{}
	for _, l := range w.lanes {
		if seen[l.part] {
			continue
		}
		seen[l.part] = true
		leader, err := w.m.Get(l.key)
		if err != nil {
			return err
		}
		for from := leader.LogStart(); from < leader.HighWatermark(); {
			batches, next, err := leader.ReadCommitted(context.Background(), fakeBucket{w}, from, 1000)
			if err != nil || next <= from {
				return fmt.Errorf("%s: read %s from %d of [%d, %d): next %d, %w", l.part, reader, from, leader.LogStart(), leader.HighWatermark(), next, err)
			}
			for len(batches) > 0 {
				batch, rest, err := record.Split(batches)
				if err == nil {
					err = batch.Check()
				}
				if err != nil {
					return fmt.Errorf("%s: read %s from %d: %w", l.part, reader, from, err)
				}
				for r := range mustRecords(batch) {
					if r.Offset >= from {
						w.Polled(reader, l.part, r.Offset, string(r.Key))
					}
				}
				batches = rest
			}
			from = next
		}
		w.Ask(l.part)(leader.LogStart(), leader.HighWatermark())
		w.Final(reader, l.part)
	}
	return nil
}

// aftermath is what a stopped machine left, and the boot in which it starts again.
type aftermath struct {
	name, boot string
	left       func(*vfs.Mem) *vfs.Mem
}

func aftermaths(seed uint64) []aftermath {
	cut := func(p vfs.Policy) func(*vfs.Mem) *vfs.Mem { return func(m *vfs.Mem) *vfs.Mem { return m.Crash(p) } }
	return []aftermath{
		{"process killed", "boot-1", (*vfs.Mem).Kill},
		{"power cut, all kept", "boot-2", cut(vfs.KeepAll)},
		{"power cut, all dropped", "boot-2", cut(vfs.DropAll)},
		{"power cut, all torn", "boot-2", cut(vfs.TearAll)},
		{"power cut, by chance", "boot-2", cut(vfs.Random(seed))},
	}
}

// crashed runs the load with a stop before durable step n; 0 is none.
func crashed(seed uint64, n int) (*crashWorld, *vfs.Mem, error) {
	w, err := newCrashWorld(seed)
	if err != nil {
		return nil, nil, err
	}
	fs := vfs.NewMem()
	fs.StopAt(n)
	err = w.run(fs)
	stopped := fs.Stopped()
	fs.Stop()
	_ = w.end(false) // the machine has stopped: nothing of this reaches the disk
	if err != nil && (!stopped || errors.Is(err, errBroken)) {
		return nil, nil, fmt.Errorf("the load failed by itself: %w", err)
	}
	return w, fs, nil
}

// TestACrashAtEachDurableStepOfTheWritePathLosesNothing runs a load of producers,
// rolls, uploads, evictions, retention, deletions and clean restarts against a
// disk that stops at each durable step in turn, by kill and by power cut.
// STRATA_TEST_SEED and STRATA_TEST_LOADS choose other loads.
func TestACrashAtEachDurableStepOfTheWritePathLosesNothing(t *testing.T) {
	first, loads := numberOf(t, "STRATA_TEST_SEED", 1), numberOf(t, "STRATA_TEST_LOADS", 1)
	for seed := first; seed < first+loads; seed++ {
		w, whole, err := crashed(seed, 0)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		steps := whole.DurableSteps()
		var recovered atomic.Int64
		group, ctx := errgroup.WithContext(t.Context())
		group.SetLimit(runtime.GOMAXPROCS(0))
		for n := 1; n <= steps && ctx.Err() == nil; n++ {
			group.Go(func() error {
				for _, a := range aftermaths(rand.New(rand.NewPCG(seed, uint64(n))).Uint64()) {
					w, fs, err := crashed(seed, n)
					if err == nil {
						err = w.recovered(a.left(fs), a.boot)
					}
					if err != nil {
						return fmt.Errorf("seed %d, stop before durable step %d of %d, %s: %w", seed, n, steps, a.name, err)
					}
					recovered.Add(1)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		report(t, "seed %d: %d durable steps of the write path (%v), %d crashes recovered; whole load: %s", seed, steps, whole.Counts(), recovered.Load(), w)
	}
}

// TestACrashDuringRecoveryOfTheWritePathLosesNothing stops the machine a second
// time while it starts again, after every twenty-ninth durable step of the load.
func TestACrashDuringRecoveryOfTheWritePathLosesNothing(t *testing.T) {
	seed := numberOf(t, "STRATA_TEST_SEED", 1)
	_, whole, err := crashed(seed, 0)
	if err != nil {
		t.Fatal(err)
	}
	var recovered atomic.Int64
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(runtime.GOMAXPROCS(0))
	for n := 1; n <= whole.DurableSteps() && ctx.Err() == nil; n += 29 {
		group.Go(func() error {
			rng := rand.New(rand.NewPCG(seed, uint64(n)))
			for i, first := range aftermaths(rng.Uint64()) {
				for again, stopped := 1+rng.IntN(3), true; stopped; again += 3 {
					second := aftermaths(rng.Uint64())[(i+again)%5]
					var err error
					if stopped, err = crashedAgain(seed, n, again, first, second); err != nil {
						return fmt.Errorf("seed %d, stop before durable step %d, %s, then before step %d of the start, %s: %w", seed, n, first.name, again, second.name, err)
					}
					recovered.Add(1)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	report(t, "seed %d: %d crashes during recovery recovered", seed, recovered.Load())
}

// crashedAgain stops the start after a crash before its own durable step again;
// stopped tells whether the start was not over before.
func crashedAgain(seed uint64, n, again int, first, second aftermath) (stopped bool, err error) {
	w, fs, err := crashed(seed, n)
	if err != nil {
		return false, err
	}
	left := first.left(fs)
	left.StopAt(again)
	err = w.start(left, first.boot)
	stopped = left.Stopped()
	left.Stop()
	_ = w.end(false) // the machine has stopped: nothing of this reaches the disk
	if err != nil && !stopped {
		return stopped, fmt.Errorf("start: %w", err)
	}
	boot := "boot-3"
	if second.boot == "boot-1" { // killed: the machine goes on
		boot = first.boot
	}
	return stopped, w.recovered(second.left(left), boot)
}
