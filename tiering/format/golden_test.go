package format_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/format"
)

// golden gives the bytes of testdata/<name>.hex; with -rewrite it writes them first.
func golden(t *testing.T, name string, now []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	if *rewrite {
		var text strings.Builder
		for b := now; len(b) > 0; b = b[min(32, len(b)):] {
			text.WriteString(hex.EncodeToString(b[:min(32, len(b))]) + "\n")
		}
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goldenSegment is three batches over two chunks, with every kind of section in use.
func goldenSegment(t *testing.T) (format.SegmentMeta, []byte, *format.Segment) {
	t.Helper()
	var data []byte
	for i, size := range []int{10, 5000, 20} {
		b := record.NewBuilder(protocol.Offset(100 + 2*i))
		b.LeaderEpoch = 4
		b.Add(record.Record{Timestamp: protocol.Timestamp(1000 + 10*i), Key: []byte("k"), Value: bytes.Repeat([]byte{'v'}, size)})
		b.Add(record.Record{Timestamp: protocol.Timestamp(900), Key: nil, Value: nil})
		data = append(data, b.Bytes()...)
	}
	meta := testMeta(100, 106)
	s, err := format.BuildSegment(meta, bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return meta, data, s
}

func TestSegmentGoldenBytes(t *testing.T) {
	meta, data, s := goldenSegment(t)
	object, err := io.ReadAll(s.Body())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(object, data) {
		t.Error("the object does not begin with the batches verbatim")
	}
	tail := golden(t, "segment-tail", object[len(data):])
	if !bytes.Equal(object[len(data):], tail) {
		t.Errorf("the tail is\n%x, want\n%x", object[len(data):], tail)
	}
	e := s.Entry(meta.ObjectKey())
	x, err := format.DecodeIndex(tail, e)
	if err != nil || !reflect.DeepEqual(x.Meta(), meta) {
		t.Errorf("golden tail decodes as %+v, %v", x, err)
	}
}

func goldenEntry() format.Entry {
	return format.Entry{
		ObjectKey: format.SegmentKey(testKey(2), 100, 206, 4, metadata.Attempt{Generation: 1, Index: 77}, 0xabcdef),
		Base:      103, End: 200, Epoch: 4, MaxTimestamp: 1_700_000_000_000, DataBytes: 5000, ObjectSize: 6000,
		IndexOffset: 5000, IndexLength: 1000, IndexCRC: 0x01020304, ChunkSize: 128 << 10, Records: 106,
		SealedMs: 1_700_000_000_123, Attempt: metadata.Attempt{Generation: 1, Index: 77},
	}
}

// Protobuf is not canonical: what is golden is how the bytes decode.
func TestManifestGoldenBytes(t *testing.T) {
	key := format.ManifestKey(testKey(2), 1, metadata.Attempt{Generation: 1, Index: 80}, 0x99)
	first := goldenEntry()
	first.Compactions, first.DeleteHorizon = 3, 1_700_086_400_000
	second := goldenEntry()
	second.Base, second.End = 200, 300
	second.ObjectKey = format.SegmentKey(testKey(2), 200, 300, 4, first.Attempt, 1)
	third := second
	third.Base, third.End = 300, 400
	third.ObjectKey = format.SegmentKey(testKey(2), 300, 400, 4, first.Attempt, 2)
	entries := []format.Entry{first, second, third}
	v, err := format.Manifest{Fanout: 2}.Apply(newBucket().load, format.Edit{Append: entries}, key, 1)
	if err != nil {
		t.Fatal(err)
	}
	object := golden(t, "manifest", v.Object)
	m, k, err := format.OpenManifest(object, key)
	if err != nil || k != testKey(2) || m.Version != 1 {
		t.Fatalf("%+v of %s: %v", m, k, err)
	}
	b := newBucket()
	b.objects[key] = object
	i := 0
	for e, err := range m.Scan(b.load, 0) {
		if err != nil || e != entries[i] {
			t.Errorf("entry %d: %+v, %v", i, e, err)
		}
		i++
	}
	sum, err := m.Summary(b.load)
	if want := summaryOf(entries, 0); err != nil || sum != want || i != 3 {
		t.Errorf("%d entries, summary %+v, %v; want %+v", i, sum, err, want)
	}
}

func TestRootGoldenBytes(t *testing.T) {
	r := format.Root{Generation: 2, Seq: 12, Cut: metadata.Attempt{Generation: 2, Index: 500}, AtMs: 1_700_000_000_000, ClusterID: "c1", Image: []byte("image")}
	key := format.RootKey(2, 12, 10)
	object, place := format.EncodeRoot(r, key)
	if place.Key != key || place.Offset != 0 || int(place.Length) != len(object) || place.CRC != record.CRC(object) {
		t.Errorf("place %+v", place)
	}
	if got, err := format.DecodeRoot(golden(t, "root", object)); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("golden root decodes as %+v, %v", got, err)
	}
}

func TestEveryFlippedByteAndCutOfARootIsFound(t *testing.T) {
	r := format.Root{Generation: 2, Seq: 12, ClusterID: "c1", Image: []byte("image")}
	object, _ := format.EncodeRoot(r, format.RootKey(2, 12, 10))
	for i := range object {
		if _, err := format.DecodeRoot(object[:i]); err == nil {
			t.Fatalf("%d of %d bytes decode", i, len(object))
		}
		object[i] ^= 1
		if _, err := format.DecodeRoot(object); err == nil {
			t.Fatalf("flipped byte %d decodes", i)
		}
		object[i] ^= 1
	}
}
