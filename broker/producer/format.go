package producer

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// Sizes of Kafka's .snapshot and .txnindex formats; see README.md.
const (
	snapshotVersion = 1
	snapshotHeader  = 10 // version, CRC, number of entries
	snapshotCRC     = 6  // the CRC covers all from here
	snapshotEntry   = 46
	abortedVersion  = 0

	// AbortedLen is the size of one entry of an aborted index.
	AbortedLen = 34
)

// Encode returns the bytes of a .snapshot file, which the caller names by the
// offset the state covers. The order of producers is that of their ids. A
// producer has one entry per remembered batch, oldest first: Kafka's reader
// keeps the last of them, Decode all, so that a retry is known as a duplicate
// also after a roll or restart. Transactions that have ended are not held.
func (s *State) Encode() []byte {
	out := make([]byte, snapshotHeader, snapshotHeader+len(s.producers)*snapshotEntry)
	n := uint32(0)
	for _, id := range slices.Sorted(maps.Keys(s.producers)) {
		e := s.producers[id]
		kept := e.kept()
		if len(kept) == 0 {
			kept = []BatchMeta{{FirstSequence: protocol.NoSequence, LastSequence: protocol.NoSequence, First: protocol.NoOffset, Last: protocol.NoOffset}}
		}
		for i, m := range kept {
			at := m.AppendTime
			if i == len(kept)-1 {
				at = e.lastAppend // a marker may have come after the batch
			}
			out = binary.BigEndian.AppendUint64(out, uint64(id))
			out = binary.BigEndian.AppendUint16(out, uint16(e.epoch))
			out = binary.BigEndian.AppendUint32(out, uint32(m.LastSequence))
			out = binary.BigEndian.AppendUint64(out, uint64(m.Last))
			out = binary.BigEndian.AppendUint32(out, uint32(m.Last-m.First))
			out = binary.BigEndian.AppendUint64(out, uint64(at))
			out = binary.BigEndian.AppendUint32(out, uint32(e.coordinatorEpoch))
			out = binary.BigEndian.AppendUint64(out, uint64(e.txnFirst))
			n++
		}
	}
	binary.BigEndian.PutUint16(out, snapshotVersion)
	binary.BigEndian.PutUint32(out[6:], n)
	binary.BigEndian.PutUint32(out[2:], record.CRC(out[snapshotCRC:]))
	return out
}

// Decode reads what Encode or Kafka wrote. Errors wrap ErrCorrupt.
func Decode(b []byte) (*State, error) {
	if len(b) < snapshotHeader {
		return nil, fmt.Errorf("%w: snapshot of %d bytes", ErrCorrupt, len(b))
	}
	if v := binary.BigEndian.Uint16(b); v != snapshotVersion {
		return nil, fmt.Errorf("%w: snapshot version %d", ErrCorrupt, v)
	}
	if stored, crc := binary.BigEndian.Uint32(b[2:]), record.CRC(b[snapshotCRC:]); stored != crc {
		return nil, fmt.Errorf("%w: snapshot CRC is %08x, header says %08x", ErrCorrupt, crc, stored)
	}
	n, rest := binary.BigEndian.Uint32(b[6:]), b[snapshotHeader:]
	if uint64(len(rest)) != uint64(n)*snapshotEntry {
		return nil, fmt.Errorf("%w: %d snapshot entries in %d bytes", ErrCorrupt, n, len(rest))
	}
	s := &State{}
	for ; len(rest) > 0; rest = rest[snapshotEntry:] {
		if err := s.load(rest[:snapshotEntry]); err != nil {
			return nil, err
		}
	}
	for id, e := range s.producers {
		if e.txnFirst == protocol.NoOffset {
			continue
		}
		if i, found := s.findOpen(e.txnFirst); found {
			return nil, fmt.Errorf("%w: producers %d and %d both began a transaction at offset %d",
				ErrCorrupt, id, s.open[i].producer, e.txnFirst)
		}
		s.addOpen(txn{producer: id, first: e.txnFirst})
	}
	return s, nil
}

