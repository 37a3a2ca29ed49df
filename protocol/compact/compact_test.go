package compact_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/compact"
	"github.com/stratabroker/strata/protocol/record"
)

func TestMapHoldsTheLatestOffsetOfEachKeyAndSaysWhenItIsFull(t *testing.T) {
	for _, budget := range []int64{0, 24, 48, 1000, 4 << 20} {
		m := compact.NewMap(budget, 0.9, [16]byte{1})
		n := 0
		for ; ; n++ {
			key := fmt.Appendf(nil, "key-%d", n)
			if _, ok := m.Get(key); ok {
				t.Fatalf("budget %d: key %d is there before it was put", budget, n)
			}
			if !m.Put(key, protocol.Offset(n)) {
				break
			}
			if !m.Put(fmt.Appendf(nil, "key-%d", n/2), protocol.Offset(n+1)) {
				t.Fatalf("budget %d: no room for a key that is there", budget)
			}
		}
		least, most := max(1, int(float64(budget)/24*0.9*0.95)), max(1, int(float64(budget)/24*0.9))
		if n != m.Len() || n < least-1 || n > most {
			t.Errorf("budget %d: %d keys, expected %d to %d", budget, n, least, most)
		}
		for i := range n {
			want := protocol.Offset(i)
			if 2*i < n {
				want = protocol.Offset(min(2*i+2, n))
			}
			if got, ok := m.Get(fmt.Appendf(nil, "key-%d", i)); !ok || got != want {
				t.Fatalf("budget %d: key %d at %d, %t, want %d", budget, i, got, ok, want)
			}
		}
	}
}

func TestMapStaysWithinItsBudgetWhileItGrows(t *testing.T) {
	const budget = 12 << 20
	m := compact.NewMap(budget, 0.9, [16]byte{})
	var key [8]byte
	most := uint64(0)
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	for i := 0; ; i++ {
		binary.BigEndian.PutUint64(key[:], uint64(i))
		if !m.Put(key[:], protocol.Offset(i)) {
			break
		}
		if i%(100<<10) == 0 {
			most = max(most, heap())
		}
		if i == 1000 && heap() > before+1<<20 {
			t.Errorf("a thousand keys take %d bytes", heap()-before)
		}
	}
	if most = max(most, heap()); most > before+budget+budget/20 {
		t.Errorf("takes %d bytes of %d", most-before, budget)
	}
	runtime.KeepAlive(m)
}

// batch makes one of records "key" or "key=value", at consecutive offsets.
func batch(at protocol.Offset, now protocol.Timestamp, records ...string) record.Batch {
	b := record.NewBuilder(at)
	for i, r := range records {
		key, value, live := bytes.Cut([]byte(r), []byte("="))
		if !live {
			value = nil
		}
		b.Add(record.Record{Timestamp: now + protocol.Timestamp(i), Key: key, Value: value})
	}
	return b.Bytes()
}

// run makes a pass that covers all of the batches.
func run(t *testing.T, clean protocol.Offset, rules compact.Rules, batches ...record.Batch) []record.Batch {
	t.Helper()
	end := batches[len(batches)-1].NextOffset()
	keys := compact.NewMap(1<<16, 0.9, [16]byte{})
	scan := compact.NewScan(keys, clean, end)
	for _, b := range batches {
		scan.Batch(b)
	}
	rules.FirstDirty, rules.Covered = clean, scan.Covered()
	filter := compact.NewFilter(keys, rules)
	var out []record.Batch
	for _, b := range batches {
		v, err := filter.Batch(b, false)
		if err != nil {
			t.Fatal(err)
		}
		if v.Batch != nil {
			out = append(out, v.Batch)
		}
	}
	return out
}

func records(t *testing.T, batches ...record.Batch) []string {
	t.Helper()
	var out []string
	for _, b := range batches {
		for r, err := range b.Records(1 << 20) {
			if err != nil {
				t.Fatal(err)
			}
			s := fmt.Sprintf("%d:%s", r.Offset, r.Key)
			if r.Value != nil {
				s += "=" + string(r.Value)
			}
			out = append(out, s)
		}
	}
	return out
}

