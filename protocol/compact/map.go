package compact

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"github.com/stratabroker/strata/protocol"
)

const (
	hashLen  = 16
	slotLen  = hashLen + 8 // bytes of memory for one key
	minShard = 1 << 10     // slots
	shards   = 64
)

// slot holds one key. Its offset is stored one higher, so that 0 means empty.
type slot struct {
	hash [hashLen]byte
	at   int64
}

// Map holds the latest offset of each key within a fixed memory: a 16-byte
// cryptographic hash and the offset, open addressing. Keys are chosen by clients: the
// hash is salted, so that nobody can choose keys that collide, or that crowd one place.
// It grows as it fills, so that a small log takes little. It is not safe for concurrent use.
type Map struct {
	salted []byte // the salt, and behind it room for a key
	parts  []shard
	limit  int // keys a shard may hold
	size   int // slots of a shard at its limit
	count  int
}

// shard is a part of the table that grows by itself: so the memory taken while
// it grows is a small part of the whole.
type shard struct {
	slots []slot
	count int
}

// NewMap makes a map of at most budget bytes, filled up to the part load of it
// (log.cleaner.io.buffer.load.factor; above 0, at most 0.99). It has room for one key at least. The
// salt should be random: the caller draws it, anew for each map.
func NewMap(budget int64, load float64, salt [hashLen]byte) *Map {
	m := &Map{salted: salt[:]}
	slots := int(max(2, budget/slotLen))
	n := 1
	for n < shards && slots/(2*n) >= minShard {
		n *= 2
	}
	m.parts = make([]shard, n)
	m.size = slots / n
	// One slot stays empty, so that a search ends.
	m.limit = max(1, min(m.size-1, int(float64(m.size)*load)))
	return m
}

// Len is the number of keys.
func (m *Map) Len() int { return m.count }

// Used is the share of its room that is taken.
func (m *Map) Used() float64 { return float64(m.count) / float64(m.limit*len(m.parts)) }

// Put notes that the key was last seen at an offset, which must not be below
// those of earlier calls for the same key. false: there is no room for another key, nothing was changed.
func (m *Map) Put(key []byte, at protocol.Offset) bool {
	h := m.hash(key)
	part, place := m.find(&h)
	if s := &part.slots[place]; s.at != 0 {
		s.at = int64(at) + 1
		return true
	}
	if part.count >= m.limit {
		return false
	}
	part.slots[place] = slot{hash: h, at: int64(at) + 1}
	part.count++
	m.count++
	if part.count*4 > len(part.slots)*3 && len(part.slots) < m.size {
		part.grow(min(m.size, 2*len(part.slots)))
	}
	return true
}

// Get returns the latest offset of a key.
func (m *Map) Get(key []byte) (protocol.Offset, bool) {
	if m.count == 0 {
		return 0, false
	}
	h := m.hash(key)
	part, place := m.find(&h)
	at := part.slots[place].at
	return protocol.Offset(at - 1), at != 0
}

func (m *Map) hash(key []byte) [hashLen]byte {
	m.salted = append(m.salted[:hashLen], key...)
	sum := sha256.Sum256(m.salted)
	return [hashLen]byte(sum[:hashLen])
}

// find gives the shard and the slot that holds the hash, or where it belongs.
func (m *Map) find(h *[hashLen]byte) (*shard, int) {
	part := &m.parts[int(h[hashLen-1])%len(m.parts)]
	if part.slots == nil {
		part.slots = make([]slot, min(m.size, minShard/4))
	}
	return part, part.find(h)
}

func (s *shard) find(h *[hashLen]byte) int {
	high, _ := bits.Mul64(binary.BigEndian.Uint64(h[:]), uint64(len(s.slots)))
	at := int(high)
	for s.slots[at].at != 0 && s.slots[at].hash != *h {
		if at++; at == len(s.slots) {
			at = 0
		}
	}
	return at
}

func (s *shard) grow(size int) {
	old := s.slots
	s.slots = make([]slot, size)
	for i := range old {
		if old[i].at != 0 {
			s.slots[s.find(&old[i].hash)] = old[i]
		}
	}
}
