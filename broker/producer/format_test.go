package producer_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

func unhex(t *testing.T, lines ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Join(lines, ""), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goldenState has one producer with two batches and an open transaction, and
// one of whose epoch only a marker is known.
func goldenState() *log {
	l := &log{next: 100, now: 0x18c0000000}
	l.apply(data{id: 0x1122, epoch: 5, seq: 0, n: 10}.batch())
	l.now++
	l.apply(data{id: 0x1122, epoch: 5, seq: 10, n: 1, txn: true}.batch())
	l.now++
	l.apply(markerBatch(3, 6, false, 9))
	return l
}

const goldenCRC = "ec17206c"

func goldenSnapshot(t *testing.T) []byte {
	t.Helper()
	return unhex(
		t,
		"0001", goldenCRC, "00000003",
		//  producer id      epoch last seq last offset      delta    timestamp        coord.   txn first offset
		"0000000000000003 0006 ffffffff ffffffffffffffff 00000000 00000018c0000002 00000009 ffffffffffffffff",
		"0000000000001122 0005 00000009 000000000000006d 00000009 00000018c0000000 ffffffff 000000000000006e",
		"0000000000001122 0005 0000000a 000000000000006e 00000000 00000018c0000001 ffffffff 000000000000006e",
	)
}

func TestSnapshotGoldenBytes(t *testing.T) {
	want := goldenSnapshot(t)
	if got := goldenState().state.Encode(); !bytes.Equal(got, want) {
		t.Fatalf("got\n%x, want\n%x", got, want)
	}
	s, err := producer.Decode(want)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Encode(); !bytes.Equal(got, want) {
		t.Errorf("decoded and encoded again:\n%x, want\n%x", got, want)
	}
	if got := s.LastStable(1000); got != 110 {
		t.Errorf("LSO %d after decoding", got)
	}
	for _, seq := range []struct {
		first, n int32
		at       protocol.Offset
	}{{0, 10, 100}, {10, 1, 110}} {
		dup, err := s.Check(data{id: 0x1122, epoch: 5, seq: seq.first, n: seq.n, txn: true}.batch(), true)
		if err != nil || dup == nil || dup.First != seq.at {
			t.Errorf("sequence %d: duplicate %v, %v", seq.first, dup, err)
		}
	}
}

func TestEmptySnapshot(t *testing.T) {
	var s producer.State
	b := s.Encode()
	if want := unhex(t, "0001", "48674bc7", "00000000"); !bytes.Equal(b, want) {
		t.Errorf("got %x, want %x", b, want)
	}
	if d, err := producer.Decode(b); err != nil || d.Len() != 0 {
		t.Errorf("%v, %v", d, err)
	}
}

// TestSnapshotAsKafkaWritesIt has one entry per producer, of its last batch.
func TestSnapshotAsKafkaWritesIt(t *testing.T) {
	b := seal(unhex(t, "0001 00000000 00000001", "0000000000000007 0001 00000002 0000000000000063 00000004 0000000000000010 00000000 ffffffffffffffff"))
	s, err := producer.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	// Four offsets back from sequence 2 lies the wrap.
	dup, err := s.Check(data{id: 7, epoch: 1, seq: 1<<31 - 2, n: 5}.batch(), true)
	if err != nil || dup == nil || dup.First != 95 || dup.Last != 99 || dup.AppendTime != 16 {
		t.Errorf("duplicate %+v, %v", dup, err)
	}
	if _, err := s.Check(data{id: 7, epoch: 1, seq: 3, n: 1}.batch(), true); err != nil {
		t.Error(err)
	}
}

// seal renews the CRC of a snapshot.
func seal(b []byte) []byte {
	binary.BigEndian.PutUint32(b[2:], record.CRC(b[6:]))
	return b
}

func TestDecodeRefuses(t *testing.T) {
	change := func(at int, to ...byte) []byte {
		b := goldenSnapshot(t)
		copy(b[at:], to)
		return seal(b)
	}
	flipped := goldenSnapshot(t)
	flipped[20] ^= 1
	tests := map[string][]byte{
		"nothing":                   nil,
		"a cut header":              goldenSnapshot(t)[:9],
		"a flipped bit":             flipped,
		"a cut entry":               seal(goldenSnapshot(t)[:100]),
		"another version":           change(0, 0, 2),
		"a count that lies":         change(6, 0xff),
		"a negative producer":       change(10, 0xff),
		"a negative epoch":          change(18, 0xff),
		"a negative sequence":       change(56+10, 0xff),
		"a delta beyond the offset": change(56+22, 0, 1),
		"two transactions that began at one offset": change(10+38, 0, 0, 0, 0, 0, 0, 0, 0x6e),
	}
	for name, b := range tests {
		if s, err := producer.Decode(b); !errors.Is(err, producer.ErrCorrupt) || s != nil {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
}

func TestAbortedIndexGoldenBytes(t *testing.T) {
	txns := []protocol.AbortedTxn{{Producer: 7, First: 10, Last: 20, LastStable: 12}, {Producer: 1 << 40, First: 12, Last: 0x1234, LastStable: 0x1235}}
	want := unhex(
		t,
		//   producer id      first offset     last offset      last stable offset
		"0000 0000000000000007 000000000000000a 0000000000000014 000000000000000c",
		"0000 0000010000000000 000000000000000c 0000000000001234 0000000000001235",
	)
	var got []byte
	for _, txn := range txns {
		got = producer.AppendAborted(got, txn)
	}
	if !bytes.Equal(got, want) || len(got) != 2*producer.AbortedLen {
		t.Fatalf("got\n%x, want\n%x", got, want)
	}
	if back, err := producer.DecodeAborted(got); err != nil || !slices.Equal(back, txns) {
		t.Errorf("got %v, %v", back, err)
	}
	version := slices.Clone(got)
	version[1] = 1
	backwards := append(slices.Clone(got[producer.AbortedLen:]), got[:producer.AbortedLen]...)
	for name, b := range map[string][]byte{
		"a torn entry": got[:40], "another version": version, "markers that descend": backwards,
		"a first offset after the marker": producer.AppendAborted(nil, protocol.AbortedTxn{First: 2, Last: 1}),
	} {
		if _, err := producer.DecodeAborted(b); !errors.Is(err, producer.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzDecode: what is taken is written again in a form that stays the same, and can be used.
func FuzzDecode(f *testing.F) {
	var empty producer.State
	f.Add(empty.Encode())
	f.Add(goldenState().state.Encode())
	f.Add(after(data{id: 1, n: 1, txn: true}.batch(), data{id: 2, seq: 1<<31 - 1, n: 5}.batch()).state.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 10 {
			b = seal(slices.Clone(b))
		}
		s, err := producer.Decode(b)
		if err != nil {
			if !errors.Is(err, producer.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		once := s.Encode()
		again, err := producer.Decode(once)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(once, again.Encode()) {
			t.Fatal("encoding is not stable")
		}
		for _, id := range []protocol.ProducerID{1, 0x1122} {
			if _, err := again.Check(data{id: id, n: 1}.batch(), true); errors.Is(err, record.ErrInvalid) {
				t.Fatal(err)
			}
		}
		again.LastStable(1 << 62)
	})
}

func FuzzDecodeAborted(f *testing.F) {
	f.Add(producer.AppendAborted(nil, protocol.AbortedTxn{Producer: 7, First: 10, Last: 20, LastStable: 12}))
	f.Fuzz(func(t *testing.T, b []byte) {
		txns, err := producer.DecodeAborted(b)
		if err != nil {
			return
		}
		var again []byte
		for _, txn := range txns {
			again = producer.AppendAborted(again, txn)
		}
		if !bytes.Equal(again, b) {
			t.Fatal("another encoding")
		}
	})
}
