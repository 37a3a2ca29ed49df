package protocol_test

import (
	"testing"

	"github.com/stratabroker/strata/protocol"
)

func TestTopicIDsComeBack(t *testing.T) {
	rng := newRand()
	for range 100 {
		var id protocol.TopicID
		for i := range id {
			id[i] = byte(rng.Uint32())
		}
		if got, err := protocol.ParseTopicID(id.String()); err != nil || got != id {
			t.Errorf("%s: %v", id, err)
		}
		if got, err := protocol.ParseTopicIDHex(id.Hex()); err != nil || got != id || len(id.Hex()) != 32 {
			t.Errorf("%s: %v", id.Hex(), err)
		}
	}
	if !(protocol.TopicID{}).IsZero() || (protocol.TopicID{15: 1}).IsZero() {
		t.Error("IsZero")
	}
	for _, bad := range []string{"", "AAAA", "AAAAAAAAAAAAAAAAAAAAA", "!!!!!!!!!!!!!!!!!!!!!!", "AAAAAAAAAAAAAAAAAAAAAAAA"} {
		if _, err := protocol.ParseTopicID(bad); err == nil {
			t.Errorf("%q passes", bad)
		}
		if _, err := protocol.ParseTopicIDHex(bad); err == nil {
			t.Errorf("%q passes as hex", bad)
		}
	}
	if got := (protocol.PartitionKey{Partition: 3}).String(); got != "AAAAAAAAAAAAAAAAAAAAAA-3" {
		t.Error(got)
	}
}
