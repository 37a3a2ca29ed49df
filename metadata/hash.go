package metadata

import (
	"crypto/sha256"
	"encoding/binary"
	"io"

	"github.com/stratabroker/strata/protocol"
)

// Hash digests the image, its index included. Two brokers at one index must
// have one hash: where they have not, one of them applied something else. It
// reads every row and does not depend on how protobuf writes them.
func (i *Image) Hash() [32]byte {
	h := hasher{hash: sha256.New()}
	h.num(i.index, uint64(i.version), uint64(i.nextProducerID))
	h.text(i.clusterID)
	h.num(uint64(i.brokers.Len()))
	for b := range i.Brokers() {
		h.broker(b)
	}
	h.num(uint64(i.topics.Len()))
	i.topics.Scan(func(t Topic) bool {
		h.bytes(t.ID[:])
		h.text(t.Name)
		h.num(uint64(t.Partitions), uint64(t.CreatedMs))
		return true
	})
	h.num(uint64(i.partitions.Len()))
	for p := range i.AllPartitions() {
		h.partition(p)
	}
	h.num(uint64(i.configs.Len()))
	i.configs.Scan(func(c configRow) bool {
		h.num(uint64(c.Resource.Type))
		h.text(c.Resource.Name)
		h.text(c.Name)
		h.text(c.Value)
		return true
	})
	h.text(i.bucket.URL)
	h.num(i.bucket.Generation, uint64(i.bucket.FloorAtMs), uint64(len(i.bucket.Roots)))
	h.attempt(i.bucket.Floor)
	for _, r := range i.bucket.Roots {
		h.num(r.Seq, uint64(r.AtMs))
		h.place(r.Place)
		h.attempt(r.Cut)
	}
	return h.sum()
}

// hasher feeds fields with fixed width or a length before them, so that no two
// images give the same bytes.
type hasher struct {
	hash interface {
		io.Writer
		Sum(b []byte) []byte
	}
	buf []byte
}

func (h *hasher) num(vs ...uint64) {
	for _, v := range vs {
		h.buf = binary.BigEndian.AppendUint64(h.buf, v)
	}
	h.flush(4096)
}

func (h *hasher) bytes(b []byte) {
	h.buf = append(h.buf, b...)
}

func (h *hasher) text(s string) {
	h.num(uint64(len(s)))
	h.buf = append(h.buf, s...)
}

func (h *hasher) flush(above int) {
	if len(h.buf) > above {
		_, _ = h.hash.Write(h.buf) // a hash never fails
		h.buf = h.buf[:0]
	}
}

func (h *hasher) sum() (out [32]byte) {
	h.flush(0)
	h.hash.Sum(out[:0])
	return out
}

func (h *hasher) ids(ids []protocol.BrokerID) {
	h.num(uint64(len(ids)))
	for _, id := range ids {
		h.num(uint64(id))
	}
}

func (h *hasher) directories(dirs []DirectoryID) {
	h.num(uint64(len(dirs)))
	for _, d := range dirs {
		h.bytes(d[:])
	}
}

func (h *hasher) place(p PagePlace) {
	h.text(p.Key)
	h.num(p.Offset, uint64(p.Length), uint64(p.CRC))
}

func (h *hasher) attempt(a Attempt) { h.num(a.Generation, a.Index) }

func (h *hasher) broker(b Broker) {
	fenced := uint64(0)
	if b.Fenced {
		fenced = 1
	}
	h.num(uint64(b.ID), uint64(b.Epoch), fenced, uint64(b.MinVersion), uint64(b.MaxVersion))
	h.bytes(b.Incarnation[:])
	h.directories(b.Directories)
	h.text(b.Rack)
	h.num(uint64(len(b.Listeners)))
	for _, l := range b.Listeners {
		h.text(l.Name)
		h.text(l.Protocol)
		h.text(l.Host)
		h.num(uint64(l.Port))
	}
}

func (h *hasher) partition(p Partition) {
	h.bytes(p.Key.Topic[:])
	h.num(uint64(p.Key.Partition))
	h.ids(p.Replicas)
	h.directories(p.Directories)
	h.ids(p.ISR)
	h.ids(p.ELR)
	h.num(uint64(p.Leader), uint64(p.LeaderEpoch), uint64(p.PartitionEpoch), uint64(p.LogStart))
	h.num(p.Manifest.Version, uint64(p.Manifest.TieredEnd), p.Manifest.Bytes, p.Manifest.Segments)
	h.place(p.Manifest.Root)
	h.attempt(p.Manifest.Attempt)
}
