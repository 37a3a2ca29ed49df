package format_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/format"
)

var rewrite = flag.Bool("rewrite", false, "write golden files instead of comparing")

// batchAt is one batch of a test's data, as a model of it.
type batchAt struct {
	pos   int64
	base  protocol.Offset
	next  protocol.Offset
	maxTS protocol.Timestamp
}

// testBatches makes batches of n records each whose timestamps wander, with values of up to size bytes.
func testBatches(r *rand.Rand, base protocol.Offset, batches, size int) ([]byte, []batchAt, protocol.Offset) {
	var out []byte
	var model []batchAt
	ts := protocol.Timestamp(1_600_000_000_000)
	for range batches {
		b := record.NewBuilder(base)
		b.LeaderEpoch = 4
		for range 1 + r.IntN(4) {
			ts += protocol.Timestamp(r.IntN(2000)) - 900
			value := make([]byte, r.IntN(size))
			for i := range value {
				value[i] = byte(r.Uint32())
			}
			b.Add(record.Record{Timestamp: ts, Key: []byte("key"), Value: value})
		}
		batch := b.Bytes()
		model = append(model, batchAt{pos: int64(len(out)), base: base, next: batch.NextOffset(), maxTS: batch.MaxTimestamp()})
		out = append(out, batch...)
		base = batch.NextOffset()
	}
	return out, model, base
}

func testMeta(base, end protocol.Offset) format.SegmentMeta {
	return format.SegmentMeta{
		Key: testKey(2), TopicName: "events", Base: base, End: end, Epoch: 4, Rand: 0xabcdef, ChunkSize: 4 << 10,
		Epochs:    []protocol.EpochStart{{Epoch: 3, Start: base}, {Epoch: 4, Start: base + 2}},
		Producers: []byte("producer state"), Aborted: []protocol.AbortedTxn{{Producer: 9, First: base, Last: base + 1, LastStable: base + 2}},
		SealedMs: 1_700_000_000_123, Attempt: metadata.Attempt{Generation: 1, Index: 77},
	}
}

// testSegment builds a segment object and gives it whole.
func testSegment(tb testing.TB, seed uint64, base protocol.Offset, batches, size int) (*format.Segment, format.Entry, []byte, []batchAt) {
	tb.Helper()
	data, model, end := testBatches(rand.New(rand.NewPCG(seed, 1)), base, batches, size)
	s, err := format.BuildSegment(testMeta(base, end), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		tb.Fatal(err)
	}
	object, err := io.ReadAll(s.Body())
	if err != nil || int64(len(object)) != s.Size() {
		tb.Fatalf("body of %d bytes, size %d: %v", len(object), s.Size(), err)
	}
	return s, s.Entry(testMeta(base, end).ObjectKey()), object, model
}

func tailOf(object []byte, e format.Entry) []byte {
	return object[e.IndexOffset:][:e.IndexLength]
}

func TestSegmentComesBackFromItsEntryAndFromItsFooter(t *testing.T) {
	_, e, object, model := testSegment(t, 1, 1000, 300, 400)
	want := testMeta(1000, model[len(model)-1].next)
	x, err := format.DecodeIndex(tailOf(object, e), e)
	if err != nil {
		t.Fatal(err)
	}
	meta, y, err := format.OpenSegment(bytes.NewReader(object), int64(len(object)))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(x, y) || !reflect.DeepEqual(meta, want) || !reflect.DeepEqual(x.Meta(), want) {
		t.Errorf("meta is %+v, want %+v", meta, want)
	}
	if err := x.Verify(bytes.NewReader(object)); err != nil {
		t.Error(err)
	}
	last := model[len(model)-1]
	if e.Base != 1000 || e.End != last.next || e.DataBytes != x.DataBytes() || e.ObjectSize != int64(len(object)) || e.ObjectKey != want.ObjectKey() {
		t.Errorf("entry %+v", e)
	}
	if int(e.IndexLength) > len(object)/20+600 {
		t.Errorf("tail of %d bytes for %d bytes of batches", e.IndexLength, e.DataBytes)
	}
}

func TestFloorGivesTheChunkWhereTheBatchBegins(t *testing.T) {
	for _, size := range []int{10, 400, 20000} {
		_, e, object, model := testSegment(t, uint64(size), 50, 200, size)
		x, err := format.DecodeIndex(tailOf(object, e), e)
		if err != nil {
			t.Fatal(err)
		}
		boundaries := map[int64]bool{}
		for _, b := range model {
			boundaries[b.pos] = true
		}
		for _, b := range model {
			for _, o := range []protocol.Offset{b.base, b.next - 1} {
				pos := x.Floor(o)
				if !boundaries[pos] || pos > b.pos || pos/int64(e.ChunkSize) != b.pos/int64(e.ChunkSize) {
					t.Fatalf("floor of %d is %d, its batch begins at %d", o, pos, b.pos)
				}
			}
		}
	}
}

