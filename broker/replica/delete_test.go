package replica_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
)

// advance moves a log start as DeleteRecords does.
func advance(w *world, l *replica.Leader, to protocol.Offset) {
	w.t.Helper()
	key := l.Key()
	r := w.do(&metadatapb.Command_AdvanceLogStarts{AdvanceLogStarts: &metadatapb.AdvanceLogStarts{Rows: []*metadatapb.LogStart{
		{TopicId: key.Topic[:], Partition: key.Partition, Offset: int64(to), LeaderEpoch: int32(l.Epoch())},
	}}})
	if r.Rows[0] != nil {
		w.t.Fatal(r.Rows[0])
	}
}

func TestOnlyWhatIsCommittedAndMayGoIsDeleted(t *testing.T) {
	w := newWorld(t)
	l := w.topic("t", 1)[0]
	fill(t, l, 3, 10)
	for before, want := range map[protocol.Offset]protocol.Offset{0: 0, 2: 2, 3: 3, replica.ToHighWatermark: 3} {
		if to, err := l.DeleteTo(before); err != nil || to != want {
			t.Errorf("below %d: to %d, %v, want %d", before, to, err, want)
		}
	}
	for _, before := range []protocol.Offset{4, -2, 1 << 60} {
		if _, err := l.DeleteTo(before); !errors.Is(err, kerr.OffsetOutOfRange) {
			t.Errorf("below %d: %v", before, err)
		}
	}
	for policy, want := range map[string]error{"compact": kerr.PolicyViolation, "": kerr.PolicyViolation, "compact,delete": nil, "delete": nil} {
		if _, err := w.topic("p"+strings.ReplaceAll(policy, ",", "-"), 1, "cleanup.policy", policy)[0].DeleteTo(0); !errors.Is(err, want) {
			t.Errorf("cleanup.policy=%q: %v, want %v", policy, err, want)
		}
	}
}

// TestNothingBelowTheLogStartIsFound: neither before the upkeep has cut the log, nor after it, nor after a restart
// in between.
func TestNothingBelowTheLogStartIsFound(t *testing.T) {
	w := newWorld(t)
	l := w.topic("t", 1)[0]
	fill(t, l, 2, 10)
	if err := l.Log().Roll(); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 3, 10)
	advance(w, l, 3)
	look := func(when string) {
		t.Helper()
		found, ok, err := l.OffsetForTime(t.Context(), w.cold, 0, false)
		if err != nil || !ok || found.Offset != 3 {
			t.Errorf("%s: by time %+v, %t, %v", when, found, ok, err)
		}
		found, ok, err = l.MaxTimestamp(t.Context(), w.cold, false)
		if err != nil || !ok || found.Offset < 3 {
			t.Errorf("%s: greatest time %+v, %t, %v", when, found, ok, err)
		}
		for from, want := range map[protocol.Offset]error{0: kerr.OffsetOutOfRange, 2: kerr.OffsetOutOfRange, 3: nil, 5: nil} {
			r, _ := fetch(w, []replica.FetchPartition{{
				Key: replica.FetchKey{Topic: l.Key().Topic}, From: from, MaxBytes: 1 << 20, CurrentEpoch: protocol.NoEpoch, LastFetchedEpoch: protocol.NoEpoch,
			}}, replica.FetchOptions{MaxBytes: 1 << 20})
			if !errors.Is(r[0].Err, want) || r[0].LogStart != 3 {
				t.Errorf("%s: fetch from %d: %v, log start %d", when, from, r[0].Err, r[0].LogStart)
			}
		}
	}
	look("before the upkeep")
	w.restart(func() {})
	var err error
	if l, err = w.m.Get(l.Key()); err != nil {
		t.Fatal(err)
	}
	look("after a restart")
	w.m.Sweep(t.Context())
	look("after the upkeep")
	if l.Log().Start() != 3 || l.Log().Segments() != 1 {
		t.Errorf("the local log starts at %d with %d segments", l.Log().Start(), l.Log().Segments())
	}
	advance(w, l, 5)
	w.m.Sweep(t.Context())
	if l.Log().Size() != 0 || l.HighWatermark() != 5 {
		t.Errorf("%d bytes are left of nothing, high watermark %d", l.Log().Size(), l.HighWatermark())
	}
	if end, err := l.EpochEnd(t.Context(), w.cold, l.Epoch()); err != nil || end.End != 5 {
		t.Errorf("the epoch ends at %+v, %v", end, err)
	}
	if a, err := produce(t, l, batch(1, 10)); err != nil || a.First != 5 || a.LogStart != 5 {
		t.Errorf("appended %+v, %v", a, err)
	}
}

// TestAReaderOfAnUnknownEpochIsToldSo: as Kafka; its offset may be of another history.
func TestAReaderOfAnUnknownEpochIsToldSo(t *testing.T) {
	w := newWorld(t)
	l := w.topic("t", 1)[0]
	fill(t, l, 3, 10)
	for last, want := range map[protocol.Epoch]error{protocol.NoEpoch: nil, l.Epoch(): nil, l.Epoch() + 7: kerr.OffsetOutOfRange} {
		r, _ := fetch(w, []replica.FetchPartition{{
			Key: replica.FetchKey{Topic: l.Key().Topic}, From: 1, MaxBytes: 1 << 20, CurrentEpoch: protocol.NoEpoch, LastFetchedEpoch: last,
		}}, replica.FetchOptions{MaxBytes: 1 << 20})
		if !errors.Is(r[0].Err, want) || r[0].Diverging != nil {
			t.Errorf("last epoch %d: %v, %+v", last, r[0].Err, r[0].Diverging)
		}
	}
}
