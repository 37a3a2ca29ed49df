package format_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/format"
)

func TestACompactedEntryAboveOneThatIsNotIsRefused(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	tr := newTree(4)
	tr.edit(t, format.Edit{Append: entriesFrom(r, 100, 50, 1)})
	compacted := func(from, to int) format.Edit {
		rep := format.Replacement{Base: tr.model[from].Base, End: tr.model[to-1].End}
		for _, e := range tr.model[from:to] {
			e.Compactions++
			rep.Entries = append(rep.Entries, e)
		}
		return format.Edit{Replace: []format.Replacement{rep}}
	}
	refused := func(e format.Edit) {
		t.Helper()
		version := tr.Version + 1
		if _, err := tr.Apply(tr.load, e, format.ManifestKey(testKey(0), version, metadata.Attempt{}, 1), version); !errors.Is(err, format.ErrInvalid) {
			t.Error(err)
		}
	}
	for _, from := range []int{1, 2, 3, 4, 5, 16, 17, 49} {
		refused(compacted(from, 50))
		refused(compacted(from, from+1))
	}
	tr.edit(t, compacted(0, 17))
	refused(compacted(18, 20))
	next := entryAt(r, tr.ended, 10, 1)
	next.Compactions = 1
	refused(format.Edit{Append: []format.Entry{next}})
	next.Compactions, next.DeleteHorizon = 0, 5
	refused(format.Edit{Append: []format.Entry{next}})
	tr.edit(t, compacted(16, 50))
	tr.check(t, r)
	if e, ok, err := tr.FindUncompacted(tr.load); ok || err != nil {
		t.Error(e, err)
	}
}

func TestAnEntryThatLiesAboutItsDeleteHorizonIsFound(t *testing.T) {
	plain := record.NewBuilder(1000)
	plain.Add(record.Record{Timestamp: 5, Key: []byte("k")})
	b := plain.Bytes()
	b[22] |= 1 << 6 // the base timestamp is a delete horizon
	binary.BigEndian.PutUint32(b[17:], record.CRC(b[21:]))
	data := slices.Concat(b, emptyBatch(1001))
	s, err := format.BuildSegment(testMeta(1000, 1003), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	object, _ := io.ReadAll(s.Body())
	e := s.Entry(testMeta(1000, 1003).ObjectKey())
	if e.DeleteHorizon != 0 || e.Records != 1 || e.MaxTimestamp != 5 {
		t.Errorf("delete horizon %d, entry %+v", e.DeleteHorizon, e)
	}
	for _, test := range []struct {
		compactions uint32
		horizon     protocol.Timestamp
		good        bool
	}{{0, 0, true}, {1, 5, true}, {1, 0, true}, {2, 4, false}} {
		e.Compactions, e.DeleteHorizon = test.compactions, test.horizon
		x, err := format.DecodeIndex(tailOf(object, e), e)
		if err != nil {
			t.Fatal(err)
		}
		var bad *format.CorruptError
		if err := x.Verify(bytes.NewReader(object)); (err == nil) != test.good || err != nil && (!errors.As(err, &bad) || bad.Part != format.EntryPart) {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// emptyBatch is what compaction leaves of a batch for its producer's sake, with a time and a delete horizon that nobody may find.
func emptyBatch(at protocol.Offset) record.Batch {
	b := record.NewBuilder(at).Bytes()
	b[22] |= 1 << 6
	binary.BigEndian.PutUint32(b[23:], 0)
	binary.BigEndian.PutUint64(b[27:], 1)
	binary.BigEndian.PutUint64(b[35:], 9000)
	binary.BigEndian.PutUint32(b[17:], record.CRC(b[21:]))
	return b
}
