package inspect

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/protocol"
)

// Producer is one entry of a .snapshot (broker/producer/README.md). Offsets and sequence are -1 where there is none.
type Producer struct {
	ID               protocol.ProducerID
	Epoch            protocol.ProducerEpoch
	LastSequence     int32
	LastOffset       protocol.Offset
	OffsetDelta      int32
	Timestamp        protocol.Timestamp
	CoordinatorEpoch int32
	TxnFirst         protocol.Offset // of the open transaction
}

const (
	snapshotHead  = 10 // version, CRC, count
	snapshotEntry = 46
)

// snapshot checks a producer snapshot as a broker does that reads it, then shows its entries.
func (w *walker) snapshot(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if _, err := producer.Decode(b); err != nil {
		return w.found(path, -1, protocol.NoOffset, "%v", err)
	}
	for b = b[snapshotHead:]; len(b) > 0 && w.v.Producer != nil; b = b[snapshotEntry:] {
		be := binary.BigEndian
		p := Producer{
			ID: protocol.ProducerID(be.Uint64(b)), Epoch: protocol.ProducerEpoch(be.Uint16(b[8:])), LastSequence: int32(be.Uint32(b[10:])),
			LastOffset: protocol.Offset(be.Uint64(b[14:])), OffsetDelta: int32(be.Uint32(b[22:])), Timestamp: protocol.Timestamp(be.Uint64(b[26:])),
			CoordinatorEpoch: int32(be.Uint32(b[34:])), TxnFirst: protocol.Offset(be.Uint64(b[38:])),
		}
		if err := w.v.Producer(path, p); err != nil {
			return err
		}
	}
	return nil
}

// epochs reads a leader-epoch-checkpoint: version 0, a count, then epoch and start a line.
func (w *walker) epochs(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	list, err := parseEpochs(string(b))
	if err != nil {
		return w.found(path, -1, protocol.NoOffset, "%v", err)
	}
	for _, e := range list {
		if w.v.Epoch == nil {
			break
		}
		if err := w.v.Epoch(path, e); err != nil {
			return err
		}
	}
	return nil
}

func parseEpochs(text string) ([]protocol.EpochStart, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 2 || lines[0] != "0" || lines[1] != strconv.Itoa(len(lines)-2) {
		return nil, fmt.Errorf("no checkpoint of version 0 with as many lines as it says: %.40q", text)
	}
	var out []protocol.EpochStart
	for _, line := range lines[2:] {
		var e protocol.EpochStart
		if _, err := fmt.Sscanf(line, "%d %d", &e.Epoch, &e.Start); err != nil {
			return nil, fmt.Errorf("line %q: want an epoch and where it begins", line)
		}
		if n := len(out); n > 0 && (e.Epoch <= out[n-1].Epoch || e.Start < out[n-1].Start) {
			return nil, fmt.Errorf("line %q does not ascend", line)
		}
		out = append(out, e)
	}
	return out, nil
}
