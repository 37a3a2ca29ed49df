package inspect_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stratabroker/strata/broker/inspect"
	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// partition is a directory that a test makes and harms.
type partition struct {
	t   *testing.T
	dir string
}

const base = 100

// good is a partition of five batches, 100 to 149, of an aborted transaction and its marker at 150, with all its files.
func good(t *testing.T) *partition {
	t.Helper()
	p := &partition{t: t, dir: t.TempDir()}
	var data, index, times []byte
	state := producer.State{}
	apply := func(b record.Batch, offset protocol.Offset) { state.Apply(b, offset, 5000) }
	for i := range protocol.Offset(5) {
		b := record.NewBuilder(base + 10*i)
		b.LeaderEpoch = protocol.Epoch(i / 2)
		if i == 4 {
			b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = 7, 0, 0, true
		}
		for n := range 10 {
			b.Add(record.Record{Timestamp: protocol.Timestamp(1000*i) + protocol.Timestamp(n), Key: []byte("k"), Value: []byte(fmt.Sprint(n))})
		}
		batch := b.Bytes()
		index = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(index, uint32(10*i+9)), uint32(len(data)))
		times = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(times, uint64(1000*i+9)), uint32(10*i+9))
		data = append(data, batch...)
		apply(batch, base+10*i)
	}
	marker := record.NewBuilder(base + 50)
	marker.ProducerID, marker.ProducerEpoch, marker.Transactional, marker.Control, marker.LeaderEpoch = 7, 0, true, true, 2
	marker.Add(record.Record{Timestamp: 4500, Key: []byte{0, 0, 0, 0}, Value: []byte{0, 0, 0, 0, 0, 0}})
	data = append(data, marker.Bytes()...)
	apply(marker.Bytes(), base+50)
	p.write("00000000000000000100.log", data)
	p.write("00000000000000000100.index", index)
	p.write("00000000000000000100.timeindex", times)
	p.write("00000000000000000100.txnindex", producer.AppendAborted(nil, protocol.AbortedTxn{Producer: 7, First: base + 40, Last: base + 50, LastStable: base + 51}))
	p.write("00000000000000000151.snapshot", state.Encode())
	p.write("leader-epoch-checkpoint", []byte("0\n3\n0 100\n1 120\n2 140\n"))
	return p
}

func (p *partition) write(name string, b []byte) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), b, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// change reads a file, lets it be harmed, and writes it.
func (p *partition) change(name string, harm func([]byte) []byte) {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(name, harm(b))
}

// findings walks over the whole partition.
func (p *partition) findings() (all []string) {
	p.t.Helper()
	n, err := inspect.Walk(p.dir, inspect.Visitor{Finding: func(f inspect.Finding) error {
		all = append(all, strings.TrimPrefix(f.String(), p.dir+"/"))
		return nil
	}})
	if err != nil || int(n) != len(all) {
		p.t.Fatalf("%d findings, told %d, %v", n, len(all), err)
	}
	return all
}

func TestAWholePartitionIsShownWithoutFindings(t *testing.T) {
	p := good(t)
	counts := map[string]int{}
	var summary inspect.Summary
	records := 0
	n, err := inspect.Walk(p.dir, inspect.Visitor{
		Batch: func(_ string, b inspect.Batch) error {
			counts["batch"]++
			for _, err := range b.Records(1 << 20) {
				if err != nil {
					return err
				}
				records++
			}
			return b.Bad
		},
		Index: func(_ string, e inspect.IndexEntry) error {
			if e.Position < 0 {
				counts["time"]++
			} else {
				counts["index"]++
			}
			return nil
		},
		Aborted: func(string, protocol.AbortedTxn) error { counts["aborted"]++; return nil },
		Producer: func(_ string, p inspect.Producer) error {
			if p.ID != 7 || p.LastOffset != base+49 || p.OffsetDelta != 9 || p.LastSequence != 9 || p.Timestamp != 5000 || p.TxnFirst != -1 {
				t.Errorf("producer %+v", p)
			}
			counts["producer"]++
			return nil
		},
		Epoch: func(string, protocol.EpochStart) error { counts["epoch"]++; return nil },
		File:  func(s inspect.Summary) error { summary = s; return nil },
	})
	if err != nil || n != 0 {
		t.Fatalf("%d findings, %v: %v", n, err, p.findings())
	}
	if got := fmt.Sprint(counts); got != "map[aborted:1 batch:6 epoch:3 index:5 producer:1 time:5]" || records != 51 {
		t.Errorf("shown %s, %d records", got, records)
	}
	if summary.Base != base || summary.Next != base+51 || summary.Batches != 6 || summary.Records != 51 || summary.MaxTimestamp != 4500 || summary.AbortedTxns != 1 {
		t.Errorf("summary %+v", summary)
	}
}