func TestTheDeleteHorizonIsStampedByTheFirstPassThatCoversATombstoneAndKept(t *testing.T) {
	in := []record.Batch{batch(0, 100, "a=1", "b=1"), batch(2, 200, "a", "c=1")}
	out := run(t, 0, compact.Rules{Now: 1000, DeleteRetentionMs: 50}, in...)
	if got := records(t, out...); !slices.Equal(got, []string{"1:b=1", "2:a", "3:c=1"}) {
		t.Fatalf("got %v", got)
	}
	if out[0].HasDeleteHorizon() || out[0].BaseTimestamp() != 100 || out[0].MaxTimestamp() != 101 {
		t.Errorf("batch without a tombstone: %d, %d", out[0].BaseTimestamp(), out[0].MaxTimestamp())
	}
	stamped := out[1]
	if !stamped.HasDeleteHorizon() || stamped.BaseTimestamp() != 1050 || stamped.MaxTimestamp() != 201 {
		t.Errorf("horizon %t at %d, max %d", stamped.HasDeleteHorizon(), stamped.BaseTimestamp(), stamped.MaxTimestamp())
	}
	for r := range stamped.Records(1 << 20) {
		if r.Timestamp != 198+protocol.Timestamp(r.Offset) {
			t.Errorf("record at %d now has timestamp %d", r.Offset, r.Timestamp)
		}
	}
	// The retention of a later pass does not count, nor does one before the horizon touch anything.
	same := run(t, 4, compact.Rules{Now: 1049, DeleteRetentionMs: 1}, out...)
	if !bytes.Equal(same[1], stamped) {
		t.Errorf("changed before its horizon: %v", records(t, same...))
	}
	gone := run(t, 4, compact.Rules{Now: 1050, DeleteRetentionMs: 50}, out...)
	if got := records(t, gone...); !slices.Equal(got, []string{"1:b=1", "3:c=1"}) {
		t.Errorf("past the horizon: %v", got)
	}
	// A stamp that came from elsewhere, with a leader's batch, says nothing of what lies below it here.
	if got := records(t, run(t, 0, compact.Rules{Now: 9999}, append([]record.Batch{batch(0, 100, "a=0")}, stamped)...)...); !slices.Contains(got, "2:a") {
		t.Errorf("a tombstone that no pass covered is gone: %v", got)
	}
}

func TestATombstoneStaysAboveABatchThatNobodyCanDecode(t *testing.T) {
	opaque := batch(0, 100, "a=1")
	opaque[22] |= 5
	binary.BigEndian.PutUint32(opaque[17:], record.CRC(opaque[21:]))
	out := run(t, 0, compact.Rules{Now: 1000}, opaque, batch(1, 100, "a=2"), batch(2, 200, "a"))
	out = run(t, 3, compact.Rules{Now: 5000}, out...)
	if len(out) != 2 || !bytes.Equal(out[0], opaque) || !slices.Equal(records(t, out[1]), []string{"2:a"}) {
		t.Errorf("%d batches are left", len(out))
	}
}

