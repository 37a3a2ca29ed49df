package compact_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/compact"
	"github.com/stratabroker/strata/protocol/record"
)

const retention = 1000

// world is one partition's whole history, and what compaction has left of it.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	now     protocol.Timestamp
	next    protocol.Offset
	all     []record.Batch // as they were written
	left    []record.Batch
	aborted []protocol.AbortedTxn                  // of all
	index   []protocol.AbortedTxn                  // of what is left
	clean   protocol.Offset                        // end of what passes have covered
	covered map[protocol.Offset]protocol.Timestamp // when the first pass came by that covered an offset
	opaque  bool                                   // a batch that cannot be decoded was written

	sequence map[protocol.ProducerID]int32
	epoch    map[protocol.ProducerID]protocol.ProducerEpoch
	open     map[protocol.ProducerID]protocol.Offset
	tiered   bool
	dropped  map[protocol.Offset]bool // by the cold tier
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	return &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 3)), now: 5000,
		covered: map[protocol.Offset]protocol.Timestamp{}, sequence: map[protocol.ProducerID]int32{},
		epoch: map[protocol.ProducerID]protocol.ProducerEpoch{}, open: map[protocol.ProducerID]protocol.Offset{},
		dropped: map[protocol.Offset]bool{},
	}
}

func (w *world) write(b record.Batch) {
	w.all, w.left = append(w.all, b), append(w.left, b)
	w.next = b.NextOffset()
}

func (w *world) key() []byte {
	if w.rng.IntN(25) == 0 {
		return nil
	}
	return fmt.Appendf(nil, "key-%d", w.rng.IntN(30))
}

func (w *world) value() []byte {
	if w.rng.IntN(4) == 0 {
		return nil
	}
	return bytes.Repeat([]byte{byte('a' + w.rng.IntN(26))}, w.rng.IntN(40))
}

// data writes a batch, in one of the codecs.
func (w *world) data(id protocol.ProducerID, transactional bool) {
	b := record.NewBuilder(w.next)
	b.LeaderEpoch = protocol.Epoch(w.next / 50)
	n := 1 + w.rng.IntN(6)
	if id >= 0 {
		b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = id, w.epoch[id], w.sequence[id], transactional
		w.sequence[id] += int32(n)
	}
	for range n {
		r := record.Record{Timestamp: w.now - protocol.Timestamp(w.rng.IntN(100)), Key: w.key(), Value: w.value()}
		if w.rng.IntN(5) == 0 {
			r.Headers = []record.Header{{Key: "h", Value: []byte("x")}}
		}
		b.Add(r)
	}
	if _, isOpen := w.open[id]; transactional && !isOpen {
		w.open[id] = w.next
	}
	batch := b.Bytes()
	switch kind := w.rng.IntN(40); {
	case kind == 0 && !w.tiered:
		batch[22] |= 5 // no such codec: only this test can read it
		binary.BigEndian.PutUint32(batch[17:], record.CRC(batch[21:]))
		w.opaque = true
	case kind < 3:
		codec := record.Codec(1 + w.rng.IntN(4))
		out, err := batch.Recompress(codec, 1, 1<<20)
		if err != nil {
			w.t.Fatal(err)
		}
		batch = out
	case kind < 7:
		batch.SetLogAppendTime(w.now)
	}
	w.write(batch)
}

func marker(at protocol.Offset, id protocol.ProducerID, epoch protocol.ProducerEpoch, commit bool, now protocol.Timestamp) record.Batch {
	b := record.NewBuilder(at)
	b.ProducerID, b.ProducerEpoch, b.Transactional, b.Control = id, epoch, true, true
	kind := byte(0)
	if commit {
		kind = 1
	}
	b.Add(record.Record{Timestamp: now, Key: []byte{0, 0, 0, kind}, Value: []byte{0, 0, 0, 0, 0, 1}})
	return b.Bytes()
}

// end writes a marker; some bump the epoch, as KIP-890 has it.
func (w *world) end(id protocol.ProducerID) {
	commit := w.rng.IntN(2) == 0
	if w.rng.IntN(2) == 0 {
		w.epoch[id]++
		w.sequence[id] = 0
	}
	at := w.next
	w.write(marker(at, id, w.epoch[id], commit, w.now))
	first, was := w.open[id]
	delete(w.open, id)
	if was && !commit {
		stable := at + 1
		for _, o := range w.open {
			stable = min(stable, o)
		}
		a := protocol.AbortedTxn{Producer: id, First: first, Last: at, LastStable: stable}
		w.aborted, w.index = append(w.aborted, a), append(w.index, a)
	}
}

func (w *world) stable() protocol.Offset {
	stable := w.next
	for _, o := range w.open {
		stable = min(stable, o)
	}
	return stable
}

func (w *world) step() {
	w.now += protocol.Timestamp(w.rng.IntN(60))
	switch id := protocol.ProducerID(w.rng.IntN(6)); {
	case w.rng.IntN(3) == 0:
		w.data(protocol.NoProducerID, false)
	case id < 3:
		w.data(id, false)
	case w.rng.IntN(3) > 0:
		w.data(id, true)
	default:
		w.end(id)
	}
}

