package log_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
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
	before  *model          // while the log begins anew: what it was, any part of which may be there
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
	commit log.CommitPath
	keys   [2]protocol.PartitionKey
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

func newLoad(seed uint64, w *world, commit log.CommitPath) *load {
	g := &load{rng: rand.New(rand.NewPCG(seed, 1)), w: w, commit: commit, epoch: 1}
	for i := range g.models {
		g.models[i] = &model{}
		g.keys[i] = crashKey(i)
	}
	return g
}

// tinyJournal makes a journal roll, reach its bound and drop segments within a few rounds.
func tinyJournal(d *log.Dir) { d.SetJournal(64<<10, 16<<10, 2<<10, 8<<10, time.Hour) }

func (g *load) open() error {
	for i := range g.parts {
		if err := g.openPart(i); err != nil {
			return err
		}
	}
	return nil
}

func (g *load) openPart(i int) error {
	p, err := g.w.tryOpen("t", g.keys[i], crashConfig, log.Init{})
	if err == nil {
		g.parts[i] = p
	}
	return err
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
	switch k := g.rng.IntN(112); {
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
		upTo := p.RecoveryPoint() // read once: the committer may raise it meanwhile
		m.start = max(m.start, upTo)
		_, _, g.err = p.Evict(upTo, 0, -1, g.w.now())
	case k < 97:
		g.truncate(p, m, i)
	case k < 100:
		g.epoch++
	case k < 102:
		g.restart(i, func() error { return p.TruncateFully(log.Init{}) })
	case k < 104:
		g.restart(i, func() error { return g.recreate(i, g.keys[i].Topic) })
	case k < 106:
		other := topicID
		if g.keys[i].Topic == topicID {
			other[0]++
		}
		g.restart(i, func() error { return g.recreate(i, other) })
	case k < 108:
		if g.err = p.Close(); g.err == nil {
			m.acked = m.leo()
			g.err = g.openPart(i)
		}
	default:
		g.w.dir.JournalIdle()
	}
}

// restart does what makes a log begin anew.
func (g *load) restart(i int, do func() error) {
	p, m := g.parts[i], g.models[i]
	g.ack()
	forget := func() {
		p.mu.Lock()
		p.reported.Store(0)
		p.mu.Unlock()
	}
	forget()
	g.models[i] = &model{before: &model{batches: m.batches, start: m.start}}
	g.next[i] = [3]int32{}
	g.epoch++
	g.err = do()
	forget()
	if g.err == nil {
		g.models[i].before = nil
	}
}

// recreate deletes a partition and makes it anew, with the same or another topic id.
func (g *load) recreate(i int, id protocol.TopicID) error {
	g.keys[i].Topic = id
	if err := g.parts[i].Delete(); err != nil {
		return err
	}
	return g.openPart(i)
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
	err := m.verifyThis(p)
	if err != nil && m.before != nil {
		return m.before.verify(p)
	}
	return err
}

func (m *model) verifyThis(p *part) error {
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