// A batch of 65 MiB when decoded is kept as it is, and decoding it does not take that much.
func TestABombIsKeptAsItIsWithinTheBudget(t *testing.T) {
	for _, codec := range []record.Codec{record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
		b := record.NewBuilder(0)
		b.Add(record.Record{Key: []byte("a"), Value: make([]byte, 65<<20)})
		bomb, err := b.Bytes().Recompress(codec, 1, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		out := run(t, 0, compact.Rules{}, bomb, batch(1, 0, "a=2"))
		if len(out) != 2 || !bytes.Equal(out[0], bomb) {
			t.Errorf("%s: %d batches", codec, len(out))
		}
	}
}

// One record that claims a far offset must not make all later ones of its key superseded.
func TestARecordOutsideOfItsBatchSupersedesNothing(t *testing.T) {
	liar := record.NewBuilder(0)
	liar.Add(record.Record{Key: []byte("x")})
	liar.AddAt(record.Record{Offset: 1000, Key: []byte("a")})
	b := liar.Bytes()
	binary.BigEndian.PutUint32(b[23:], 1)
	binary.BigEndian.PutUint32(b[17:], record.CRC(b[21:]))
	out := run(t, 0, compact.Rules{}, b, batch(2, 0, "a=1"), batch(3, 0, "a=2"))
	if len(out) != 2 || !bytes.Equal(out[0], b) || !slices.Equal(records(t, out[1]), []string{"3:a=2"}) {
		t.Errorf("%d batches are left", len(out))
	}
}

func TestATrackerThatIsFullKeepsEveryBatchOfTheProducersItDoesNotKnow(t *testing.T) {
	track := compact.NewTracker(1)
	var in []record.Batch
	for i := range 4 {
		b := record.NewBuilder(protocol.Offset(i))
		b.ProducerID, b.ProducerEpoch, b.BaseSequence = protocol.ProducerID(i%2), 0, int32(i/2)
		b.Add(record.Record{Key: []byte("a"), Value: []byte("v")})
		in = append(in, b.Bytes())
		track.Note(in[i])
	}
	var got []protocol.Offset
	for _, b := range run(t, 0, compact.Rules{Producers: track}, in...) {
		got = append(got, b.BaseOffset())
	}
	if want := []protocol.Offset{1, 2, 3}; !slices.Equal(got, want) {
		t.Errorf("batches at %v, want %v", got, want)
	}
}

func TestAMarkerGoesAfterItsTransactionsDataAndItsHorizon(t *testing.T) {
	data := record.NewBuilder(0)
	data.ProducerID, data.ProducerEpoch, data.BaseSequence, data.Transactional = 7, 0, 0, true
	data.Add(record.Record{Key: []byte("a"), Value: []byte("1")})
	left := []record.Batch{data.Bytes(), marker(1, 7, 0, true, 100), batch(2, 200, "b=1")}
	rules := compact.Rules{Now: 1000, DeleteRetentionMs: 10}
	left = run(t, 0, rules, left...)
	if len(left) != 3 || left[1].HasDeleteHorizon() {
		t.Fatalf("%d batches, marker stamped while there is data: %t", len(left), left[1].HasDeleteHorizon())
	}
	left = append(left, batch(3, 300, "a=2"))
	left = run(t, 3, rules, left...)
	if len(left) != 3 || !left[0].Control() || !left[0].HasDeleteHorizon() || left[0].BaseTimestamp() != 1010 {
		t.Fatalf("%d batches, marker stamped %t", len(left), left[0].HasDeleteHorizon())
	}
	if r := slices.Collect(func(yield func(record.Record) bool) {
		for r := range left[0].Records(1 << 10) {
			yield(r)
		}
	}); len(r) != 1 || r[0].Timestamp != 100 || !bytes.Equal(r[0].Key, []byte{0, 0, 0, 1}) {
		t.Errorf("the marker now reads %+v", r)
	}
	// Another replica stamped it; here its data is still there.
	if out := run(t, 4, compact.Rules{Now: 9999}, data.Bytes(), left[0], batch(3, 0, "q=1")); len(out) != 3 {
		t.Error("a marker is gone before its data")
	}
	if left = run(t, 4, compact.Rules{Now: 1009}, left...); len(left) != 3 {
		t.Fatal("marker is gone before its horizon")
	}
	if left = run(t, 4, compact.Rules{Now: 1010}, left...); len(left) != 2 {
		t.Fatal("marker stays past its horizon")
	}
}

// In the hot copy of a tiered partition nothing may go that keeps a deleted key from coming back.
func TestInATieredPartitionTheHotCopyDropsSupersededRecordsOnly(t *testing.T) {
	mark := marker(4, 7, 0, true, 100)
	in := []record.Batch{batch(0, 100, "a=1", "b=1"), batch(2, 200, "a", "b=2"), mark, batch(5, 300, "c=1")}
	rules := compact.Rules{Now: 1000, DeleteRetentionMs: 50, SupersededOnly: true}
	want := []string{"2:a", "3:b=2", "4:\x00\x00\x00\x01=\x00\x00\x00\x00\x00\x01", "5:c=1"}
	for range 3 {
		in = run(t, 0, rules, in...)
		if got := records(t, in...); !slices.Equal(got, want) {
			t.Fatalf("got %q", got)
		}
		for _, b := range in {
			if b.HasDeleteHorizon() {
				t.Errorf("batch at %d got a delete horizon", b.BaseOffset())
			}
		}
		rules.Now += 1000
	}
	rules.Dropped = func(o protocol.Offset) bool { return o == 2 || o == 4 }
	if got := records(t, run(t, 0, rules, in...)...); !slices.Equal(got, want) {
		t.Errorf("dropped by the cold tier, but what lies below was not covered: got %q", got)
	}
	if got := records(t, run(t, 6, rules, in...)...); !slices.Equal(got, []string{"3:b=2", "5:c=1"}) {
		t.Errorf("dropped by the cold tier: got %q", got)
	}
}

// FuzzFilter: whatever the bytes are, a pass does not fail, what is left is a good batch of the same offsets, and a
// second pass of the same rules changes nothing more.
func FuzzFilter(f *testing.F) {
	f.Add([]byte(batch(0, 5, "a=1", "b", "a=2")), int64(3), false)
	f.Add([]byte(marker(0, 7, 1, true, 9)), int64(1), true)
	for codec := range record.Codec(5) {
		b, err := batch(0, 5, "a=1", "b", "a=2").Recompress(codec, 1, 1<<20)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(b), int64(2), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, clean int64, superseded bool) {
		if len(data) < record.HeaderLen {
			return
		}
		b := record.Batch(slices.Clone(data))
		b[16] = record.Magic
		binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
		b.SetBaseOffset(0)
		binary.BigEndian.PutUint32(b[17:], record.CRC(b[21:]))
		if b.Check() != nil {
			return
		}
		rules := compact.Rules{Now: 1 << 40, DeleteRetentionMs: 5, SupersededOnly: superseded}
		in := []record.Batch{b, batch(b.NextOffset(), 7, "a=9", "q")}
		before := slices.Clone(b)
		out := run(t, protocol.Offset(clean), rules, in...)
		if !bytes.Equal(b, before) {
			t.Fatal("what came in was changed")
		}
		for _, o := range out {
			if err := o.Check(); err != nil {
				t.Fatal(err)
			}
		}
		if out[0].BaseOffset() == 0 && out[0].LastOffset() != b.LastOffset() {
			t.Fatalf("ends at %d, was %d", out[0].LastOffset(), b.LastOffset())
		}
		again := run(t, protocol.Offset(clean), rules, out...)
		if len(again) != len(out) {
			t.Fatalf("%d batches, then %d", len(out), len(again))
		}
		for i := range out {
			if !bytes.Equal(out[i], again[i]) {
				t.Fatalf("batch %d changed once more", i)
			}
		}
	})
}