// view is what a reader of committed records sees: offsets, and in the end a table.
func view(batches []record.Batch, aborted []protocol.AbortedTxn) (map[protocol.Offset]record.Record, map[string]string) {
	records, table := map[protocol.Offset]record.Record{}, map[string]string{}
	for _, b := range batches {
		out := slices.ContainsFunc(aborted, func(a protocol.AbortedTxn) bool {
			return b.Transactional() && a.Producer == b.ProducerID() && a.First <= b.BaseOffset() && b.BaseOffset() < a.Last
		})
		if out || b.Control() {
			continue
		}
		if b.Codec() > record.Zstd {
			b = slices.Clone(b)
			b[22] &^= 7
		}
		for r, err := range b.Records(1 << 20) {
			if err != nil {
				panic(err)
			}
			records[r.Offset] = r
			switch {
			case r.Key == nil:
			case r.Value == nil:
				delete(table, string(r.Key))
			default:
				table[string(r.Key)] = string(r.Value)
			}
		}
	}
	return records, table
}

type producerState struct {
	epoch protocol.ProducerEpoch
	last  int32
	open  bool
}

// producers is what a start makes of the batches.
func producers(batches []record.Batch) map[protocol.ProducerID]producerState {
	out := map[protocol.ProducerID]producerState{}
	for _, b := range batches {
		id := b.ProducerID()
		if id < 0 || b.Control() && b.Count() == 0 {
			continue
		}
		s, known := out[id]
		if !known || s.epoch != b.ProducerEpoch() {
			s.epoch, s.last = b.ProducerEpoch(), -1
		}
		if b.Control() {
			s.open = false
		} else {
			s.last, s.open = b.LastSequence(), s.open || b.Transactional()
		}
		out[id] = s
	}
	return out
}

// pass compacts. cut is how many of the batches are replaced before a crash; below 0 all.
func (w *world) pass(budget int64, cut int) {
	w.t.Helper()
	keys := compact.NewMap(budget, 0.9, [16]byte{byte(w.rng.Uint32())})
	scan := compact.NewScan(keys, w.clean, w.stable())
	scan.AddAborted(w.index)
	track := compact.NewTracker(100)
	for _, b := range w.all {
		track.Note(b) // of the batches left it would be the same, which producers() shows
	}
	for _, b := range w.left {
		if !scan.Batch(b) {
			break
		}
	}
	if scan.Full() == (scan.Covered() == w.stable()) && w.stable() > w.clean && scan.Covered() < w.stable() {
		w.t.Fatalf("covered %d of %d, full %t", scan.Covered(), w.stable(), scan.Full())
	}
	rules := compact.Rules{
		Now: w.now, DeleteRetentionMs: retention, FirstDirty: w.clean, Covered: scan.Covered(), Producers: track,
		SupersededOnly: w.tiered,
	}
	if w.tiered {
		rules.Dropped = func(o protocol.Offset) bool { return w.dropped[o] }
	}
	filter := compact.NewFilter(keys, rules)
	filter.AddAborted(w.index)
	var left []record.Batch
	index := slices.Clone(w.index)
	segment, reached := 1+w.rng.IntN(20), protocol.Offset(0)
	for i, b := range w.left {
		if cut >= 0 && i >= cut {
			left = append(left, b)
			continue
		}
		before := slices.Clone(b)
		reached = b.NextOffset()
		v, err := filter.Batch(b, i%segment == segment-1 || i == cut-1 || i == len(w.left)-1)
		if err != nil {
			w.t.Fatal(err)
		}
		if !bytes.Equal(b, before) {
			w.t.Fatal("the batch that came in was changed")
		}
		w.check(b, v)
		if b.Control() && v.Aborted == nil {
			index = slices.DeleteFunc(index, func(a protocol.AbortedTxn) bool { return a.Last == b.LastOffset() })
		}
		if v.Batch != nil {
			left = append(left, v.Batch)
		}
	}
	w.left, w.index = left, index
	done := scan.Covered()
	if cut >= 0 && cut < len(w.left) {
		done = min(done, reached)
	}
	for o := range done {
		if _, before := w.covered[o]; !before {
			w.covered[o] = w.now
		}
	}
	if cut < 0 {
		w.clean = max(w.clean, scan.Covered())
	}
	w.verify(cut < 0)
}

func (w *world) check(b record.Batch, v compact.Verdict) {
	w.t.Helper()
	if v.Batch == nil {
		return
	}
	if err := v.Batch.Check(); err != nil {
		w.t.Fatal(err)
	}
	if v.Changed == bytes.Equal(v.Batch, b) {
		w.t.Fatalf("batch at %d: changed %t", b.BaseOffset(), v.Changed)
	}
	o := v.Batch
	if o.BaseOffset() != b.BaseOffset() || o.LastOffset() != b.LastOffset() || o.LeaderEpoch() != b.LeaderEpoch() || o.ProducerID() != b.ProducerID() ||
		o.ProducerEpoch() != b.ProducerEpoch() || o.BaseSequence() != b.BaseSequence() || o.Transactional() != b.Transactional() ||
		o.Control() != b.Control() || o.LogAppendTime() != b.LogAppendTime() || o.Count() > 0 && o.Codec() != b.Codec() {
		w.t.Fatalf("batch at %d changed its header", b.BaseOffset())
	}
	if b.NextOffset() > w.stable() && v.Changed {
		w.t.Fatalf("batch at %d is not stable and was changed", b.BaseOffset())
	}
}

