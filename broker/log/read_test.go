package log_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// gappy is a follower's log with batches [0,3), [10,12), [12,14), then in a new
// segment [14,16).
func gappy(t *testing.T) *part {
	t.Helper()
	p := start(t, vfs.NewMem()).open(log.Config{IndexIntervalBytes: 1})
	for _, at := range [][2]protocol.Offset{{0, 2}, {10, 11}, {12, 13}, {14, 15}} {
		b := record.NewBuilder(at[0])
		b.AddAt(record.Record{Offset: at[0], Timestamp: protocol.Timestamp(at[0]), Value: []byte("first")})
		b.AddAt(record.Record{Offset: at[1], Timestamp: protocol.Timestamp(at[0]), Value: []byte("last")})
		if at[0] == 14 {
			check(t, p.Roll())
		}
		must(p.Append(b.Bytes(), 0, log.AppendOptions{Follower: true}))(t)
	}
	p.flush()
	return p
}

func TestRead(t *testing.T) {
	p := gappy(t)
	n := len(plain(1, "first", "last"))
	for _, c := range []struct {
		from, below protocol.Offset
		max         int
		minOne      bool
		first, next protocol.Offset // of the slice; equal means empty
	}{
		{0, 16, 1 << 20, false, 0, 14},
		{0, 16, n, false, 0, 3},
		{0, 16, 2*n - 1, false, 0, 3},
		{0, 16, 2 * n, false, 0, 12},
		{0, 16, n - 1, false, 0, 0},
		{0, 16, n - 1, true, 0, 3},
		{0, 16, 0, true, 0, 3},
		{0, 16, 0, false, 0, 0},
		{1, 16, 1, true, 0, 3},   // inside a batch: the batch that holds it
		{3, 16, 1, true, 10, 12}, // in a gap: the next one
		{9, 16, 1 << 20, true, 10, 14},
		{13, 16, 1 << 20, true, 12, 14},
		{14, 16, 1 << 20, true, 14, 16},
		{16, 16, 1 << 20, true, 16, 16},
		{0, 14, 1 << 20, true, 0, 14},
		{0, 13, 1 << 20, true, 0, 12}, // never past below, nor part of a batch
		{0, 12, 1 << 20, true, 0, 12},
		{0, 11, 1 << 20, true, 0, 3},
		{0, 2, 1 << 20, true, 0, 0},
		{3, 10, 1 << 20, true, 3, 3},
		{5, 3, 1 << 20, true, 5, 5},
	} {
		s, err := p.Read(c.from, c.below, c.max, c.minOne)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		b := must(s.Bytes())(t)
		var w bytes.Buffer
		must(s.WriteTo(&w))(t)
		if s.First() != c.first || s.Next() != c.next || s.Len() != len(b) || (s.Len() == 0) != (c.first == c.next) || !bytes.Equal(b, w.Bytes()) {
			t.Errorf("%+v: [%d, %d), %d bytes", c, s.First(), s.Next(), s.Len())
		}
		s.Release()
	}
	for _, from := range []protocol.Offset{-1, 17} {
		_, err := p.Read(from, 16, 1, true)
		wantErr(t, err, log.ErrOffsetOutOfRange)
	}
}

func TestReadsOfAnySizeGiveTheSameRecords(t *testing.T) {
	p := start(t, vfs.NewMem()).open(log.Config{SegmentBytes: 20_000, IndexIntervalBytes: 1000})
	for i := range 1000 {
		p.add(1, fmt.Sprint(i), strings.Repeat("x", i%97))
	}
	want := p.readAll()
	for _, size := range []int{1, 100, 333, 1000, 4096, 5000, 1 << 20} {
		got, err := p.tryReadAll(0, p.LEO(), size)
		check(t, err)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("reads of %d bytes give %d records, want %d", size, len(got), len(want))
		}
	}
}

func TestASliceOutlivesItsSegment(t *testing.T) {
	fsys := vfs.NewMem()
	w := start(t, fsys)
	p := w.open(log.Config{})
	p.add(1, "pinned")
	check(t, p.Roll())
	s := must(p.Read(0, 1, 1000, true))(t)
	check(t, p.SetStart(1))
	if _, err := p.Read(0, 1, 1000, true); err == nil {
		t.Fatal("the segment can still be read")
	}
	if b := must(io.ReadAll(io.NewSectionReader(s, 0, int64(s.Len()))))(t); len(b) != s.Len() || s.Len() == 0 {
		t.Fatalf("%d of %d bytes", len(b), s.Len())
	}
	if b := must(s.Bytes())(t); !bytes.Contains(b, []byte("pinned")) {
		t.Fatal("bytes are lost")
	}
	there := func() (n int) {
		for _, e := range must(fsys.List(dataDir + "/t-0"))(t) {
			if strings.HasPrefix(e.Name, "00000000000000000000") {
				n++
			}
		}
		return n
	}
	if there() == 0 {
		t.Fatal("the files went while they were read")
	}
	s.Release()
	for deadline := time.Now().Add(10 * time.Second); there() > 0; time.Sleep(time.Millisecond) { // a commit of the seal may hold them too
		if time.Now().After(deadline) {
			t.Fatalf("%d files are left", there())
		}
	}
}

