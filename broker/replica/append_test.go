package replica_test

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

func TestAppendIsAnsweredOnceDurableAndBelowTheHighWatermark(t *testing.T) {
	w := newWorld(t)
	l := w.topic("t", 1)[0]
	for i := range 10 {
		a, err := produce(t, l, batch(3, 10))
		if err != nil || a.First != protocol.Offset(3*i) {
			t.Fatalf("append %d: first %d, %v", i, a.First, err)
		}
		if hw, durable := l.HighWatermark(), l.Log().Durable(); hw < a.First+3 || durable < hw {
			t.Fatalf("answered with HW %d, durable %d, last offset %d", hw, durable, a.First+2)
		}
	}
}

func TestWhatAClientMayNotWriteIsRefusedWithItsCode(t *testing.T) {
	w := newWorld(t)
	plain := w.topic("plain", 1, "max.message.bytes", "1000")[0]
	compacted := w.topic("compacted", 1, "cleanup.policy", "compact")[0]
	edit := func(change func(record.Batch)) record.Batch {
		b := batch(1, 10)
		change(b)
		binary.BigEndian.PutUint32(b[17:], record.CRC(b[21:]))
		return b
	}
	noKey := record.NewBuilder(0)
	noKey.Add(record.Record{Timestamp: protocol.Timestamp(time.Now().UnixMilli()), Value: []byte("v")})
	future := record.NewBuilder(0)
	future.Add(record.Record{Timestamp: protocol.Timestamp(time.Now().Add(2 * time.Hour).UnixMilli())})
	corrupt := batch(1, 10)
	corrupt[70] ^= 1
	for name, tc := range map[string]struct {
		to   *replica.Leader
		b    []byte
		code *kerr.Error
	}{
		"nothing":                       {plain, nil, kerr.InvalidRecord},
		"two batches":                   {plain, append(batch(1, 1), batch(1, 1)...), kerr.InvalidRecord},
		"too large":                     {plain, batch(1, 2000), kerr.MessageTooLarge},
		"old magic":                     {plain, edit(func(b record.Batch) { b[16] = 1 }), kerr.InvalidRecord},
		"flipped bit":                   {plain, corrupt, kerr.CorruptMessage},
		"cut short":                     {plain, batch(1, 10)[:65], kerr.InvalidRecord},
		"count does not match":          {plain, edit(func(b record.Batch) { b[60] = 7 }), kerr.InvalidRecord},
		"control batch":                 {plain, edit(func(b record.Batch) { b[22] |= 0x20 }), kerr.InvalidRecord},
		"transactional":                 {plain, edit(func(b record.Batch) { b[22] |= 0x10 }), kerr.TransactionalIDAuthorizationFailed},
		"unknown codec":                 {plain, edit(func(b record.Batch) { b[22] |= 5 }), kerr.UnsupportedCompressionType},
		"timestamp far ahead":           {plain, future.Bytes(), kerr.InvalidTimestamp},
		"null key to a compacted topic": {compacted, noKey.Bytes(), kerr.InvalidRecord},
	} {
		if _, err := produce(t, tc.to, tc.b); !errors.Is(err, tc.code) {
			t.Errorf("%s: %v, want %v", name, err, tc.code)
		}
	}
	if plain.Log().LEO() != 0 || compacted.Log().LEO() != 0 {
		t.Error("a refused batch was appended")
	}
}

func TestIdempotentRetryIsAnsweredWithTheOriginalsOffset(t *testing.T) {
	w := newWorld(t)
	l := w.topic("t", 1)[0]
	send := func(seq int32) (replica.Appended, error) {
		b := record.NewBuilder(0)
		b.ProducerID, b.ProducerEpoch, b.BaseSequence = 7, 0, seq
		b.Add(record.Record{Timestamp: protocol.Timestamp(time.Now().UnixMilli()), Key: []byte("k")})
		return produce(t, l, b.Bytes())
	}
	for seq := range int32(3) {
		if a, err := send(seq); err != nil || a.First != protocol.Offset(seq) {
			t.Fatalf("sequence %d: %v %v", seq, a, err)
		}
	}
	if a, err := send(1); err != nil || a.First != 1 {
		t.Errorf("retry: %v %v", a, err)
	}
	if _, err := send(5); !errors.Is(err, kerr.OutOfOrderSequenceNumber) {
		t.Errorf("gap: %v", err)
	}
	if l.Log().LEO() != 3 {
		t.Errorf("log end %d, want 3", l.Log().LEO())
	}
}

func TestCompressionTypeOtherThanProducerRecompresses(t *testing.T) {
	w := newWorld(t)
	for name, codec := range map[string]record.Codec{"gzip": record.Gzip, "snappy": record.Snappy, "lz4": record.LZ4, "zstd": record.Zstd, "uncompressed": record.None} {
		l := w.topic("t-"+name, 1, "compression.type", name)[0]
		if _, err := produce(t, l, batch(10, 1000)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s, err := l.Log().Read(0, 10, 1<<20, true)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := s.Bytes()
		s.Release()
		if err != nil {
			t.Fatal(err)
		}
		b := record.Batch(raw)
		n := 0
		for r, err := range b.Records(1 << 20) {
			if err != nil || len(r.Value) != 1000 {
				t.Fatalf("%s: record %d: %v", name, n, err)
			}
			n++
		}
		if b.Codec() != codec || n != 10 || b.Check() != nil {
			t.Errorf("%s: codec %v, %d records, %v", name, b.Codec(), n, b.Check())
		}
	}
}

func TestChangedSettingsHoldForTheNextAppend(t *testing.T) {
	w := newWorld(t)
	l := w.topic("t", 1)[0]
	if _, err := produce(t, l, batch(1, 5000)); err != nil {
		t.Fatal(err)
	}
	limit := "1000"
	key := l.Key()
	w.do(&metadatapb.Command_AlterConfigs{AlterConfigs: &metadatapb.AlterConfigs{
		Type: 2, Name: "t", TopicId: key.Topic[:], Changes: []*metadatapb.Config{{Name: "max.message.bytes", Value: &limit}},
	}})
	if _, err := produce(t, l, batch(1, 5000)); !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("after the change: %v", err)
	}
}

func TestADeletedTopicFailsItsWaitersAndTakesNoMore(t *testing.T) {
	w := newWorld(t)
	l := w.topic("t", 1)[0]
	if _, err := produce(t, l, batch(1, 5)); err != nil {
		t.Fatal(err)
	}
	done := make(chan []replica.FetchResult, 1)
	w.fetchAll([]replica.FetchPartition{part(l, 1, 100)},
		replica.FetchOptions{MinBytes: 1, MaxBytes: 100, MaxWait: time.Hour}, func(r []replica.FetchResult) { done <- r })
	key := l.Key()
	w.do(&metadatapb.Command_DeleteTopic{DeleteTopic: &metadatapb.DeleteTopic{Id: key.Topic[:]}})
	if r := <-done; !errors.Is(r[0].Err, kerr.UnknownTopicOrPartition) {
		t.Errorf("a waiting fetch got %v", r[0].Err)
	}
	if _, err := produce(t, l, batch(1, 5)); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("an append got %v", err)
	}
	if l := w.topic("t", 1)[0]; l.Log().LEO() != 0 {
		t.Errorf("the topic made anew begins at %d", l.Log().LEO())
	}
}
