package log_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// model is what a log must hold. Appends are one at a time, so that it is exact.
type model struct {
	batches []record.Batch // appended, in order, as they were placed
	maybe   record.Batch   // an append whose outcome is not known
	start   protocol.Offset
	acked   protocol.Offset // below it all must survive
}

func (m *model) leo() protocol.Offset {
	if len(m.batches) == 0 {
		return 0
	}
	return m.batches[len(m.batches)-1].NextOffset()
}

// load is a deterministic sequence of operations on two logs of one directory.
type load struct {
	rng    *rand.Rand
	w      *world
	parts  [2]*part
	models [2]*model
	next   [2][3]int32 // sequences of the producers
	epoch  protocol.Epoch
	ops    int
	err    error
	trace  *trace
}

// trace is what a failed case prints: the operations on the file system.
type trace struct {
	mu    sync.Mutex
	lines []string
}

func (tr *trace) hook(o vfs.Op) error {
	switch o.Kind {
	case vfs.OpRead, vfs.OpSize, vfs.OpFree:
	default:
		tr.add(fmt.Sprint(o.Durable, " ", o))
	}
	return nil
}

func (tr *trace) add(line string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.lines = append(tr.lines, line)
}

func (tr *trace) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return strings.Join(tr.lines, "\n")
}

func crashKey(i int) protocol.PartitionKey {
	return protocol.PartitionKey{Topic: topicID, Partition: int32(i)}
}

var crashConfig = log.Config{SegmentBytes: 1500, IndexIntervalBytes: 200, IndexMaxBytes: 1 << 20, SegmentAge: time.Hour}

func newLoad(seed uint64, w *world) *load {
	g := &load{rng: rand.New(rand.NewPCG(seed, 1)), w: w, epoch: 1}
	for i := range g.models {
		g.models[i] = &model{}
	}
	return g
}

func (g *load) open(init log.Init) error {
	for i := range g.parts {
		p, err := g.w.tryOpen("t", crashKey(i), crashConfig, init)
		if err != nil {
			return err
		}
		g.parts[i] = p
	}
	return nil
}

// ack moves what must survive up to what the log reported.
func (g *load) ack() {
	for i, p := range g.parts {
		if p != nil {
			g.models[i].acked = max(g.models[i].acked, protocol.Offset(p.reported.Load()))
		}
	}
}

// run does n operations, until one fails.
func (g *load) run(n int) {
	for ; g.ops < n && g.err == nil; g.ops++ {
		g.step(g.rng.IntN(2))
		g.ack()
	}
	g.ack()
}

func (g *load) step(i int) {
	p, m := g.parts[i], g.models[i]
	switch k := g.rng.IntN(100); {
	case k < 55:
		g.append(i)
	case k < 70:
		g.err = p.Flush(g.w.tb.Context())
	case k < 75:
		g.err = p.Roll()
	case k < 80:
		g.w.clock.Add(time.Hour.Milliseconds())
		_, g.err = p.MaybeRoll(g.w.now())
	case k < 84:
		g.err = g.w.dir.Checkpoint()
	case k < 89 && p.LEO() > p.Start():
		to := p.Start() + protocol.Offset(g.rng.Int64N(int64(p.LEO()-p.Start())+1))
		m.start = max(m.start, to)
		g.err = p.SetStart(to)
	case k < 93:
		m.start = max(m.start, p.RecoveryPoint())
		_, _, g.err = p.Evict(p.RecoveryPoint(), 0, -1, g.w.now())
	case k < 97:
		g.truncate(p, m, i)
	default:
		g.epoch++
	}
}

