package recovery_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/recovery"
)

func open(t *testing.T, w *world) *recovery.Bucket {
	t.Helper()
	b, err := recovery.Open(t.Context(), w.store)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPartitionsAndSegmentsAreListed(t *testing.T) {
	w := archive(t)
	b := open(t, w)
	i := int32(0)
	for p, err := range b.Partitions(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		row := w.row(i)
		if p.Topic != topicName || p.Partition != i || p.LogStart != row.LogStart || p.TieredEnd != row.Manifest.TieredEnd ||
			p.Segments != int64(row.Manifest.Segments) || p.Bytes != int64(row.Manifest.Bytes) {
			t.Errorf("partition %d: %s", i, p)
		}
		i++
	}
	var got []format.Entry
	for s, err := range b.Segments(t.Context(), topicName) {
		if err != nil {
			t.Fatal(err)
		}
		if line := s.String(); !strings.Contains(line, "topic=events") || !strings.Contains(line, s.ObjectKey) {
			t.Errorf("line %q", line)
		}
		got = append(got, s.Entry)
	}
	want := append(w.entries(0), w.entries(1)...)
	if i != 3 || len(got) != len(want) {
		t.Fatalf("%d partitions, %d segments", i, len(got))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("segment %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	for _, err := range b.Partitions(t.Context(), "other") {
		if !errors.Is(err, recovery.ErrNotFound) {
			t.Errorf("unknown topic: %v", err)
		}
	}
}

func TestCatGivesEveryCommittedRecordFromAnyOffset(t *testing.T) {
	w := archive(t)
	b := open(t, w)
	for p := range int32(3) {
		end := w.row(p).Manifest.TieredEnd
		for from := protocol.Offset(0); from <= end; from += 1 + end/40 {
			o := max(from, w.row(p).LogStart)
			for r, err := range b.Cat(t.Context(), topicName, p, from) {
				if err != nil {
					t.Fatal(err)
				}
				for w.texts[p][o] == "" { // a control record, or of an aborted transaction
					o++
				}
				if r.Offset != o || string(r.Value) != w.texts[p][o] {
					t.Fatalf("from %d: offset %d has %q, want %d with %q", from, r.Offset, r.Value, o, w.texts[p][o])
				}
				o++
			}
			for o < end && w.texts[p][o] == "" {
				o++
			}
			if o != end && end > 0 {
				t.Fatalf("partition %d from %d ends at %d, want %d", p, from, o, end)
			}
		}
	}
}

func TestCatOfANarrowedEntryKeepsToItsRange(t *testing.T) {
	w := newWorld(t, 1)
	e := w.segment(0, 0, 30)
	first, second := e, w.segment(0, 0, 30)
	first.End, second.Base = 40, 40
	w.commit(0, format.Edit{Append: []format.Entry{first, second}})
	w.root(testTime)
	wantClean(t, w.store, recovery.Options{})
	next := protocol.Offset(0)
	for r, err := range open(t, w).Cat(t.Context(), topicName, 0, 0) {
		if err != nil || r.Offset < next {
			t.Fatalf("offset %d after %d, %v", r.Offset, next, err)
		}
		next = r.Offset + 1
	}
	if next < 80 {
		t.Errorf("ends at %d", next)
	}
}

func TestCatFindsDamage(t *testing.T) {
	w := archive(t)
	e := w.entries(0)[4]
	w.flip(e.ObjectKey, 5000)
	n := 0
	for r, err := range open(t, w).Cat(t.Context(), topicName, 0, 0) {
		if err != nil {
			if !errors.Is(err, format.ErrCorrupt) || !strings.Contains(err.Error(), e.ObjectKey) {
				t.Errorf("%v", err)
			}
			return
		}
		if r.Offset >= e.End {
			t.Fatalf("read on at %d", r.Offset)
		}
		n++
	}
	t.Errorf("%d records without an error", n)
}

func TestCatStopsWhenAsked(t *testing.T) {
	w := archive(t)
	n := 0
	for _, err := range open(t, w).Cat(t.Context(), topicName, 0, 10) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 5 {
			break
		}
	}
	for _, err := range open(t, w).Cat(t.Context(), topicName, 77, 0) {
		if !errors.Is(err, recovery.ErrNotFound) {
			t.Errorf("unknown partition: %v", err)
		}
	}
}
