package log

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// The journal's bytes (README.md has the diagrams). Everything begins at a multiple of journalBlock.
const (
	journalMagic      = "strataJL"
	journalVersion    = 1
	journalBlock      = 4096
	journalHeaderLen  = 40
	roundMagic        = "stJR"
	roundHeaderLen    = 40
	batchesEntryLen   = 41
	resetEntryLen     = 33
	maxRoundLen       = 64 << 20 // what a reader believes
	journalFileSuffix = ".journal"
)

// Kinds of journal entries.
const (
	batchesEntry = 1
	resetEntry   = 2
)

// journalID is the random id of a journal segment. Each round carries it, so that neither what
// lay on the disk before nor what a client sends can be taken for a round.
type journalID [16]byte

// roundHeader begins a round. The CRC covers all of the round after it.
type roundHeader struct {
	id      journalID
	number  int64
	length  int // bytes of the entries
	entries int
}

// size is what the round takes in the file.
func (h roundHeader) size() int64 { return blocks(int64(roundHeaderLen + h.length)) }

// blocks rounds up to whole blocks.
func blocks(n int64) int64 { return (n + journalBlock - 1) / journalBlock * journalBlock }

// journalEntry is one entry of a round: batches that follow from, or a reset.
type journalEntry struct {
	key     protocol.PartitionKey
	reset   bool
	from    protocol.Offset // the log end before the batches; of a reset, where the log is cut
	to      protocol.Offset // the log end after them
	epoch   protocol.Epoch  // of a reset: the log's latest
	batches int             // length in bytes
}

// encodeJournalHeader is a segment's first block.
func encodeJournalHeader(id journalID, name int64) []byte {
	b := make([]byte, 0, journalBlock)
	b = append(b, journalMagic...)
	b = binary.BigEndian.AppendUint32(b, journalVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(name))
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint32(b, record.CRC(b))
	return b[:journalBlock]
}