func (g *load) append(i int) {
	p, m := g.parts[i], g.models[i]
	who := g.rng.IntN(3)
	values := make([]string, 1+g.rng.IntN(3))
	for j := range values {
		values[j] = fmt.Sprintf("%d/%d/%d/%d/%s", i, who, int(g.next[i][who])+j, g.epoch, bytes.Repeat([]byte("x"), g.rng.IntN(60)))
	}
	b := idempotent(protocol.ProducerID(who), 0, g.next[i][who], values...)
	// What the log will make of it, should the answer never come.
	m.maybe = slices.Clone(b)
	m.maybe.SetBaseOffset(p.LEO())
	m.maybe.SetLeaderEpoch(g.epoch)
	info, err := p.Append(b, g.epoch, log.AppendOptions{Now: g.w.ms(), Client: true})
	if err != nil {
		g.err = err
		return
	}
	if info.Duplicate || info.First != m.leo() || !bytes.Equal(b, m.maybe) {
		g.w.tb.Fatalf("append at %d gave %+v", m.leo(), info)
	}
	m.batches, m.maybe = append(m.batches, m.maybe), nil
	g.next[i][who] += int32(len(values))
	if g.rng.IntN(4) == 0 {
		again, err := p.Append(slices.Clone(b), g.epoch, log.AppendOptions{Now: g.w.ms(), Client: true})
		if err == nil && (!again.Duplicate || again.First != info.First || again.Next != info.Next) {
			g.w.tb.Fatalf("repeat of %+v gave %+v", info, again)
		}
		g.err = err
	}
}

func (g *load) truncate(p *part, m *model, i int) {
	span := int64(p.LEO() - p.Start())
	if span == 0 {
		return
	}
	to := p.LEO() - protocol.Offset(g.rng.Int64N(span+1))
	g.ack()
	end := protocol.Offset(0) // a batch goes as a whole
	for _, b := range m.batches {
		if b.NextOffset() <= to {
			end = b.NextOffset()
		}
	}
	forget := func() {
		p.mu.Lock()
		p.reported.Store(min(p.reported.Load(), int64(end)))
		p.mu.Unlock()
	}
	forget()
	m.acked = min(m.acked, end)
	g.err = p.Truncate(to)
	forget()
	if g.err != nil {
		return // the batches above may be there or not
	}
	for len(m.batches) > 0 && m.leo() > to {
		b := m.batches[len(m.batches)-1]
		m.batches = m.batches[:len(m.batches)-1]
		g.next[i][b.ProducerID()] = b.BaseSequence()
	}
	if p.LEO() != max(m.leo(), p.Start()) {
		g.w.tb.Fatalf("truncated to %d: log end %d, want %d", to, p.LEO(), m.leo())
	}
	m.acked = min(m.acked, m.leo())
	g.epoch++ // what is truncated belonged to another leader
}

// verify compares a recovered log with the model.
func (m *model) verify(p *part) error {
	switch {
	case p.Start() > max(m.start, 0):
		return fmt.Errorf("log start %d, want at most %d", p.Start(), m.start)
	case p.LEO() < m.acked:
		return fmt.Errorf("log end %d, %d was acknowledged", p.LEO(), m.acked)
	case p.Durable() != p.LEO() || p.RecoveryPoint() != p.LEO():
		return fmt.Errorf("after recovery log end %d, durable %d, recovery point %d", p.LEO(), p.Durable(), p.RecoveryPoint())
	}
	possible := m.batches
	if m.maybe != nil {
		possible = append(slices.Clone(possible), m.maybe)
	}
	state := &producer.State{}
	at := protocol.Offset(0)
	var want []entry
	for _, b := range possible {
		if b.NextOffset() > p.LEO() {
			break
		}
		at = b.NextOffset()
		state.Apply(b, b.BaseOffset(), 0)
		for r, err := range b.Records(1 << 20) {
			if err != nil {
				return err
			}
			if r.Offset >= p.Start() {
				want = append(want, entry{r.Offset, string(r.Value)})
			}
		}
	}
	if at != p.LEO() && p.LEO() > p.Start() {
		return fmt.Errorf("log end %d is not that of a batch, the last one before ends at %d", p.LEO(), at)
	}
	got, err := p.tryReadAll(p.Start(), p.LEO(), 700)
	if err != nil {
		return err
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("records of [%d, %d):\n%v, want\n%v", p.Start(), p.LEO(), got, want)
	}
	return m.verifyProducers(p, state, possible)
}

// verifyProducers compares by behaviour: the last batch of every producer is a
// duplicate, and what follows it is welcome. Times are those of the rebuild.
func (m *model) verifyProducers(p *part, want *producer.State, possible []record.Batch) error {
	got := p.ProducerState()
	if got.Len() != want.Len() {
		return fmt.Errorf("%d producers, want %d", got.Len(), want.Len())
	}
	for _, b := range possible {
		dup1, err1 := got.Check(b, true)
		dup2, err2 := want.Check(b, true)
		if (dup1 == nil) != (dup2 == nil) || !sameKind(err1, err2) || dup1 != nil && (dup1.First != dup2.First || dup1.Last != dup2.Last) {
			return fmt.Errorf("batch at %d: %v, %w, want %v, %w", b.BaseOffset(), dup1, err1, dup2, err2)
		}
	}
	return nil
}

