package format_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/format"
)

// resealed renews the CRCs of every section and of the footer of an object, so that fuzzing gets past them.
func resealed(b []byte) []byte {
	be := func(n int, p []byte) (v uint64) {
		for _, x := range p[:n] {
			v = v<<8 | uint64(x)
		}
		return v
	}
	put := func(p []byte, v uint32) { copy(p, []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}) }
	out := bytes.Clone(b)
	if len(out) < 28 {
		return out
	}
	trailer := out[len(out)-28:]
	copy(trailer[16:], []byte{0, 0, 0, 0, byte(len(out) >> 24), byte(len(out) >> 16), byte(len(out) >> 8), byte(len(out))})
	count := be(4, trailer[12:])
	if count > uint64(len(out)-28)/24 {
		return out
	}
	table := out[len(out)-28-24*int(count):]
	for i := range int(count) {
		row := table[24*i:]
		if off, n := be(8, row[8:]), be(8, row[16:]); off <= uint64(len(out)) && n <= uint64(len(out))-off {
			put(row[4:], record.CRC(out[off:off+n]))
		}
	}
	put(table[len(table)-4:], record.CRC(table[:len(table)-4]))
	return out
}

func known(err error) bool {
	return errors.Is(err, format.ErrCorrupt) || errors.Is(err, format.ErrNewerFormat)
}

// TestTailsThatLieBehindGoodCRCsAreRefusedOrHarmless flips every byte of a tail and mends the CRCs.
func TestTailsThatLieBehindGoodCRCsAreRefusedOrHarmless(t *testing.T) {
	_, e, object, _ := testSegment(t, 1, 100, 40, 500)
	outcomes := map[bool]int{}
	for i := e.IndexOffset; i < e.ObjectSize; i++ {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			b := bytes.Clone(object)
			b[i] ^= flip
			b = resealed(b)
			_, x, err := format.OpenSegment(bytes.NewReader(b), int64(len(b)))
			if err == nil {
				err = x.Verify(bytes.NewReader(b))
			}
			if err != nil && !known(err) {
				t.Fatalf("byte %d: %v", i, err)
			}
			outcomes[err == nil]++
		}
	}
	t.Logf("refused %d, harmless %d", outcomes[false], outcomes[true])
	if outcomes[false] == 0 || outcomes[true] == 0 {
		t.Error("the CRCs were not mended, or nothing is checked behind them")
	}
}

func FuzzOpenSegment(f *testing.F) {
	_, _, object, _ := testSegment(f, 1, 100, 3, 30)
	f.Add(object)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, resealed(b)} {
			m, x, err := format.OpenSegment(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				if !known(err) {
					t.Fatal(err)
				}
				continue
			}
			if x.Bytes() > int64(1024+64*len(b)) {
				t.Fatalf("%d bytes decode into %d", len(b), x.Bytes())
			}
			x.Floor(m.Base)
			x.FloorTime(0)
			for i := range x.Chunks() {
				off, n := x.ChunkRange(i)
				if err := x.CheckChunk(i, b[off:off+n]); err != nil && !known(err) {
					t.Fatal(err)
				}
			}
			if x.Verify(bytes.NewReader(b)) != nil {
				continue
			}
			again, err := format.BuildSegment(m, bytes.NewReader(b), x.DataBytes())
			if err != nil {
				t.Fatalf("a segment that verifies cannot be built: %v", err)
			}
			whole, err := io.ReadAll(again.Body())
			if err != nil {
				t.Fatal(err)
			}
			e := again.Entry(m.ObjectKey())
			if _, err := format.DecodeIndex(tailOf(whole, e), e); err != nil {
				t.Fatalf("a segment that was built again does not decode: %v", err)
			}
		}
	})
}

func FuzzDecodeIndex(f *testing.F) {
	_, e, object, _ := testSegment(f, 1, 100, 3, 30)
	f.Add(tailOf(object, e), int64(e.Base), int64(e.End), e.DataBytes)
	f.Fuzz(func(t *testing.T, tail []byte, base, end, data int64) {
		e := e
		e.Base, e.End, e.DataBytes, e.IndexOffset = protocol.Offset(base), protocol.Offset(end), data, data
		e.IndexLength, e.ObjectSize, e.IndexCRC = uint32(len(tail)), data+int64(len(tail)), record.CRC(tail)
		if _, err := format.DecodeIndex(tail, e); err != nil && !known(err) {
			t.Fatal(err)
		}
	})
}

func FuzzDecodePage(f *testing.F) {
	tr := newTree(4)
	tr.edit(f, format.Edit{Append: entriesFrom(rand.New(rand.NewPCG(1, 1)), 0, 10, 1)})
	for p, err := range tr.Pages(tr.load) {
		if err != nil {
			f.Fatal(err)
		}
		b, err := tr.load(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := metadata.PagePlace{Key: format.ManifestKey(testKey(0), 1, metadata.Attempt{}, 0), Length: uint32(len(b)), CRC: record.CRC(b)}
		page, err := format.DecodePage(b, p)
		if err != nil {
			if !known(err) {
				t.Fatal(err)
			}
			return
		}
		s := page.Summary
		if s.Base < 0 || s.End < s.Base || s.Bytes < 0 || s.ObjectBytes < 0 || s.Records < 0 || s.Segments < 0 {
			t.Fatalf("summary %+v", s)
		}
		if page.Level > 0 || len(page.Entries) == 0 {
			return
		}
		v, err := format.Manifest{}.Apply(newBucket().load, format.Edit{Append: page.Entries}, format.ManifestKey(testKey(0), 1, metadata.Attempt{}, 0), 1)
		if err != nil || v.Summary != s {
			t.Fatalf("entries of a page make a manifest of %+v, %v; want %+v", v.Summary, err, s)
		}
	})
}

func FuzzOpenManifest(f *testing.F) {
	tr := newTree(4)
	v := tr.edit(f, format.Edit{Append: entriesFrom(rand.New(rand.NewPCG(1, 1)), 0, 10, 1)})
	f.Add(v.Object)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, resealed(b)} {
			if _, _, err := format.OpenManifest(b, v.Root.Key); err != nil && !known(err) {
				t.Fatal(err)
			}
		}
	})
}

func FuzzDecodeRoot(f *testing.F) {
	object, _ := format.EncodeRoot(format.Root{Generation: 2, Seq: 12, ClusterID: "c1", Image: []byte("image")}, format.RootKey(2, 12, 10))
	f.Add(object)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, resealed(b)} {
			if _, err := format.DecodeRoot(b); err != nil && !known(err) {
				t.Fatal(err)
			}
		}
	})
}
