package record_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// golden is one record as a client of another maker writes it (the published
// test vector of sarama's record batch).
var golden = []byte{
	0, 0, 0, 0, 0, 0, 0, 0, // base offset
	0, 0, 0, 70, // length
	0, 0, 0, 0, // leader epoch
	2,                // magic
	84, 121, 97, 253, // CRC
	0, 0, // attributes
	0, 0, 0, 0, // last offset delta
	0, 0, 1, 88, 141, 205, 89, 56, // base timestamp
	0, 0, 0, 0, 0, 0, 0, 0, // max timestamp
	0, 0, 0, 0, 0, 0, 0, 0, // producer id
	0, 0, // producer epoch
	0, 0, 0, 0, // base sequence
	0, 0, 0, 1, // count
	40,         // record length
	0,          // attributes
	10,         // timestamp delta
	0,          // offset delta
	8,          // key length
	1, 2, 3, 4, // key
	6,       // value length
	5, 6, 7, // value
	2,        // headers
	6,        // header key length
	8, 9, 10, // header key
	4,      // header value length
	11, 12, // header value
}

func TestGoldenBatchOfAnotherMaker(t *testing.T) {
	b, rest, err := record.Split(golden)
	if err != nil || len(rest) != 0 {
		t.Fatalf("%v, %d bytes left", err, len(rest))
	}
	if err := b.Check(); err != nil {
		t.Fatal(err)
	}
	got := collect(t, b, 1<<20)
	want := []record.Record{{
		Offset: 0, Timestamp: 1479847795000 + 5, Key: []byte{1, 2, 3, 4}, Value: []byte{5, 6, 7},
		Headers: []record.Header{{Key: "\x08\x09\x0a", Value: []byte{11, 12}}},
	}}
	if b.BaseTimestamp() != want[0].Timestamp-5 {
		want[0].Timestamp = b.BaseTimestamp() + 5
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func collect(t *testing.T, b record.Batch, budget int) []record.Record {
	t.Helper()
	var all []record.Record
	for r, err := range b.Records(budget) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

func TestBuilderWritesWhatKmsgReads(t *testing.T) {
	b := record.NewBuilder(1000)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.LeaderEpoch, b.Transactional = 7, 3, 42, 5, true
	records := []record.Record{
		{Timestamp: 5000, Key: []byte("k"), Value: []byte("v")},
		{Timestamp: 4000, Value: []byte{}},
		{Timestamp: 9000, Key: []byte{}, Headers: []record.Header{{Key: "h", Value: []byte("x")}, {Key: ""}}},
	}
	for i := range records {
		b.Add(records[i])
		records[i].Offset = 1000 + protocol.Offset(i)
	}
	batch := b.Bytes()
	if len(batch) != b.Size() || b.Count() != 3 {
		t.Errorf("size %d of %d, count %d", b.Size(), len(batch), b.Count())
	}
	if err := batch.Check(); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, batch, 0); !reflect.DeepEqual(got, records) {
		t.Errorf("got  %+v\nwant %+v", got, records)
	}
	var k kmsg.RecordBatch
	if err := k.ReadFrom(batch); err != nil {
		t.Fatal(err)
	}
	if k.FirstOffset != 1000 || k.PartitionLeaderEpoch != 5 || k.Magic != 2 || k.LastOffsetDelta != 2 ||
		k.FirstTimestamp != 5000 || k.MaxTimestamp != 9000 || k.ProducerID != 7 || k.ProducerEpoch != 3 ||
		k.FirstSequence != 42 || k.NumRecords != 3 || k.Attributes != 0x10 || uint32(k.CRC) != batch.StoredCRC() {
		t.Errorf("kmsg reads %+v", k)
	}
	if batch.LastOffset() != 1002 || batch.NextOffset() != 1003 || batch.LastSequence() != 44 || !batch.Transactional() ||
		batch.Control() || batch.LogAppendTime() || batch.HasDeleteHorizon() || batch.Codec() != record.None {
		t.Error("accessors differ")
	}
	if got := k.AppendTo(nil); !bytes.Equal(got, batch) {
		t.Error("kmsg writes other bytes")
	}
}

func TestPatchesKeepTheBatchValid(t *testing.T) {
	b := record.NewBuilder(0)
	b.Add(record.Record{Timestamp: 1, Value: []byte("a")})
	b.Add(record.Record{Timestamp: 2, Value: []byte("b")})
	batch := b.Bytes()
	crc := batch.StoredCRC()
	batch.SetBaseOffset(500)
	batch.SetLeaderEpoch(9)
	if batch.StoredCRC() != crc || batch.Check() != nil || batch.BaseOffset() != 500 || batch.LeaderEpoch() != 9 {
		t.Error("offset and epoch lie outside the CRC")
	}
	batch.SetLogAppendTime(777)
	if err := batch.Check(); err != nil {
		t.Fatal(err)
	}
	if !batch.LogAppendTime() || batch.MaxTimestamp() != 777 || batch.BaseTimestamp() != 1 {
		t.Error("header does not say it")
	}
	for i, r := range collect(t, batch, 0) {
		if r.Timestamp != 777 || r.Offset != 500+protocol.Offset(i) {
			t.Errorf("record %d: %+v", i, r)
		}
	}
}

func TestSequencesWrap(t *testing.T) {
	b := record.NewBuilder(0)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = 1, 0, 1<<31-2
	for range 4 {
		b.Add(record.Record{})
	}
	if got := b.Bytes().LastSequence(); got != 1 {
		t.Errorf("last sequence %d, want 1", got)
	}
}

func TestSplitAndCheckRefusals(t *testing.T) {
	for _, n := range []int{0, 5, 11} {
		if _, _, err := record.Split(golden[:n]); !errors.Is(err, record.ErrShort) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, _, err := record.Split(golden[:len(golden)-1]); !errors.Is(err, record.ErrShort) {
		t.Errorf("cut: %v", err)
	}
	for _, length := range []uint32{0, 48, 1 << 31, 1<<32 - 1} {
		b := bytes.Clone(golden)
		binary.BigEndian.PutUint32(b[8:], length)
		if _, _, err := record.Split(b); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("length %d: %v", length, err)
		}
	}
	for name, c := range map[string]struct {
		change func(record.Batch)
		want   error
	}{
		"old magic":          {func(b record.Batch) { b[16] = 1 }, record.ErrOldFormat},
		"flipped bit":        {func(b record.Batch) { b[70] ^= 4 }, record.ErrCorrupt},
		"negative count":     {func(b record.Batch) { b[57] = 0x80; seal(b) }, record.ErrInvalid},
		"negative last":      {func(b record.Batch) { b[23] = 0x80; seal(b) }, record.ErrInvalid},
		"cut below a header": {nil, record.ErrShort},
	} {
		b := record.Batch(bytes.Clone(golden))
		if c.change == nil {
			b = b[:60]
		} else {
			c.change(b)
		}
		if err := b.Check(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// seal renews a batch's length and CRC.
func seal(b record.Batch) {
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[17:], record.CRC(b[21:]))
}

// compressed makes a batch of records whose block was compressed by pack.
func compressed(codec record.Codec, count int32, block []byte) record.Batch {
	b := record.NewBuilder(0).Bytes()
	b = append(b, block...)
	b[22] |= byte(codec)
	binary.BigEndian.PutUint32(b[57:], uint32(count))
	binary.BigEndian.PutUint32(b[23:], uint32(max(count-1, 0)))
	seal(b)
	return b
}

// plainBlock is the records of a batch, uncompressed.
func plainBlock(records int, size int) []byte {
	b := record.NewBuilder(0)
	for range records {
		b.Add(record.Record{Key: []byte("key"), Value: make([]byte, size)})
	}
	return b.Bytes()[record.HeaderLen:]
}

func pack(tb testing.TB, codec record.Codec, plain []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	write := func(w io.WriteCloser) []byte {
		tb.Helper()
		if _, err := w.Write(plain); err != nil {
			tb.Fatal(err)
		}
		if err := w.Close(); err != nil {
			tb.Fatal(err)
		}
		return buf.Bytes()
	}
	switch codec {
	case record.None:
	case record.Gzip:
		return write(gzip.NewWriter(&buf))
	case record.Snappy:
		return snappy.Encode(nil, plain)
	case record.LZ4:
		return write(lz4.NewWriter(&buf))
	case record.Zstd:
		w, err := zstd.NewWriter(&buf, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
		if err != nil {
			tb.Fatal(err)
		}
		return write(w)
	}
	return plain
}

var codecs = []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd}

func TestEveryCodecComesBackWithinItsBudget(t *testing.T) {
	plain := plainBlock(50, 1000)
	for _, codec := range codecs {
		b := compressed(codec, 50, pack(t, codec, plain))
		if err := b.Check(); err != nil || b.Codec() != codec {
			t.Fatalf("%s: %v", codec, err)
		}
		if got := collect(t, b, len(plain)); len(got) != 50 || len(got[49].Value) != 1000 || got[49].Offset != 49 {
			t.Errorf("%s: %d records", codec, len(got))
		}
		if codec == record.None {
			continue
		}
		for _, err := range b.Records(len(plain) - 1) {
			if !errors.Is(err, record.ErrBudget) {
				t.Errorf("%s, one byte short: %v", codec, err)
			}
		}
	}
	for _, err := range compressed(5, 1, nil).Records(100) {
		if !errors.Is(err, record.ErrInvalid) {
			t.Errorf("codec 5: %v", err)
		}
	}
}

// The Java client frames snappy its own way, and streams zstd with a window of
// 2 MiB whatever the size.
func TestSnappyOfTheJavaClient(t *testing.T) {
	plain := plainBlock(10, 100)
	frame := append([]byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}, 0, 0, 0, 1, 0, 0, 0, 1)
	header := len(frame)
	for from := 0; from < len(plain); from += 500 {
		block := snappy.Encode(nil, plain[from:min(len(plain), from+500)])
		frame = append(binary.BigEndian.AppendUint32(frame, uint32(len(block))), block...)
	}
	if got := collect(t, compressed(record.Snappy, 10, frame), len(plain)); len(got) != 10 {
		t.Errorf("%d records", len(got))
	}
	lies := bytes.Clone(frame)
	binary.BigEndian.PutUint32(lies[header:], 1<<32-1)
	for name, c := range map[string]struct {
		block  []byte
		budget int
		want   error
	}{
		"beyond the budget": {frame, len(plain) - 1, record.ErrBudget},
		"block length lies": {lies, 1 << 20, record.ErrInvalid},
		"cut in the header": {frame[:12], 1 << 20, record.ErrInvalid},
		"cut in a length":   {frame[:header+2], 1 << 20, record.ErrInvalid},
		"cut in a block":    {frame[:header+20], 1 << 20, record.ErrInvalid},
	} {
		for _, err := range compressed(record.Snappy, 10, c.block).Records(c.budget) {
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
	}
}

func TestALargeZstdWindowIsNoReasonToRefuseASmallBatch(t *testing.T) {
	plain := plainBlock(3, 10)
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	// Flushed before its end, the frame cannot name its size and names its window.
	for _, piece := range [][]byte{plain[:5], plain[5:]} {
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, compressed(record.Zstd, 3, buf.Bytes()), 1024); len(got) != 3 {
		t.Errorf("%d records", len(got))
	}
}

func allocated(fn func()) int {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// TestBombs: 64 MiB of zeros in a small frame, with little of it allowed.
func TestBombs(t *testing.T) {
	const state = 8 << 20
	zeros := make([]byte, 64<<20)
	for _, codec := range codecs[1:] {
		b := compressed(codec, 1, pack(t, codec, zeros))
		for _, budget := range []int{1 << 20, 16 << 20} { // below and above the window of zstd
			var got error
			took := allocated(func() {
				for _, err := range b.Records(budget) {
					got = err
				}
			})
			if !errors.Is(got, record.ErrBudget) {
				t.Errorf("%s: %v", codec, got)
			}
			t.Logf("%s: 1:%d, %d KiB allowed, took %d KiB to refuse", codec, len(zeros)/len(b), budget>>10, took>>10)
			if took > 6*budget+2*state { // of which most is garbage as the block grows
				t.Errorf("%s: took %d bytes", codec, took)
			}
		}
	}
}

// A few bytes that claim a gigabyte.
func TestClaimsAreNotBelieved(t *testing.T) {
	const budget = 1 << 30
	claim := map[record.Codec][]byte{
		record.Snappy: append(binary.AppendUvarint(nil, 2<<30), 0),
		record.Zstd:   {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0},
	}
	for codec, block := range claim {
		took := allocated(func() {
			for _, err := range compressed(codec, 1, block).Records(budget) {
				if err == nil {
					t.Errorf("%s: no error", codec)
				}
			}
		})
		if took > 1<<20 {
			t.Errorf("%s: a claim beyond the budget took %d bytes", codec, took)
		}
	}
}

func TestHostileRecords(t *testing.T) {
	body := func(b ...byte) []byte { return append(binary.AppendVarint(nil, int64(len(b))), b...) }
	for name, block := range map[string][]byte{
		"nothing":              {},
		"length beyond":        {0x7e, 0, 0, 0},
		"length zero":          {0},
		"length negative":      {1},
		"endless length":       bytes.Repeat([]byte{0xff}, 20),
		"key beyond":           body(0, 0, 0, 0x7e, 0, 0),
		"key below null":       body(0, 0, 0, 3, 0, 0),
		"headers beyond":       body(0, 0, 0, 1, 1, 0x7e),
		"headers negative":     body(0, 0, 0, 1, 1, 1),
		"more than two a byte": body(0, 0, 0, 1, 1, 4, 0, 0),
		"null header key":      body(0, 0, 0, 1, 1, 2, 1, 1),
		"bytes left in record": body(0, 0, 0, 1, 1, 0, 9),
		"bytes after":          append(body(0, 0, 0, 1, 1, 0), 9),
		"second record cut":    append(body(0, 0, 0, 1, 1, 0), 8, 0),
	} {
		count, last := 0, error(nil)
		for _, err := range compressed(record.None, 1, block).Records(1 << 20) {
			count, last = count+1, err
		}
		if !errors.Is(last, record.ErrInvalid) || count > 2 {
			t.Errorf("%s: %v after %d", name, last, count)
		}
	}
}

func TestIterationMayStop(t *testing.T) {
	n := 0
	for range compressed(record.None, 5, plainBlock(5, 1)).Records(0) {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d records", n)
	}
}

func TestRandomBatchesComeBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	maybe := func(n int) []byte {
		if rng.IntN(3) == 0 {
			return nil
		}
		out := make([]byte, rng.IntN(n))
		for i := range out {
			out[i] = byte(rng.Uint32())
		}
		return out
	}
	for range 300 {
		b := record.NewBuilder(protocol.Offset(rng.Int64N(1 << 40)))
		var want []record.Record
		at := protocol.Offset(-1)
		for range 1 + rng.IntN(20) {
			r := record.Record{Timestamp: protocol.Timestamp(rng.Int64N(1 << 42)), Key: maybe(20), Value: maybe(300)}
			for range rng.IntN(3) {
				r.Headers = append(r.Headers, record.Header{Key: string(maybe(9)), Value: maybe(30)})
			}
			if at < 0 {
				b.Add(r)
				at = b.Bytes().BaseOffset()
			} else {
				at += 1 + protocol.Offset(rng.IntN(5)) // as after compaction
				r.Offset = at
				b.AddAt(r)
			}
			r.Offset = at
			want = append(want, r)
		}
		batch, rest, err := record.Split(append(b.Bytes(), 1, 2, 3))
		if err != nil || len(rest) != 3 || batch.Check() != nil || batch.LastOffset() != at {
			t.Fatalf("%v, %d left", err, len(rest))
		}
		if got := collect(t, batch, 0); !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(golden, true)
	for _, codec := range codecs {
		f.Add([]byte(compressed(codec, 3, pack(f, codec, plainBlock(3, 50)))), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, mend bool) {
		const budget = 1 << 16
		if mend && len(data) >= record.HeaderLen { // get past length and CRC
			data = bytes.Clone(data)
			data[16] = record.Magic
			seal(data)
		}
		b, _, err := record.Split(data)
		if err != nil {
			return
		}
		if b.Check() != nil {
			return
		}
		total, n := 0, int32(0)
		for r, err := range b.Records(budget) {
			if err != nil {
				if !errors.Is(err, record.ErrInvalid) && !errors.Is(err, record.ErrBudget) {
					t.Fatalf("error of no kind: %v", err)
				}
				return
			}
			n++
			total += len(r.Key) + len(r.Value)
		}
		if n != b.Count() || total > max(budget, len(data)) {
			t.Fatalf("%d records of %d, %d bytes", n, b.Count(), total)
		}
	})
}