// load takes in one entry. A later entry of the same producer either continues
// its batches or takes the place of all before.
func (s *State) load(b []byte) error {
	id := protocol.ProducerID(binary.BigEndian.Uint64(b))
	epoch := protocol.ProducerEpoch(binary.BigEndian.Uint16(b[8:]))
	sequence := int32(binary.BigEndian.Uint32(b[10:]))
	last := protocol.Offset(binary.BigEndian.Uint64(b[14:]))
	delta := int32(binary.BigEndian.Uint32(b[22:]))
	at := protocol.Timestamp(binary.BigEndian.Uint64(b[26:]))
	if id < 0 || epoch < 0 || sequence < protocol.NoSequence || delta < 0 || last >= 0 && protocol.Offset(delta) > last {
		return fmt.Errorf("%w: snapshot entry of producer %d: epoch %d, sequence %d, offset %d, delta %d",
			ErrCorrupt, id, epoch, sequence, last, delta)
	}
	if s.producers == nil {
		s.producers = make(map[protocol.ProducerID]*entry)
	}
	m := BatchMeta{FirstSequence: sequence, LastSequence: sequence, First: last - protocol.Offset(delta), Last: last, AppendTime: at}
	if sequence != protocol.NoSequence {
		m.FirstSequence = int32((int64(sequence) - int64(delta)) & 0x7fffffff)
	}
	e := s.producers[id]
	if e == nil || last < 0 || e.epoch != epoch || e.count > 0 && m.First <= e.batches[e.count-1].Last {
		e = newEntry(epoch)
		s.producers[id] = e
	}
	if last >= 0 {
		e.push(m)
	}
	e.lastAppend = at
	e.coordinatorEpoch = int32(binary.BigEndian.Uint32(b[34:]))
	e.txnFirst = max(protocol.NoOffset, protocol.Offset(binary.BigEndian.Uint64(b[38:])))
	return nil
}

// AppendAborted appends t to dst as one entry of a .txnindex file (AbortedLen bytes).
func AppendAborted(dst []byte, t protocol.AbortedTxn) []byte {
	dst = binary.BigEndian.AppendUint16(dst, abortedVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.Producer))
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.First))
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.Last))
	return binary.BigEndian.AppendUint64(dst, uint64(t.LastStable))
}

// DecodeAborted reads a whole .txnindex file. The format has no CRC: what can be
// checked is its length, its versions and that markers ascend. Errors wrap ErrCorrupt.
func DecodeAborted(b []byte) ([]protocol.AbortedTxn, error) {
	if len(b)%AbortedLen != 0 {
		return nil, fmt.Errorf("%w: aborted index of %d bytes", ErrCorrupt, len(b))
	}
	out := make([]protocol.AbortedTxn, 0, len(b)/AbortedLen)
	for last := protocol.NoOffset; len(b) > 0; b = b[AbortedLen:] {
		if v := binary.BigEndian.Uint16(b); v != abortedVersion {
			return nil, fmt.Errorf("%w: aborted index version %d", ErrCorrupt, v)
		}
		t := protocol.AbortedTxn{
			Producer:   protocol.ProducerID(binary.BigEndian.Uint64(b[2:])),
			First:      protocol.Offset(binary.BigEndian.Uint64(b[10:])),
			Last:       protocol.Offset(binary.BigEndian.Uint64(b[18:])),
			LastStable: protocol.Offset(binary.BigEndian.Uint64(b[26:])),
		}
		if t.Producer < 0 || t.First < 0 || t.First > t.Last || t.Last <= last {
			return nil, fmt.Errorf("%w: aborted transaction %+v after a marker at %d", ErrCorrupt, t, last)
		}
		last = t.Last
		out = append(out, t)
	}
	return out, nil
}
