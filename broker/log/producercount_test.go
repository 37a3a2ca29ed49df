package log_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

func mostProducers(n int64) option { return func(c *log.DirConfig) { c.MaxProducers = n } }

// TestMadeUpProducerIdsDoNotFillTheMemory: at the bound a producer that is not known is refused and those that are
// go on; what is forgotten, deleted or closed makes room, and what a start finds counts.
func TestMadeUpProducerIdsDoNotFillTheMemory(t *testing.T) {
	fs := vfs.NewMem()
	w := start(t, fs, mostProducers(4))
	cfg := small
	cfg.ProducerExpiry = 24 * time.Hour
	p := w.open(cfg)
	other := must(w.tryOpen("other", protocol.PartitionKey{Topic: protocol.TopicID{9}}, cfg, log.Init{}))(t)
	write := func(p *part, id protocol.ProducerID, sequence int32) error {
		_, err := p.Append(idempotent(id, 0, sequence, "x"), 1, log.AppendOptions{Now: w.ms(), Client: true})
		return err
	}
	for id := range protocol.ProducerID(2) {
		if err := errors.Join(write(p, id, 0), write(other, 10+id, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range []*part{p, other} {
		if err := write(l, 20, 0); !errors.Is(err, log.ErrProducers) {
			t.Errorf("one too many: %v", err)
		}
	}
	if err := write(p, 1, 1); err != nil {
		t.Errorf("a known producer: %v", err)
	}
	p.add(w.ms(), "no producer")
	if held := w.dir.HeldProducers(); held != 4 {
		t.Errorf("%d are held", held)
	}

	w.clock.Add((9 * time.Minute).Milliseconds())
	if err := errors.Join(write(p, 1, 2), write(p, 0, 1)); err != nil {
		t.Fatal(err)
	}
	w.clock.Add((2 * time.Minute).Milliseconds())
	if err := write(p, 20, 0); !errors.Is(err, log.ErrProducers) {
		t.Errorf("a log whose producers are busy: %v", err)
	}
	if err := write(other, 20, 0); err != nil {
		t.Errorf("a log whose producers were idle: %v", err)
	}
	if held := w.dir.HeldProducers(); held != 3 {
		t.Errorf("%d are held after two were forgotten and one came", held)
	}

	if err := other.Delete(); err != nil {
		t.Fatal(err)
	}
	if held := w.dir.HeldProducers(); held != 2 {
		t.Errorf("%d are held after a log was deleted", held)
	}
	if err := errors.Join(p.Close(), w.dir.Close(true)); err != nil {
		t.Fatal(err)
	}
	w = start(t, fs, mostProducers(2))
	p = w.open(cfg)
	if held := w.dir.HeldProducers(); held != 2 {
		t.Errorf("%d are held after a start", held)
	}
	if err := write(p, 30, 0); !errors.Is(err, log.ErrProducers) {
		t.Errorf("one too many after a start: %v", err)
	}
}