func TestEachHarmIsFoundWhereItIs(t *testing.T) {
	const logFile, indexFile, timeFile = "00000000000000000100.log", "00000000000000000100.index", "00000000000000000100.timeindex"
	at := func(i int, change byte) func([]byte) []byte {
		return func(b []byte) []byte { b[i] ^= change; return b }
	}
	second := func(b []byte) int { return int(binary.BigEndian.Uint32(b[8:])) + 12 } // where the second batch begins
	for name, tc := range map[string]struct {
		file string
		harm func([]byte) []byte
		want string
	}{
		"flipped record":          {logFile, func(b []byte) []byte { b[second(b)+80] ^= 1; return b }, "offset 110: record batch is corrupt: CRC is"},
		"torn end":                {logFile, func(b []byte) []byte { return b[:len(b)-3] }, "offset 150: a batch of"},
		"a few bytes more":        {logFile, func(b []byte) []byte { return append(b, 1, 2, 3) }, "the last 3 bytes are no batch"},
		"zeros":                   {logFile, func(b []byte) []byte { return append(b, make([]byte, 100)...) }, "zeros from here on, 100 bytes"},
		"length that lies":        {logFile, func(b []byte) []byte { b[second(b)+11] = 3; b[second(b)+10] = 0; return b }, "no batch begins here"},
		"old format":              {logFile, func(b []byte) []byte { b[second(b)+16] = 1; return b }, "magic 1"},
		"offsets go back":         {logFile, func(b []byte) []byte { b[second(b)+7] = 90; return b }, "the batch begins below 110"},
		"epochs go back":          {logFile, func(b []byte) []byte { b[second(b)+15] = 9; return b }, "leader epoch 1 after 9"},
		"index into a batch":      {indexFile, at(15, 1), "offset 119: the entry leads to position"},
		"index of another batch":  {indexFile, func(b []byte) []byte { return append(b[:3:3], append([]byte{0x63}, b[4:]...)...) }, "does not ascend"},
		"index too low":           {indexFile, func(b []byte) []byte { b[19] = 12; return b }, "where the batch of 120 to 129 begins"},
		"index behind the end":    {indexFile, func(b []byte) []byte { return append(b, 0, 0, 0, 0x33, 0, 1, 0, 0) }, "behind the last batch"},
		"half an index entry":     {indexFile, func(b []byte) []byte { return append(b, 0, 0, 1) }, "3 bytes after the last entry of 8"},
		"time index too early":    {timeFile, func(b []byte) []byte { b[12+7]--; return b }, "nothing up to here is later than 1008, but 1009 is"},
		"time index not in order": {timeFile, func(b []byte) []byte { b[24+6] = 0; b[24+7] = 1; return b }, "does not ascend"},
		"time index behind":       {timeFile, func(b []byte) []byte { return append(b, 0, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0, 1, 0) }, "lies behind the last batch, which ends at 151"},
		"aborted without marker":  {"00000000000000000100.txnindex", func(b []byte) []byte { b[25]--; return b }, "no marker of producer 7"},
		"aborted behind":          {"00000000000000000100.txnindex", func(b []byte) []byte { b[25]++; return b }, "the marker of producer 7 lies behind"},
		"half an aborted entry":   {"00000000000000000100.txnindex", func(b []byte) []byte { return b[:20] }, "aborted index of 20 bytes"},
		"snapshot":                {"00000000000000000151.snapshot", at(20, 1), "snapshot CRC"},
		"epochs without a count":  {"leader-epoch-checkpoint", func(b []byte) []byte { return b[:len(b)-6] }, "no checkpoint"},
		"epochs in no order":      {"leader-epoch-checkpoint", func([]byte) []byte { return []byte("0\n2\n1 5\n1 7\n") }, "does not ascend"},
		"epochs of letters":       {"leader-epoch-checkpoint", func([]byte) []byte { return []byte("0\n1\na b\n") }, "want an epoch"},
	} {
		t.Run(name, func(t *testing.T) {
			p := good(t)
			p.change(tc.file, tc.harm)
			all := p.findings()
			if len(all) == 0 || !strings.HasPrefix(all[0], tc.file) && !strings.Contains(strings.Join(all, "\n"), tc.file) {
				t.Fatalf("found %q", all)
			}
			if !strings.Contains(strings.Join(all, "\n"), tc.want) {
				t.Errorf("no %q in %q", tc.want, all)
			}
		})
	}
}