func TestFloorTimeGivesTheChunkOfTheFirstBatchNotBelow(t *testing.T) {
	_, e, object, model := testSegment(t, 3, 0, 400, 300)
	x, err := format.DecodeIndex(tailOf(object, e), e)
	if err != nil {
		t.Fatal(err)
	}
	for ts := model[0].maxTS - 3000; ts <= e.MaxTimestamp+100; ts += 37 {
		i := slices.IndexFunc(model, func(b batchAt) bool { return b.maxTS >= ts })
		pos := x.FloorTime(ts)
		switch {
		case i < 0:
			if pos != e.DataBytes {
				t.Fatalf("time %d is in no batch, floor is %d", ts, pos)
			}
		case pos > model[i].pos || pos/int64(e.ChunkSize) != model[i].pos/int64(e.ChunkSize):
			t.Fatalf("floor of time %d is %d, its batch begins at %d", ts, pos, model[i].pos)
		}
	}
}

func TestChunksCoverTheBatches(t *testing.T) {
	_, e, object, _ := testSegment(t, 4, 0, 100, 300)
	x, err := format.DecodeIndex(tailOf(object, e), e)
	if err != nil {
		t.Fatal(err)
	}
	next := int64(0)
	for i := range x.Chunks() {
		off, n := x.ChunkRange(i)
		if off != next || n <= 0 || n > int64(e.ChunkSize) {
			t.Fatalf("chunk %d is [%d, +%d), the last ended at %d", i, off, n, next)
		}
		b := slices.Clone(object[off : off+n])
		if err := x.CheckChunk(i, b); err != nil {
			t.Fatal(err)
		}
		b[n/2] ^= 1
		if err := x.CheckChunk(i, b); !errors.Is(err, format.ErrCorrupt) {
			t.Fatalf("flipped bit in chunk %d: %v", i, err)
		}
		if err := x.CheckChunk(i, b[:n-1]); !errors.Is(err, format.ErrCorrupt) {
			t.Fatalf("short chunk %d: %v", i, err)
		}
		next = off + n
	}
	if next != e.DataBytes {
		t.Errorf("chunks end at %d, batches at %d", next, e.DataBytes)
	}
}

// readWhole reads an object the way verify does.
func readWhole(object []byte, e format.Entry) error {
	if e.ObjectSize != int64(len(object)) {
		return format.ErrCorrupt
	}
	x, err := format.DecodeIndex(tailOf(object, e), e)
	if err != nil {
		return err
	}
	return x.Verify(bytes.NewReader(object))
}

func TestEveryFlippedByteIsFound(t *testing.T) {
	_, e, object, _ := testSegment(t, 5, 10, 20, 250)
	if err := readWhole(object, e); err != nil {
		t.Fatal(err)
	}
	for i := range object {
		object[i] ^= 0x40
		if err := readWhole(object, e); !errors.Is(err, format.ErrCorrupt) {
			t.Fatalf("byte %d of %d: %v", i, len(object), err)
		}
		_, x, err := format.OpenSegment(bytes.NewReader(object), int64(len(object)))
		if err == nil {
			err = x.Verify(bytes.NewReader(object))
		}
		if !errors.Is(err, format.ErrCorrupt) {
			t.Fatalf("byte %d of %d, without its entry: %v", i, len(object), err)
		}
		object[i] ^= 0x40
	}
}

func TestEveryShortenedObjectIsFound(t *testing.T) {
	_, _, object, _ := testSegment(t, 6, 10, 5, 100)
	for n := range object {
		if _, _, err := format.OpenSegment(bytes.NewReader(object[:n]), int64(n)); !errors.Is(err, format.ErrCorrupt) {
			t.Fatalf("%d of %d bytes: %v", n, len(object), err)
		}
	}
}

