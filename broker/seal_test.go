package broker_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/stratabroker/strata/tiering/object/mem"
)

func TestCommittedOffsetsSurviveALostDiskThoughTheirSegmentIsNotFull(t *testing.T) {
	l := &lost{store: mem.New(), offsets: map[string]int64{}}
	n, err := start(t, filepath.Join(t.TempDir(), "first"), l.store, "offsets.topic.num.partitions", "2", "strata.offsets.seal.interval.ms", "100")
	if err != nil {
		t.Fatal(err)
	}
	adm := kadm.NewClient(n.client(t))
	if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, "events"); err != nil {
		t.Fatal(err)
	}
	for round, group := range []string{"first", "second", "first"} { // news again after it was sealed
		l.commit(t, adm, group, int64(round))
		n.awaitTiered(t, l.store, "__consumer_offsets")
	}
	n.stop()
	back, err := restored(t, filepath.Join(t.TempDir(), "second"), "latest", l.store, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer back.stop()
	for group := range l.offsets {
		got, err := kadm.NewClient(back.client(t)).FetchOffsets(t.Context(), group)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := got.Lookup("events", 0); !ok {
			t.Errorf("%s: no offset came back", group)
		}
	}
}