func parseJournalHeader(b []byte) (id journalID, name int64, err error) {
	if len(b) < journalHeaderLen || !bytes.HasPrefix(b, []byte(journalMagic)) || binary.BigEndian.Uint32(b[36:]) != record.CRC(b[:36]) {
		return id, 0, fmt.Errorf("%w: no journal header", errBadFile)
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != journalVersion {
		return id, 0, fmt.Errorf("%w: journal version %d", errBadFile, v)
	}
	name = int64(binary.BigEndian.Uint64(b[12:]))
	if name < 1 {
		return id, 0, fmt.Errorf("%w: name %d", errBadFile, name)
	}
	return journalID(b[20:36]), name, nil
}

// roundBuilder puts a round together in one buffer.
type roundBuilder struct {
	buf     []byte
	entries int
}

// begin starts a new round in the same buffer.
func (b *roundBuilder) begin() {
	b.buf, b.entries = append(b.buf[:0], make([]byte, roundHeaderLen)...), 0
}

func (b *roundBuilder) prefix(kind byte, key protocol.PartitionKey, from protocol.Offset) {
	b.entries++
	b.buf = append(b.buf, kind)
	b.buf = append(b.buf, key.Topic[:]...)
	b.buf = binary.BigEndian.AppendUint32(b.buf, uint32(key.Partition))
	b.buf = binary.BigEndian.AppendUint64(b.buf, uint64(from))
}

// batches adds an entry and returns the room for its n bytes, which the caller
// fills; undo takes the entry back.
func (b *roundBuilder) batches(key protocol.PartitionKey, from, to protocol.Offset, n int) (room []byte, undo func()) {
	before := len(b.buf)
	b.prefix(batchesEntry, key, from)
	b.buf = binary.BigEndian.AppendUint64(b.buf, uint64(to))
	b.buf = binary.BigEndian.AppendUint32(b.buf, uint32(n))
	start := len(b.buf)
	if start+n > cap(b.buf) {
		b.buf = append(make([]byte, 0, max(2*cap(b.buf), start+n+journalBlock)), b.buf...)
	}
	b.buf = b.buf[:start+n]
	return b.buf[start:], func() { b.buf, b.entries = b.buf[:before], b.entries-1 }
}

func (b *roundBuilder) reset(key protocol.PartitionKey, at protocol.Offset, epoch protocol.Epoch) {
	b.prefix(resetEntry, key, at)
	b.buf = binary.BigEndian.AppendUint32(b.buf, uint32(epoch))
}

// seal numbers the round and returns its bytes, whole blocks, valid until begin.
func (b *roundBuilder) seal(id journalID, number int64) []byte {
	h := b.buf[:roundHeaderLen]
	copy(h, roundMagic)
	copy(h[8:], id[:])
	binary.BigEndian.PutUint64(h[24:], uint64(number))
	binary.BigEndian.PutUint32(h[32:], uint32(len(b.buf)-roundHeaderLen))
	binary.BigEndian.PutUint32(h[36:], uint32(b.entries))
	binary.BigEndian.PutUint32(h[4:], record.CRC(b.buf[8:]))
	padding := int(blocks(int64(len(b.buf)))) - len(b.buf)
	return append(b.buf, make([]byte, padding)...)
}

// parseRoundHeader reads what claims to be a round's header; the CRC is checkRound's.
func parseRoundHeader(b []byte) (h roundHeader, ok bool) {
	if len(b) < roundHeaderLen || string(b[:4]) != roundMagic {
		return h, false
	}
	length, entries := binary.BigEndian.Uint32(b[32:]), binary.BigEndian.Uint32(b[36:])
	h = roundHeader{id: journalID(b[8:24]), number: int64(binary.BigEndian.Uint64(b[24:])), length: int(length), entries: int(entries)}
	return h, length <= maxRoundLen && entries > 0 && h.number > 0
}

// checkRound compares the CRC of a round, header and entries, and returns the entries.
func checkRound(h roundHeader, b []byte) (entries []byte, ok bool) {
	n := roundHeaderLen + h.length
	if len(b) < n || binary.BigEndian.Uint32(b[4:]) != record.CRC(b[8:n]) {
		return nil, false
	}
	return b[roundHeaderLen:n], true
}

// parseEntry reads the entry at the start of b and tells its length.
func parseEntry(b []byte) (e journalEntry, size int, err error) {
	e, size, err = parseEntryHead(b)
	if err == nil && size > len(b) {
		err = fmt.Errorf("%w: entry of %d bytes, %d are left", errBadFile, size, len(b))
	}
	return e, size, err
}

// parseEntryHead reads what comes before the batches, and tells the length with them.
func parseEntryHead(b []byte) (e journalEntry, size int, err error) {
	if len(b) < resetEntryLen {
		return e, 0, fmt.Errorf("%w: entry of %d bytes", errBadFile, len(b))
	}
	e.key = protocol.PartitionKey{Topic: protocol.TopicID(b[1:17]), Partition: int32(binary.BigEndian.Uint32(b[17:]))}
	e.from = protocol.Offset(binary.BigEndian.Uint64(b[21:]))
	switch {
	case e.key.Partition < 0 || e.from < 0:
		err = fmt.Errorf("%w: entry of partition %d from offset %d", errBadFile, e.key.Partition, e.from)
	case b[0] == resetEntry:
		e.reset, e.to, e.epoch = true, e.from, protocol.Epoch(int32(binary.BigEndian.Uint32(b[29:])))
		size = resetEntryLen
	case b[0] != batchesEntry || len(b) < batchesEntryLen:
		err = fmt.Errorf("%w: entry of kind %d, %d bytes are left", errBadFile, b[0], len(b))
	default:
		e.to = protocol.Offset(binary.BigEndian.Uint64(b[29:]))
		e.batches = int(binary.BigEndian.Uint32(b[37:]))
		size = batchesEntryLen + e.batches
		if e.to <= e.from || e.batches == 0 || e.batches > maxRoundLen {
			err = fmt.Errorf("%w: entry [%d, %d) of %d bytes", errBadFile, e.from, e.to, e.batches)
		}
	}
	return e, size, err
}

// eachEntry calls do for each entry with its place in b.
func eachEntry(h roundHeader, b []byte, do func(e journalEntry, at int) error) error {
	at := 0
	for range h.entries {
		e, size, err := parseEntry(b[at:])
		if err != nil {
			return err
		}
		if err := do(e, at); err != nil {
			return err
		}
		at += size
	}
	if at != len(b) {
		return fmt.Errorf("%w: %d bytes after the last entry", errBadFile, len(b)-at)
	}
	return nil
}