func TestOffsetForTime(t *testing.T) {
	p := start(t, vfs.NewMem()).open(log.Config{SegmentBytes: 600, IndexIntervalBytes: 1})
	for _, ts := range []protocol.Timestamp{100, 300, 200, 200, 500, 400, 900, 800} {
		p.add(ts, strings.Repeat("x", 100))
	}
	for _, c := range []struct {
		ts, want protocol.Timestamp
		from     protocol.Offset
		below    protocol.Offset
		offset   protocol.Offset
	}{
		{0, 100, 0, 8, 0},
		{100, 100, 0, 8, 0},
		{101, 300, 0, 8, 1},
		{300, 300, 0, 8, 1},
		{301, 500, 0, 8, 4},
		{501, 900, 0, 8, 6},
		{900, 900, 0, 8, 6},
		{901, 0, 0, 8, -1},
		{301, 0, 0, 4, -1},
		{301, 500, 0, 5, 4},
		{0, 200, 2, 8, 2},
		{201, 500, 2, 8, 4},
		{501, 800, 7, 8, 7},
		{900, 0, 7, 8, -1},
		{0, 0, 8, 8, -1},
	} {
		got, ok, err := p.OffsetForTime(c.ts, c.from, c.below)
		check(t, err)
		if ok != (c.offset >= 0) || ok && (got.Offset != c.offset || got.Timestamp != c.want || got.Epoch != 1) {
			t.Errorf("%+v: %+v, %t", c, got, ok)
		}
	}
	for _, c := range []struct {
		from, below, offset protocol.Offset
		ts                  protocol.Timestamp
	}{{0, 8, 6, 900}, {0, 6, 4, 500}, {0, 4, 1, 300}, {0, 1, 0, 100}, {0, 0, -1, 0}, {7, 8, 7, 800}, {2, 4, 2, 200}, {5, 6, 5, 400}, {8, 8, -1, 0}} {
		got, ok, err := p.MaxTimestamp(c.from, c.below)
		check(t, err)
		if ok != (c.offset >= 0) || ok && (got.Offset != c.offset || got.Timestamp != c.ts) {
			t.Errorf("greatest below %d: %+v, %t", c.below, got, ok)
		}
	}
}

func TestTimeLooksIntoBatches(t *testing.T) {
	p := start(t, vfs.NewMem()).open(log.Config{})
	b := record.NewBuilder(0)
	for _, ts := range []protocol.Timestamp{10, 50, 30} {
		b.Add(record.Record{Timestamp: ts, Value: []byte("v")})
	}
	must(p.Append(b.Bytes(), 2, log.AppendOptions{}))(t)
	got, ok, err := p.OffsetForTime(20, 0, 3)
	if err != nil || !ok || got != (log.TimedOffset{Offset: 1, Timestamp: 50, Epoch: 2}) {
		t.Fatalf("%+v, %t, %v", got, ok, err)
	}
	if _, ok, _ := p.OffsetForTime(20, 0, 1); ok {
		t.Fatal("found above the limit")
	}
	// What lies below the start is not looked at, also in the batch that the start lies in.
	got, ok, err = p.OffsetForTime(20, 2, 3)
	if err != nil || !ok || got != (log.TimedOffset{Offset: 2, Timestamp: 30, Epoch: 2}) {
		t.Fatalf("%+v, %t, %v", got, ok, err)
	}
	got, ok, err = p.MaxTimestamp(2, 3)
	if err != nil || !ok || got != (log.TimedOffset{Offset: 2, Timestamp: 30, Epoch: 2}) {
		t.Fatalf("%+v, %t, %v", got, ok, err)
	}
	// A payload that cannot be decoded: the batch's first offset stands for it.
	bad := plain(70, "v")
	bad[21+1] |= 4 // zstd, which it is not
	bad[17], bad[18], bad[19], bad[20] = crcOf(bad)
	must(p.Append(bad, 2, log.AppendOptions{}))(t)
	got, ok, err = p.OffsetForTime(60, 0, 4)
	if err != nil || !ok || got != (log.TimedOffset{Offset: 3, Timestamp: 70, Epoch: 2}) {
		t.Fatalf("%+v, %t, %v", got, ok, err)
	}
}

func crcOf(b record.Batch) (byte, byte, byte, byte) {
	c := record.CRC(b[21:])
	return byte(c >> 24), byte(c >> 16), byte(c >> 8), byte(c)
}

func TestEpochEnd(t *testing.T) {
	p := start(t, vfs.NewMem()).open(log.Config{})
	if _, _, ok := p.EpochEnd(0); ok {
		t.Fatal("an empty log knows an epoch")
	}
	for _, e := range []protocol.Epoch{2, 2, 4, 7} {
		must(p.Append(plain(1, "a", "b"), e, log.AppendOptions{}))(t)
	}
	for _, c := range []struct {
		ask, epoch protocol.Epoch
		end        protocol.Offset
	}{{0, 0, 0}, {2, 2, 4}, {3, 2, 4}, {4, 4, 6}, {6, 4, 6}, {7, 7, 8}, {8, -1, -1}, {-1, -1, -1}} {
		e, end, ok := p.EpochEnd(c.ask)
		if e != c.epoch || end != c.end || ok != (c.epoch >= 0) {
			t.Errorf("end of %d: %d, %d, %t", c.ask, e, end, ok)
		}
	}
	check(t, p.AssignEpoch(9, 8))
	if e, end, _ := p.EpochEnd(8); e != 7 || end != 8 {
		t.Errorf("end of 8: %d, %d", e, end)
	}
	check(t, p.Truncate(5)) // inside of epoch 4's batch
	if p.LEO() != 4 || p.LatestEpoch() != 2 {
		t.Errorf("log end %d in epoch %d", p.LEO(), p.LatestEpoch())
	}
}
