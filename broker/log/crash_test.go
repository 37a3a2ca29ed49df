package log_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol/record"
)

// aftermath is one way in which the world may look after it stopped.
type aftermath struct {
	name string
	boot string
	make func(*vfs.Mem) *vfs.Mem
}

func aftermaths(seed uint64) []aftermath {
	crash := func(p vfs.Policy) func(*vfs.Mem) *vfs.Mem {
		return func(m *vfs.Mem) *vfs.Mem { return m.Crash(p) }
	}
	return []aftermath{
		{"kill", "boot-1", (*vfs.Mem).Kill},
		{"kept", "boot-2", crash(vfs.KeepAll)},
		{"dropped", "boot-2", crash(vfs.DropAll)},
		{"torn", "boot-2", crash(vfs.TearAll)},
		{"random", "boot-2", crash(vfs.Random(seed))},
		{"random2", "boot-2", crash(vfs.Random(seed + 1<<32))},
	}
}

// crashAt runs the load until durable step n and gives what is left.
func crashAt(t *testing.T, seed uint64, commit log.CommitPath, ops, n int) (*vfs.Mem, *load) {
	t.Helper()
	fsys := vfs.NewMem()
	fsys.StopAt(n)
	tr := &trace{}
	fsys.Fail(tr.hook)
	w, err := tryStart(t, fsys, commitBy(commit))
	g := newLoad(seed, w, commit)
	g.trace = tr
	if err == nil {
		tinyJournal(w.dir)
		err = g.open()
	}
	if err == nil {
		g.run(ops)
		if g.err == nil {
			g.err = w.dir.Close(true)
		}
		g.ack()
	}
	if w.dir != nil {
		_ = w.dir.Close(false)
	}
	if err := errors.Join(err, g.err); err != nil && !errors.Is(err, vfs.ErrCrashed) && !errors.Is(err, log.ErrOffline) {
		t.Fatalf("seed %d, step %d, operation %d: %v", seed, n, g.ops, err)
	}
	return fsys, g
}

// explain repeats a failed recovery and shows all that led to it.
func explain(t *testing.T, left *vfs.Mem, boot string, g *load) string {
	t.Helper()
	after := &trace{}
	left.Fail(after.hook)
	again := recoverAndVerify(t, left, boot, g)
	return fmt.Sprintf("before the crash:\n%s\nafter it:\n%s\nand again: %v", g.trace, after, again)
}

// recoverAndVerify starts on what is left, twice: what the first start found must stay.
func recoverAndVerify(t *testing.T, left *vfs.Mem, id string, g *load) error {
	t.Helper()
	for round := range 2 {
		w, err := tryStart(t, left, boot(id), commitBy(g.commit))
		if err != nil {
			return err
		}
		for i := range g.parts {
			p, err := w.tryOpen("t", g.keys[i], crashConfig, log.Init{})
			if err != nil {
				return fmt.Errorf("log %d, start %d: %w", i, round, err)
			}
			if err := g.models[i].verify(p); err != nil {
				return fmt.Errorf("log %d, start %d: %w (recovery %+v)", i, round, err, p.recovery)
			}
		}
		if err := w.dir.Close(round == 0); err != nil {
			return err
		}
		if n := left.OpenFiles(); n > 0 {
			return fmt.Errorf("%d files are open", n)
		}
	}
	return nil
}

// paths are the ways to commit, each of which is crashed.
var paths = []log.CommitPath{log.CommitFile, log.CommitJournal, log.CommitAuto}

func TestNoCrashLosesWhatWasAcknowledged(t *testing.T) {
	for _, commit := range paths {
		t.Run(string(commit), func(t *testing.T) {
			const ops = 120
			seeds, cases, steps := 3, 0, 0
			for seed := range uint64(seeds) {
				whole, g := crashAt(t, seed, commit, ops, 0)
				if g.err != nil {
					t.Fatal(g.err)
				}
				total := whole.DurableSteps()
				steps += total
				for n := 1 + int(seed)%crashStride; n <= total; n += crashStride {
					left, g := crashAt(t, seed, commit, ops, n)
					for _, a := range aftermaths(seed<<16 + uint64(n)) {
						cases++
						if err := recoverAndVerify(t, a.make(left), a.boot, g); err != nil {
							t.Fatalf("seed %d, crash before durable step %d, %s: %v\n%s", seed, n, a.name, err, explain(t, a.make(left), a.boot, g))
						}
					}
				}
			}
			t.Logf("%d durable steps of %d loads, %d crashes recovered", steps, seeds, cases)
		})
	}
}

