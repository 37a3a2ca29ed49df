package raftstore_test

import (
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stratabroker/strata/metadata/raftstore"
)

// The bytes of one entry, as README.md draws them.
const goldenEntry = "01" + "05" + "0000000000000007" + "000000003b9aca05" + "00000001" + "78" + "64617461" + "02b42ad6"

func TestGoldenEntry(t *testing.T) {
	l := &raft.Log{
		Index: 9, Type: raft.LogConfiguration, Term: 7, AppendedAt: time.Unix(1, 5), Extensions: []byte("x"), Data: []byte("data"),
	}
	if got := hex.EncodeToString(raftstore.EncodeEntry(l)); got != goldenEntry {
		t.Errorf("got  %s\nwant %s", got, goldenEntry)
	}
}

func TestDamagedEntriesAreRefused(t *testing.T) {
	good := raftstore.EncodeEntry(entry(3, 20))
	var l raft.Log
	if err := raftstore.DecodeEntry(3, good, &l); err != nil {
		t.Fatal(err)
	}
	if err := raftstore.DecodeEntry(4, good, &l); !errors.Is(err, raftstore.ErrCorrupt) {
		t.Error("an entry under another index was read")
	}
	for i := range good {
		good[i] ^= 4
		if err := raftstore.DecodeEntry(3, good, &l); !errors.Is(err, raftstore.ErrCorrupt) {
			t.Errorf("damage in byte %d was not seen", i)
		}
		if err := raftstore.DecodeEntry(3, good[:i], &l); !errors.Is(err, raftstore.ErrCorrupt) {
			t.Errorf("%d bytes were read", i)
		}
		good[i] ^= 4
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(uint64(3), raftstore.EncodeEntry(entry(3, 20)))
	f.Add(uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, index uint64, raw []byte) {
		var l raft.Log
		sealed := raftstore.Reseal(index, raw)
		if raftstore.DecodeEntry(index, sealed, &l) == nil && string(raftstore.EncodeEntry(&l)) != string(sealed) {
			t.Fatalf("%x came back as %x", sealed, raftstore.EncodeEntry(&l))
		}
	})
}