func (w *world) verify(whole bool) {
	w.t.Helper()
	before, wantTable := view(w.all, w.aborted)
	after, table := view(w.left, w.index)
	if !maps.Equal(table, wantTable) {
		w.t.Fatalf("table after compaction\n%v, want\n%v", table, wantTable)
	}
	for o, r := range after {
		if !reflect.DeepEqual(r, before[o]) {
			w.t.Fatalf("record at %d is %+v, was %+v", o, r, before[o])
		}
	}
	if got, want := producers(w.left), producers(w.all); !maps.Equal(got, want) {
		w.t.Fatalf("producers after compaction\n%v, want\n%v", got, want)
	}
	latest := map[string]protocol.Offset{}
	for o, r := range before {
		if r.Key != nil {
			latest[string(r.Key)] = max(latest[string(r.Key)], o)
		}
	}
	for key, at := range latest {
		if _, there := after[at]; there || before[at].Value != nil {
			if !there {
				w.t.Fatalf("the last record of %s, at %d, is gone", key, at)
			}
			continue
		}
		since, covered := w.covered[at]
		if !w.tiered && (!covered || w.now < since+retention) || w.tiered && !w.dropped[at] {
			w.t.Fatalf("the tombstone of %s at %d is gone: covered %t at %d, now %d", key, at, covered, since, w.now)
		}
	}
	if whole {
		w.complete(after)
	}
}

// complete: nothing that should go has stayed.
func (w *world) complete(after map[protocol.Offset]record.Record) {
	w.t.Helper()
	seen := map[string]protocol.Offset{}
	for _, o := range slices.Sorted(maps.Keys(after)) {
		if o >= w.clean {
			break
		}
		key := after[o].Key
		if key == nil && !w.tiered && !w.opaque {
			w.t.Fatalf("a record without a key is left at %d", o)
		}
		if old, twice := seen[string(key)]; key != nil && twice && !w.opaque {
			w.t.Fatalf("%s is left at %d and %d", key, old, o)
		}
		seen[string(key)] = o
	}
	everything, _ := view(w.left, nil)
	for o := range everything {
		if _, visible := after[o]; !visible && o < w.clean && !w.opaque {
			w.t.Fatalf("a record of an aborted transaction is left at %d", o)
		}
	}
}

func budgetOf(keys int) int64 { return int64(keys+1) * 24 * 10 / 9 }

func TestCompactionKeepsWhatANaiveTableHolds(t *testing.T) {
	for seed := range uint64(80) {
		w := newWorld(t, seed)
		w.tiered = seed%4 == 3
		for range 12 {
			for range w.rng.IntN(40) {
				w.step()
			}
			if w.tiered {
				w.coldPass()
			}
			budget := budgetOf(1000)
			if w.rng.IntN(2) == 0 {
				budget = budgetOf(1 + w.rng.IntN(12))
			}
			cut := -1
			if w.rng.IntN(3) == 0 {
				cut = w.rng.IntN(len(w.left) + 1)
			}
			w.pass(budget, cut)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		if seed%4 == 0 {
			w.settle()
		}
	}
}

// coldPass lets the cold tier drop some tombstones.
func (w *world) coldPass() {
	for o := range w.clean {
		if w.rng.IntN(10) == 0 {
			w.dropped[o] = true
		}
	}
}

// settle: once all is decided and old, only live records and what producers need is left.
func (w *world) settle() {
	w.t.Helper()
	for _, id := range slices.Sorted(maps.Keys(w.open)) {
		w.end(id)
	}
	if w.opaque {
		return
	}
	for range 4 {
		w.pass(budgetOf(1000), -1)
		w.now += retention
	}
	w.pass(budgetOf(1000), -1)
	_, table := view(w.all, w.aborted)
	records, markers := 0, 0
	for _, b := range w.left {
		if b.Control() {
			markers += int(b.Count())
		} else {
			records += int(b.Count())
		}
	}
	if records != len(table) {
		w.t.Fatalf("%d records are left for a table of %d", records, len(table))
	}
	// One for each producer that writes in transactions: for its epoch, or for its last batch, which is held.
	if markers > 3+len(w.held()) {
		w.t.Fatalf("%d markers are left", markers)
	}
}

// held are the transactional batches that are left, most of them empty.
func (w *world) held() []record.Batch {
	return slices.DeleteFunc(slices.Clone(w.left), func(b record.Batch) bool { return !b.Transactional() || b.Control() })
}
