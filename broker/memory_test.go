package broker_test

import (
	"strings"
	"testing"

	"github.com/stratabroker/strata/broker"
)

func TestTheMemoryBoundIsSetOrHalfTheMachine(t *testing.T) {
	if got, err := broker.MemoryMax(settings(t, t.TempDir())); err != nil || got < 256<<20 {
		t.Errorf("by itself: %d, %v", got, err)
	}
	if got, err := broker.MemoryMax(settings(t, t.TempDir(), "strata.memory.max.bytes", "200000000")); err != nil || got != 200_000_000 {
		t.Errorf("as set: %d, %v", got, err)
	}
	_, err := broker.MemoryMax(settings(t, t.TempDir(), "strata.memory.max.bytes", "1000"))
	if err == nil || !strings.Contains(err.Error(), "strata.memory.max.bytes=1000: at least 134217728") {
		t.Errorf("too little: %v", err)
	}
}