// sameKind takes "out of order" and "an old duplicate" for the same: a snapshot
// does not keep that there was no gap before the batches it holds.
func sameKind(a, b error) bool {
	fenced := errors.Is(a, producer.ErrInvalidProducerEpoch) == errors.Is(b, producer.ErrInvalidProducerEpoch)
	return (a == nil) == (b == nil) && fenced
}

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
func crashAt(t *testing.T, seed uint64, ops, n int) (*vfs.Mem, *load) {
	t.Helper()
	fsys := vfs.NewMem()
	fsys.StopAt(n)
	tr := &trace{}
	fsys.Fail(tr.hook)
	w, err := tryStart(t, fsys)
	g := newLoad(seed, w)
	g.trace = tr
	if err == nil {
		err = g.open(log.Init{})
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
func recoverAndVerify(t *testing.T, left *vfs.Mem, boot string, g *load) error {
	t.Helper()
	for round := range 2 {
		w, err := tryStart(t, left, func(c *log.DirConfig) { c.BootID = boot })
		if err != nil {
			return err
		}
		for i := range g.parts {
			p, err := w.tryOpen("t", crashKey(i), crashConfig, log.Init{})
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

func TestNoCrashLosesWhatWasAcknowledged(t *testing.T) {
	const ops = 120
	seeds, cases, steps := 4, 0, 0
	for seed := range uint64(seeds) {
		whole, g := crashAt(t, seed, ops, 0)
		if g.err != nil {
			t.Fatal(g.err)
		}
		total := whole.DurableSteps()
		steps += total
		for n := 1 + int(seed)%crashStride; n <= total; n += crashStride {
			left, g := crashAt(t, seed, ops, n)
			for _, a := range aftermaths(seed<<16 + uint64(n)) {
				cases++
				if err := recoverAndVerify(t, a.make(left), a.boot, g); err != nil {
					t.Fatalf("seed %d, crash before durable step %d, %s: %v\n%s", seed, n, a.name, err, explain(t, a.make(left), a.boot, g))
				}
			}
		}
	}
	t.Logf("%d durable steps of %d loads, %d crashes recovered", steps, seeds, cases)
}

func TestACrashDuringRecoveryLosesNothing(t *testing.T) {
	const ops = 80
	cases := 0
	for seed := range uint64(2) {
		whole, _ := crashAt(t, seed, ops, 0)
		for n := 1 + int(seed); n <= whole.DurableSteps(); n += 43 * crashStride {
			left, g := crashAt(t, seed, ops, n)
			for _, a := range aftermaths(seed<<16 + uint64(n)) {
				for again := 1; ; again++ {
					second := a.make(left)
					second.StopAt(again)
					middle := &trace{}
					second.Fail(middle.hook)
					w, err := tryStart(t, second, boot(a.boot))
					for i := range g.parts {
						if err == nil {
							_, err = w.tryOpen("t", crashKey(i), crashConfig, log.Init{})
						}
					}
					stopped := second.Stopped()
					if w.dir != nil {
						_ = w.dir.Close(false)
					}
					if err != nil && !stopped {
						t.Fatalf("seed %d, step %d, %s: %v", seed, n, a.name, err)
					}
					for _, b := range aftermaths(uint64(again)) {
						cases++
						if b.boot == "boot-1" {
							b.boot = a.boot
						} else {
							b.boot = "boot-3"
						}
						if err := recoverAndVerify(t, b.make(second), b.boot, g); err != nil {
							t.Fatalf("seed %d, crash before step %d, %s, then before step %d of the recovery, %s: %v\nfirst recovery:\n%s\n%s",
								seed, n, a.name, again, b.name, err, middle, explain(t, b.make(second), b.boot, g))
						}
					}
					if !stopped {
						break
					}
				}
			}
		}
	}
	t.Logf("%d crashes recovered", cases)
}
