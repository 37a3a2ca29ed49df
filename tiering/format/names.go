package format

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// Fixed keys and prefixes, relative to the bucket's prefix.
const (
	ClusterKey    = "cluster.json"
	OwnerKey      = "OWNER"
	DataPrefix    = "data/"
	RootPrefix    = "root/"
	TailPrefix    = "tail/"
	RescuedPrefix = "rescued/"
)

const (
	segmentSuffix = ".seg"
	pageSuffix    = ".page"
	manifestDir   = "manifest/"
)

// Kind is what an object is, told by its key.
type Kind uint8

// The kinds of objects. Foreign is what strata did not write.
const (
	Foreign Kind = iota
	SegmentObject
	ManifestObject
	RootObject
	ClusterObject
	OwnerObject
	TailObject
	RescuedObject
)

// String names the kind in lower case.
func (k Kind) String() string {
	names := [...]string{"foreign", "segment", "manifest", "root", "cluster", "owner", "tail", "rescued"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// Name is a parsed key. Which fields are set depends on Kind: a segment object
// has Key, Base, End, Epoch, Attempt, Rand; a manifest object Key, Version,
// Attempt, Rand; a root Generation, Seq, Rand; the others none.
type Name struct {
	Kind       Kind
	Key        protocol.PartitionKey
	Base, End  protocol.Offset
	Epoch      protocol.Epoch
	Version    uint64
	Generation uint64
	Seq        uint64
	Attempt    metadata.Attempt
	Rand       uint64
}

// PartitionPrefix is where all objects of a partition lie:
// "data/<hh>/<topic id in hex>/<partition>/". <hh> is the first byte of the SHA-256
// of topic id and partition; it spreads request load over the store's prefixes.
func PartitionPrefix(k protocol.PartitionKey) string {
	id := binary.BigEndian.AppendUint32(k.Topic[:len(k.Topic):len(k.Topic)], uint32(k.Partition))
	sum := sha256.Sum256(id)
	return fmt.Sprintf("%s%02x/%s/%010d/", DataPrefix, sum[0], k.Topic.Hex(), k.Partition)
}

// SegmentKey names the segment object that holds [base, end), uploaded by the
// leader of epoch in attempt a. rand is fresh for each try, so that no key is ever written twice.
func SegmentKey(k protocol.PartitionKey, base, end protocol.Offset, epoch protocol.Epoch, a metadata.Attempt, rand uint64) string {
	return segmentName(PartitionPrefix(k), base, end, epoch, a, rand)
}

// ManifestKey names the object of one manifest version.
func ManifestKey(k protocol.PartitionKey, version uint64, a metadata.Attempt, rand uint64) string {
	return manifestName(PartitionPrefix(k), version, a, rand)
}

func segmentName(prefix string, base, end protocol.Offset, epoch protocol.Epoch, a metadata.Attempt, rand uint64) string {
	return fmt.Sprintf("%s%020d-%020d-%010d-%s-%016x%s", prefix, base, end, epoch, attemptName(a), rand, segmentSuffix)
}

func manifestName(prefix string, version uint64, a metadata.Attempt, rand uint64) string {
	return fmt.Sprintf("%s%s%020d-%s-%016x%s", prefix, manifestDir, version, attemptName(a), rand, pageSuffix)
}

// RootKey names a root object.
func RootKey(generation, seq, rand uint64) string {
	return fmt.Sprintf("%s%020d/%020d-%016x%s", RootPrefix, generation, seq, rand, pageSuffix)
}

// RootGenerationPrefix is where the roots of one generation lie, in the order of their seq.
func RootGenerationPrefix(generation uint64) string {
	return fmt.Sprintf("%s%020d/", RootPrefix, generation)
}

func attemptName(a metadata.Attempt) string { return fmt.Sprintf("%020d.%020d", a.Generation, a.Index) }

// ParseKey reads any key of a bucket. It is total: what is not in the one form
// that strata writes (padding included) gives Foreign and ErrForeign. Keys under
// tail/ and rescued/ are told by their prefix alone.
func ParseKey(key string) (Name, error) {
	switch {
	case key == ClusterKey:
		return Name{Kind: ClusterObject}, nil
	case key == OwnerKey:
		return Name{Kind: OwnerObject}, nil
	case strings.HasPrefix(key, TailPrefix):
		return Name{Kind: TailObject}, nil
	case strings.HasPrefix(key, RescuedPrefix):
		return Name{Kind: RescuedObject}, nil
	}
	n, again := parseNumbered(key)
	if again == "" || again != key {
		return Name{}, fmt.Errorf("%w: %q", ErrForeign, key)
	}
	return n, nil
}

// parseNumbered reads the numbers out of a key and writes the key that they
// make; only where the two agree was the key one of ours.
func parseNumbered(key string) (n Name, again string) {
	parts := strings.Split(key, "/")
	p := numberParser{ok: true}
	switch {
	case len(parts) == 3 && parts[0]+"/" == RootPrefix:
		n.Kind, n.Generation = RootObject, p.number(parts[1])
		f := p.fields(parts[2], pageSuffix, 2)
		n.Seq, n.Rand = p.number(f[0]), p.hex(f[1])
		again = RootKey(n.Generation, n.Seq, n.Rand)
	case len(parts) == 5 && parts[0]+"/" == DataPrefix:
		n.Kind, n.Key = SegmentObject, p.partition(parts[2], parts[3])
		f := p.fields(parts[4], segmentSuffix, 5)
		n.Base, n.End = protocol.Offset(p.number(f[0])), protocol.Offset(p.number(f[1]))
		n.Epoch, n.Attempt, n.Rand = protocol.Epoch(p.number(f[2])), p.attempt(f[3]), p.hex(f[4])
		p.ok = p.ok && 0 <= n.Base && n.Base < n.End && n.Epoch >= 0
		again = SegmentKey(n.Key, n.Base, n.End, n.Epoch, n.Attempt, n.Rand)
	case len(parts) == 6 && parts[0]+"/" == DataPrefix && parts[4]+"/" == manifestDir:
		n.Kind, n.Key = ManifestObject, p.partition(parts[2], parts[3])
		f := p.fields(parts[5], pageSuffix, 3)
		n.Version, n.Attempt, n.Rand = p.number(f[0]), p.attempt(f[1]), p.hex(f[2])
		again = ManifestKey(n.Key, n.Version, n.Attempt, n.Rand)
	}
	if !p.ok {
		return Name{}, ""
	}
	return n, again
}

// numberParser remembers whether all it read was a number. Padding is checked
// by writing the key again.
type numberParser struct{ ok bool }

func (p *numberParser) fields(s, suffix string, want int) []string {
	s, found := strings.CutSuffix(s, suffix)
	f := strings.Split(s, "-")
	if !found || len(f) != want {
		p.ok = false
		return make([]string, want)
	}
	return f
}

func (p *numberParser) number(s string) uint64 { return p.parse(s, 10) }
func (p *numberParser) hex(s string) uint64    { return p.parse(s, 16) }

func (p *numberParser) parse(s string, radix int) uint64 {
	v, err := strconv.ParseUint(s, radix, 64)
	p.ok = p.ok && err == nil
	return v
}

func (p *numberParser) attempt(s string) metadata.Attempt {
	generation, index, found := strings.Cut(s, ".")
	p.ok = p.ok && found
	return metadata.Attempt{Generation: p.number(generation), Index: p.number(index)}
}

func (p *numberParser) partition(topic, number string) protocol.PartitionKey {
	id, err := protocol.ParseTopicIDHex(topic)
	n := p.number(number)
	p.ok = p.ok && err == nil && n <= 1<<31-1
	return protocol.PartitionKey{Topic: id, Partition: int32(n)}
}
