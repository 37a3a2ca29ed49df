package metadata_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
)

var rewrite = flag.Bool("rewrite", false, "rewrite golden files")

// everything is an image with a row of each kind.
func everything(tb testing.TB) *metadata.Image {
	tb.Helper()
	w := newWorld(tb, 2)
	c := registration(2, 9, w.epoch(2), false)
	c.GetRegisterBroker().Rack = "r"
	c.GetRegisterBroker().Listeners = []*metadatapb.Listener{{Name: "PLAINTEXT", Protocol: "PLAINTEXT", Host: "h", Port: 9092}}
	w.ok(c)
	w.fence(2, false)
	w.topic("a", 1, assignment(1, 2), assignment(2))
	w.ok(topicConfig("a", 1, "min.insync.replicas", "2"))
	w.fence(2, true)
	w.ok(w.next(100, nil))
	w.ok(logStart(5, 0))
	w.ok(command(&metadatapb.AllocateProducerIDs{Broker: 1, BrokerEpoch: w.epoch(1), Count: 1000}))
	w.ok(command(&metadatapb.SetSweepFloor{Floor: &metadatapb.Attempt{Generation: 1, Index: 3}, AtMs: 9}))
	w.ok(command(&metadatapb.RetainRoot{Seq: 4, Place: &metadatapb.PagePlace{Key: "r", Offset: 1, Length: 2, Crc: 3}, Cut: &metadatapb.Attempt{Generation: 1, Index: 8}, AtMs: 10}))
	return w.img
}

// Protobuf does not promise its bytes, so the golden file is read, not compared.
func TestGoldenSnapshotIsStillRead(t *testing.T) {
	const name = "testdata/image.v1.hex"
	want := everything(t)
	if *rewrite {
		if err := os.WriteFile(name, []byte(hex.EncodeToString(metadata.MarshalImage(want))+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	img, err := metadata.UnmarshalImage(raw)
	if err != nil {
		t.Fatal(err)
	}
	if img.Hash() != want.Hash() {
		t.Fatal("the golden snapshot is read as another image")
	}
	if got := hex.EncodeToString(first(img.Hash())); got != goldenHash {
		t.Fatalf("the hash of the golden snapshot is %s: brokers of two builds would not agree", got)
	}
}

const goldenHash = "610acc8732ff0e75"

func first(h [32]byte) []byte { return h[:8] }

func TestSnapshotRefusals(t *testing.T) {
	good := metadata.MarshalImage(everything(t))
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := metadata.UnmarshalImage(bad); err == nil {
			t.Fatalf("bit flip in byte %d was not seen", i)
		}
	}
	for n := range len(good) {
		if _, err := metadata.UnmarshalImage(good[:n]); !isErr(err, metadata.ErrSnapshotCorrupt) {
			t.Fatalf("%d bytes of %d: %v", n, len(good), err)
		}
	}
	newer := bytes.Clone(good)
	newer[7]++
	if _, err := metadata.UnmarshalImage(newer); !isErr(err, metadata.ErrSnapshotVersion) {
		t.Fatal(err)
	}
}

func FuzzUnmarshalImage(f *testing.F) {
	f.Add(metadata.MarshalImage(metadata.EmptyImage()))
	f.Add(metadata.MarshalImage(everything(f)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		img, err := metadata.UnmarshalImage(metadata.Reseal(raw))
		if err == nil {
			checkSnapshot(t, img)
		}
	})
}
