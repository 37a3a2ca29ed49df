package protocol_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

// sameProduce compares our decoding with kmsg's.
func sameProduce(t *testing.T, want *kmsg.ProduceRequest, got *protocol.ProduceRequest) {
	t.Helper()
	same := func(ok bool, what string) {
		t.Helper()
		if !ok {
			t.Fatalf("version %d: %s differs:\nwant %+v\ngot  %+v", want.Version, what, want, got)
		}
	}
	same((want.TransactionID == nil) == (got.TransactionalID == nil), "transactional id")
	same(want.TransactionID == nil || *want.TransactionID == *got.TransactionalID, "transactional id")
	same(want.Acks == got.Acks && want.TimeoutMillis == got.TimeoutMs, "acks or timeout")
	same(len(want.Topics) == len(got.Topics), "topics")
	for i, w := range want.Topics {
		g := got.Topics[i]
		same(w.Topic == g.Name && protocol.TopicID(w.TopicID) == g.ID && len(w.Partitions) == len(g.Partitions), "topic")
		for j, wp := range w.Partitions {
			gp := g.Partitions[j]
			same(wp.Partition == gp.Index && bytes.Equal(wp.Records, gp.Records) &&
				(wp.Records == nil) == (gp.Records == nil), "partition")
		}
	}
}

func TestProduceAgreesWithKmsg(t *testing.T) {
	rng := newRand()
	for version := int16(3); version <= 13; version++ {
		for range 500 {
			body := randomRequest(rng, 0, version).AppendTo(nil)
			want := kmsg.NewPtrProduceRequest()
			want.SetVersion(version)
			if err := want.ReadFrom(body); err != nil {
				t.Fatal(err)
			}
			got, err := protocol.DecodeProduce(version, body)
			if err != nil {
				t.Fatalf("version %d: %v", version, err)
			}
			sameProduce(t, want, got)
		}
	}
}

func produceBody(version int16, topic string, records []byte) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(version)
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = records
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	return req.AppendTo(nil)
}

func TestProduceRecordsAliasTheBodyAndNamesDoNot(t *testing.T) {
	body := produceBody(9, "topic", []byte("records"))
	req, err := protocol.DecodeProduce(9, body)
	if err != nil {
		t.Fatal(err)
	}
	inside := func(p *byte) bool {
		at := uintptr(unsafe.Pointer(p))
		start := uintptr(unsafe.Pointer(&body[0]))
		return at >= start && at < start+uintptr(len(body))
	}
	if !inside(&req.Topics[0].Partitions[0].Records[0]) {
		t.Error("records were copied")
	}
	if inside(unsafe.StringData(req.Topics[0].Name)) {
		t.Error("the name keeps the frame alive")
	}
}

func TestProduceOfLargeRecordsTakesNoMemoryForThem(t *testing.T) {
	body := produceBody(9, "topic", make([]byte, 8<<20))
	if got := allocated(func() {
		if _, err := protocol.DecodeProduce(9, body); err != nil {
			t.Error(err)
		}
	}); got > 4096 {
		t.Errorf("took %d bytes", got)
	}
}

func TestProduceRefusesLyingCounts(t *testing.T) {
	start := []byte{0xff, 0xff, 0, 1, 0, 0, 0, 0}
	huge := func(n uint32) []byte { return binary.BigEndian.AppendUint32(bytes.Clone(start), n) }
	padded := append(huge(1<<20), make([]byte, 4<<20)...) // 4 bytes an element, 6 are needed
	for name, body := range map[string][]byte{
		"no topics array":       start,
		"null topics":           huge(0xffffffff),
		"more than bytes left":  append(huge(1<<30), make([]byte, 1<<10)...),
		"elements too short":    padded,
		"structure beyond 1 MB": append(huge(300_000), make([]byte, 300_000*6)...),
	} {
		if got := allocated(func() {
			if _, err := protocol.DecodeProduce(3, body); !errors.Is(err, protocol.ErrMalformed) {
				t.Errorf("%s: %v", name, err)
			}
		}); got > 4096 {
			t.Errorf("%s: took %d bytes to refuse", name, got)
		}
	}
	if _, err := protocol.DecodeProduce(2, nil); !errors.Is(err, protocol.ErrNotServed) {
		t.Errorf("version 2: %v", err)
	}
}

func FuzzDecodeProduce(f *testing.F) {
	rng := newRand()
	for version := int16(3); version <= 13; version++ {
		f.Add(version, randomRequest(rng, 0, version).AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		got, err := protocol.DecodeProduce(version, body)
		if err != nil {
			return
		}
		want := kmsg.NewPtrProduceRequest()
		want.SetVersion(version)
		if err := want.ReadFrom(body); err != nil {
			t.Fatalf("kmsg refuses what we accept: %v", err)
		}
		sameProduce(t, want, got)
	})
}