func TestWhatKafkaPreallocatesIsNoHarm(t *testing.T) {
	p := good(t)
	for _, file := range []string{"00000000000000000100.index", "00000000000000000100.timeindex"} {
		p.change(file, func(b []byte) []byte { return append(b, make([]byte, 24*100)...) })
	}
	if all := p.findings(); all != nil {
		t.Errorf("found %q", all)
	}
}

func TestSegmentsThatOverlapAreFound(t *testing.T) {
	p := good(t)
	b := record.NewBuilder(140)
	b.Add(record.Record{Value: []byte("again")})
	p.write("00000000000000000140.log", b.Bytes())
	if all := p.findings(); len(all) != 1 || !strings.Contains(all[0], "begins below 151") {
		t.Errorf("found %q", all)
	}
}

func TestAFileAloneIsReadByItsName(t *testing.T) {
	p := good(t)
	for name, want := range map[string]string{
		"00000000000000000100.log": "batch index time aborted", "00000000000000000100.index": "index", "00000000000000000100.timeindex": "time",
		"00000000000000000100.txnindex": "aborted", "00000000000000000151.snapshot": "producer", "leader-epoch-checkpoint": "epoch",
	} {
		seen := map[string]bool{}
		see := func(kind string) error { seen[kind] = true; return nil }
		_, err := inspect.Walk(filepath.Join(p.dir, name), inspect.Visitor{
			Batch: func(string, inspect.Batch) error { return see("batch") },
			Index: func(_ string, e inspect.IndexEntry) error {
				if e.Position < 0 {
					return see("time")
				}
				return see("index")
			},
			Aborted:  func(string, protocol.AbortedTxn) error { return see("aborted") },
			Producer: func(string, inspect.Producer) error { return see("producer") },
			Epoch:    func(string, protocol.EpochStart) error { return see("epoch") },
		})
		for kind := range strings.FieldsSeq(want) {
			if !seen[kind] {
				t.Errorf("%s: no %s, %v", name, kind, err)
			}
		}
		if err != nil || len(seen) != len(strings.Fields(want)) {
			t.Errorf("%s: seen %v, %v", name, seen, err)
		}
	}
}

func TestWhatIsNoPartitionIsRefused(t *testing.T) {
	if _, err := inspect.Walk(t.TempDir(), inspect.Visitor{}); !errors.Is(err, inspect.ErrNoLog) {
		t.Errorf("an empty folder: %v", err)
	}
	p := good(t)
	p.write("notes.txt", nil)
	if _, err := inspect.Walk(filepath.Join(p.dir, "notes.txt"), inspect.Visitor{}); !errors.Is(err, inspect.ErrNoLog) {
		t.Errorf("a text: %v", err)
	}
	if _, err := inspect.Walk(filepath.Join(p.dir, "none"), inspect.Visitor{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	stop := errors.New("enough")
	if _, err := inspect.Walk(p.dir, inspect.Visitor{Batch: func(string, inspect.Batch) error { return stop }}); !errors.Is(err, stop) {
		t.Errorf("a visitor that stops: %v", err)
	}
}

// FuzzWalk reads what anybody may have written.
func FuzzWalk(f *testing.F) {
	b := record.NewBuilder(0)
	b.Add(record.Record{Key: []byte("k"), Value: []byte("v")})
	f.Add([]byte(b.Bytes()), []byte{0, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 12), make([]byte, producer.AbortedLen), []byte("0\n1\n0 0\n"))
	f.Fuzz(func(t *testing.T, data, index, times, txns, epochs []byte) {
		p := partition{t, t.TempDir()}
		p.write("00000000000000000000.log", data)
		p.write("00000000000000000000.index", index)
		p.write("00000000000000000000.timeindex", times)
		p.write("00000000000000000000.txnindex", txns)
		p.write("00000000000000000001.snapshot", txns)
		p.write("leader-epoch-checkpoint", epochs)
		p.findings()
	})
}