func TestACrashDuringRecoveryLosesNothing(t *testing.T) {
	for _, commit := range paths {
		t.Run(string(commit), func(t *testing.T) {
			const ops = 80
			cases := 0
			for seed := range uint64(2) {
				whole, _ := crashAt(t, seed, commit, ops, 0)
				for n := 1 + int(seed); n <= whole.DurableSteps(); n += 43 * crashStride {
					left, g := crashAt(t, seed, commit, ops, n)
					for _, a := range aftermaths(seed<<16 + uint64(n)) {
						cases += crashRecovery(t, left, a, g)
					}
				}
			}
			t.Logf("%d crashes recovered", cases)
		})
	}
}

// crashRecovery stops the recovery of what one crash left at each of its durable steps.
func crashRecovery(t *testing.T, left *vfs.Mem, a aftermath, g *load) (cases int) {
	t.Helper()
	for again := 1; ; again++ {
		second := a.make(left)
		second.StopAt(again)
		middle := &trace{}
		second.Fail(middle.hook)
		w, err := tryStart(t, second, boot(a.boot), commitBy(g.commit))
		for i := range g.parts {
			if err == nil {
				_, err = w.tryOpen("t", g.keys[i], crashConfig, log.Init{})
			}
		}
		stopped := second.Stopped()
		if w.dir != nil {
			_ = w.dir.Close(false)
		}
		if err != nil && !stopped {
			t.Fatalf("after %s: %v", a.name, err)
		}
		for _, b := range aftermaths(uint64(again)) {
			cases++
			if b.boot == "boot-1" {
				b.boot = a.boot
			} else {
				b.boot = "boot-3"
			}
			if err := recoverAndVerify(t, b.make(second), b.boot, g); err != nil {
				t.Fatalf("%s, then before step %d of the recovery, %s: %v\nfirst recovery:\n%s\n%s",
					a.name, again, b.name, err, middle, explain(t, b.make(second), b.boot, g))
			}
		}
		if !stopped {
			return cases
		}
	}
}

// TestManyLives crashes, recovers and goes on, again and again, at places of chance: what an
// earlier life left must never come back.
func TestManyLives(t *testing.T) {
	for _, commit := range paths {
		t.Run(string(commit), func(t *testing.T) {
			lives, journaled := 0, int64(0)
			for seed := range uint64(400 / crashStride) {
				rng := rand.New(rand.NewPCG(seed, 2))
				fsys := vfs.NewMem()
				g := newLoad(seed, nil, commit)
				g.trace = &trace{}
				id := "boot-0"
				for life := range 6 {
					fsys.StopAt(1 + rng.IntN(200))
					g.trace.add(fmt.Sprintf("life %d in %s", life, id))
					fsys.Fail(g.trace.hook)
					g.live(t, fsys, id, 60)
					if t.Failed() {
						t.Fatalf("seed %d, life %d: %v\n%s", seed, life, g.err, g.trace)
					}
					lives++
					for _, p := range g.parts {
						if p != nil {
							journaled += p.recovery.JournaledBytes
						}
					}
					a := aftermaths(seed<<8 + uint64(life))[rng.IntN(6)]
					if a.boot != "boot-1" {
						id = fmt.Sprint("boot-", life+1)
					}
					fsys = a.make(fsys)
				}
			}
			t.Logf("%d lives, %d bytes came back from the journal", lives, journaled)
		})
	}
}

// live opens what is left of the life before, checks it, and goes on until the world stops.
func (g *load) live(t *testing.T, fsys *vfs.Mem, id string, ops int) {
	t.Helper()
	g.parts, g.ops, g.err = [2]*part{}, 0, nil
	w, err := tryStart(t, fsys, boot(id), commitBy(g.commit))
	g.w = w
	if err == nil {
		tinyJournal(w.dir)
		err = g.open()
	}
	if err == nil {
		for i, p := range g.parts {
			if err := g.models[i].verify(p); err != nil {
				t.Errorf("log %d: %v (recovery %+v)", i, err, p.recovery)
				return
			}
			g.adopt(i)
		}
		g.run(ops)
	}
	if w.dir != nil {
		_ = w.dir.Close(false)
	}
	g.ack()
	if err := errors.Join(err, g.err); err != nil && !errors.Is(err, vfs.ErrCrashed) && !errors.Is(err, log.ErrOffline) {
		t.Errorf("operation %d: %v", g.ops, err)
	}
	g.epoch++
}

// adopt takes for the truth what a log holds after its recovery.
func (g *load) adopt(i int) {
	p, m := g.parts[i], g.models[i]
	if m.before != nil && m.verifyThis(p) != nil {
		m = m.before
	}
	if m.maybe != nil {
		m.batches = append(m.batches, m.maybe)
	}
	keep := slices.IndexFunc(m.batches, func(b record.Batch) bool { return b.NextOffset() > p.LEO() })
	if keep >= 0 {
		m.batches = m.batches[:keep]
	}
	g.models[i] = &model{batches: m.batches, start: m.start, acked: p.LEO()}
	g.next[i] = [3]int32{}
	for _, b := range m.batches {
		g.next[i][b.ProducerID()] = b.LastSequence() + 1
	}
}
