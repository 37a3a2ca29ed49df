package broker_test

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/stratabroker/strata/tiering/object/mem"
)

func TestTheHotCopyLosesTheTombstonesThatTheBucketHasLost(t *testing.T) {
	store := mem.New()
	n, err := start(t, filepath.Join(t.TempDir(), "first"), store, append(sealing,
		"strata.cold.compaction.interval.ms", "100", "log.cleaner.backoff.ms", "50", "log.cleaner.min.cleanable.ratio", "0", "log.cleaner.delete.retention.ms", "0")...)
	if err != nil {
		t.Fatal(err)
	}
	c := n.client(t)
	compact := "compact"
	if _, err := kadm.NewClient(c).CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": &compact}, "keys"); err != nil {
		t.Fatal(err)
	}
	write := func(key string, value []byte) {
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "keys", Key: []byte(key), Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	write("gone", []byte("1"))
	n.awaitTiered(t, store, "keys")
	write("gone", nil)
	round := 0
	await(t, "the tombstone is gone", func() error {
		round++
		write("other", fmt.Append(nil, round)) // news, so that there is something to clean
		records, _ := read(t, c, "keys")       // the whole set is hot: nothing of it comes from the bucket
		if strings.Contains(strings.Join(records, "\n"), "gone") {
			return errors.New("it is there")
		}
		return nil
	})
	n.awaitTiered(t, store, "keys") // and so in the newest root
	n.stop()
	back, err := restored(t, filepath.Join(t.TempDir(), "second"), "latest", store, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer back.stop()
	if records, _ := read(t, back.client(t), "keys"); strings.Contains(strings.Join(records, "\n"), "gone") {
		t.Errorf("a lost disk brings the deleted key back: %q", records)
	}
}