func TestSwappedObjectsAreFoundByTheirIdentity(t *testing.T) {
	// Same size, same offsets, other partition.
	data, _, end := testBatches(rand.New(rand.NewPCG(1, 1)), 0, 10, 50)
	var entries []format.Entry
	var objects [][]byte
	for p := range int32(2) {
		m := testMeta(0, end)
		m.Key.Partition = p
		s, err := format.BuildSegment(m, bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		object, _ := io.ReadAll(s.Body())
		entries, objects = append(entries, s.Entry(m.ObjectKey())), append(objects, object)
	}
	var bad *format.CorruptError
	if _, err := format.DecodeIndex(tailOf(objects[1], entries[0]), entries[0]); !errors.As(err, &bad) || bad.Part != format.IdentityPart {
		t.Errorf("swapped object: %v", err)
	}
}

func TestNewerSegmentIsNotCorrupt(t *testing.T) {
	_, _, object, _ := testSegment(t, 7, 0, 3, 50)
	trailer := object[len(object)-28:]
	sections := int(trailer[15])
	trailer[9] = format.FormatVersion + 1
	footer := object[len(object)-28-24*sections:]
	crc := record.CRC(footer[:len(footer)-4])
	copy(footer[len(footer)-4:], []byte{byte(crc >> 24), byte(crc >> 16), byte(crc >> 8), byte(crc)})
	if _, _, err := format.OpenSegment(bytes.NewReader(object), int64(len(object))); !errors.Is(err, format.ErrNewerFormat) || errors.Is(err, format.ErrCorrupt) {
		t.Errorf("segment of version 2: %v", err)
	}
}

func TestBuildRefusesBatchesThatAreNotThoseOfTheRange(t *testing.T) {
	data, model, end := testBatches(rand.New(rand.NewPCG(8, 1)), 100, 20, 100)
	flipped := slices.Clone(data)
	flipped[len(flipped)-1] ^= 1
	second := model[1].pos
	build := func(base, end protocol.Offset, b []byte) error {
		_, err := format.BuildSegment(testMeta(base, end), bytes.NewReader(b), int64(len(b)))
		return err
	}
	for name, err := range map[string]error{
		"flipped bit":        build(100, end, flipped),
		"torn last batch":    build(100, end, data[:len(data)-1]),
		"torn header":        build(100, end, append(slices.Clone(data), data[:20]...)),
		"batches go back":    build(100, end, append(slices.Clone(data), data[:second]...)),
		"beyond the end":     build(100, end-1, data),
		"wholly below":       build(model[1].base, end, data),
		"garbage":            build(100, end, bytes.Repeat([]byte{0xff}, 100)),
		"nothing but zeroes": build(100, end, make([]byte, 500)),
	} {
		if !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	short := bytes.NewReader(data[:second])
	if _, err := format.BuildSegment(testMeta(100, end), short, int64(len(data))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("file shorter than said: %v", err)
	}
	if err := build(model[0].next-1, end, data); model[0].next-1 > 100 && err != nil {
		t.Errorf("a log start inside the first batch: %v", err)
	}
}

func TestBuildRefusesAMetaThatCannotBe(t *testing.T) {
	for name, spoil := range map[string]func(*format.SegmentMeta){
		"empty range":      func(m *format.SegmentMeta) { m.End = m.Base },
		"negative base":    func(m *format.SegmentMeta) { m.Base = -1 },
		"negative epoch":   func(m *format.SegmentMeta) { m.Epoch = -1 },
		"odd chunk size":   func(m *format.SegmentMeta) { m.ChunkSize = 5000 },
		"epochs go back":   func(m *format.SegmentMeta) { slices.Reverse(m.Epochs) },
		"epoch after end":  func(m *format.SegmentMeta) { m.Epochs[1].Start = m.End },
		"foreign aborted":  func(m *format.SegmentMeta) { m.Aborted[0] = protocol.AbortedTxn{First: m.End, Last: m.End + 1} },
		"aborted reversed": func(m *format.SegmentMeta) { m.Aborted[0] = protocol.AbortedTxn{First: m.Base + 1, Last: m.Base} },
	} {
		m := testMeta(100, 200)
		spoil(&m)
		if _, err := format.BuildSegment(m, bytes.NewReader(nil), 0); !errors.Is(err, format.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSegmentOfNoBatches(t *testing.T) {
	m := testMeta(100, 200)
	s, err := format.BuildSegment(m, bytes.NewReader(nil), 0)
	if err != nil {
		t.Fatal(err)
	}
	object, _ := io.ReadAll(s.Body())
	e := s.Entry(m.ObjectKey())
	x, err := format.DecodeIndex(tailOf(object, e), e)
	if err != nil || x.Chunks() != 0 || x.Floor(150) != 0 || x.FloorTime(0) != 0 || e.MaxTimestamp != protocol.NoTimestamp {
		t.Errorf("%+v, %v", x, err)
	}
}

func TestBodyMayBeReadAgainFromAnywhere(t *testing.T) {
	s, e, object, _ := testSegment(t, 9, 0, 30, 300)
	for _, from := range []int64{0, 1, e.DataBytes - 1, e.DataBytes, e.DataBytes + 1, e.ObjectSize} {
		body := s.Body()
		if _, err := body.Seek(from, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, object[from:]) {
			t.Errorf("from %d: %d bytes, %v", from, len(got), err)
		}
	}
}

func TestEntryOfAnotherKeyPanics(t *testing.T) {
	s, _, _, _ := testSegment(t, 9, 0, 3, 30)
	defer func() {
		if recover() == nil {
			t.Error("an object that says it is another was given an entry")
		}
	}()
	s.Entry("data/other.seg")
}
