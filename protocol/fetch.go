package protocol

import "encoding/binary"

// FetchResponse is what a Fetch answers, without the records themselves.
type FetchResponse struct {
	ThrottleMs int32
	ErrorCode  int16 // version 7 and later
	SessionID  int32 // version 7 and later
	Topics     []FetchTopic
	// NodeEndpoints names the leaders given in CurrentLeader (KIP-951); it is
	// sent from version 16 on.
	NodeEndpoints []NodeEndpoint
}

// FetchTopic names its topic by Name up to version 12, by ID from 13 on.
type FetchTopic struct {
	Name       string
	ID         TopicID
	Partitions []FetchPartition
}

// FetchPartition is the answer for one partition.
type FetchPartition struct {
	Index         int32
	ErrorCode     int16
	HighWatermark Offset
	LastStable    Offset
	LogStart      Offset // version 5 and later
	// Aborted is sent as null when nil (read_uncommitted); only Producer and First are sent.
	Aborted []AbortedTxn
	// PreferredReplica is NoBroker for none (KIP-392); version 11 and later.
	PreferredReplica BrokerID
	// Diverging, Leader and Snapshot are left out when nil; version 12 and later.
	Diverging *EpochEnd
	Leader    *LeaderEpoch
	Snapshot  *EpochEnd
	// RecordsLen is how many bytes of record batches follow; they are not part
	// of what Encode returns.
	RecordsLen int
}

// EpochEnd is a leader epoch and the offset at which it ends.
type EpochEnd struct {
	Epoch Epoch
	End   Offset
}

// LeaderEpoch is who leads a partition, and since which epoch.
type LeaderEpoch struct {
	Leader BrokerID
	Epoch  Epoch
}

// NodeEndpoint is where a broker is reached.
type NodeEndpoint struct {
	ID   BrokerID
	Host string
	Port int32
	Rack *string
}

// FetchPart is a run of encoded bytes and the place of the records that follow
// it: those of Topics[Topic].Partitions[Partition], RecordsLen bytes of them.
// The last part has no records after it: its Topic and Partition are -1.
type FetchPart struct {
	Bytes            []byte
	Topic, Partition int
}

// Encode gives the response body of a served version (4 to 18) as parts, so
// that records go from the log to the socket without passing here. Partitions
// without records make no part of their own. All parts share one buffer.
func (f *FetchResponse) Encode(version int16) []FetchPart {
	e := fetchEncoder{version: version, flexible: version >= 12, out: make([]byte, 0, f.sizeHint())}
	e.response(f)
	return e.finish()
}

// Len is the length of the whole body that Encode and the records make up.
func (f *FetchResponse) Len(parts []FetchPart) int {
	n := 0
	for _, p := range parts {
		n += len(p.Bytes)
		if p.Partition >= 0 {
			n += f.Topics[p.Topic].Partitions[p.Partition].RecordsLen
		}
	}
	return n
}

func (f *FetchResponse) sizeHint() int {
	n := 32 + 64*len(f.NodeEndpoints)
	for i := range f.Topics {
		n += 24 + len(f.Topics[i].Name) + 64*len(f.Topics[i].Partitions)
	}
	return n
}

type fetchEncoder struct {
	version  int16
	flexible bool
	out      []byte
	holes    []hole
}

// hole is where records go: before out[at].
type hole struct{ at, topic, partition int }

func (e *fetchEncoder) finish() []FetchPart {
	parts := make([]FetchPart, 0, len(e.holes)+1)
	from := 0
	for _, h := range e.holes {
		parts = append(parts, FetchPart{Bytes: e.out[from:h.at:h.at], Topic: h.topic, Partition: h.partition})
		from = h.at
	}
	return append(parts, FetchPart{Bytes: e.out[from:], Topic: -1, Partition: -1})
}

func (e *fetchEncoder) response(f *FetchResponse) {
	e.int32(f.ThrottleMs)
	if e.version >= 7 {
		e.int16(f.ErrorCode)
		e.int32(f.SessionID)
	}
	e.length(len(f.Topics))
	for i := range f.Topics {
		t := &f.Topics[i]
		if e.version >= 13 {
			e.out = append(e.out, t.ID[:]...)
		} else {
			e.string(t.Name)
		}
		e.length(len(t.Partitions))
		for j := range t.Partitions {
			e.partition(&t.Partitions[j], i, j)
		}
		e.noTags()
	}
	if !e.flexible {
		return
	}
	if e.version < 16 || len(f.NodeEndpoints) == 0 {
		e.noTags()
		return
	}
	e.out = append(e.out, 1)
	e.tag(0, func() { e.endpoints(f.NodeEndpoints) })
}

func (e *fetchEncoder) partition(p *FetchPartition, topic, index int) {
	e.int32(p.Index)
	e.int16(p.ErrorCode)
	e.int64(int64(p.HighWatermark))
	e.int64(int64(p.LastStable))
	if e.version >= 5 {
		e.int64(int64(p.LogStart))
	}
	if p.Aborted == nil {
		e.length(-1)
	} else {
		e.length(len(p.Aborted))
	}
	for i := range p.Aborted {
		e.int64(int64(p.Aborted[i].Producer))
		e.int64(int64(p.Aborted[i].First))
		e.noTags()
	}
	if e.version >= 11 {
		e.int32(int32(p.PreferredReplica))
	}
	e.length(p.RecordsLen)
	if p.RecordsLen > 0 {
		e.holes = append(e.holes, hole{at: len(e.out), topic: topic, partition: index})
	}
	if e.flexible {
		e.partitionTags(p)
	}
}

func (e *fetchEncoder) partitionTags(p *FetchPartition) {
	count := byte(0)
	for _, set := range [...]bool{p.Diverging != nil, p.Leader != nil, p.Snapshot != nil} {
		if set {
			count++
		}
	}
	e.out = append(e.out, count)
	if d := p.Diverging; d != nil {
		e.tag(0, func() { e.int32(int32(d.Epoch)); e.int64(int64(d.End)); e.noTags() })
	}
	if l := p.Leader; l != nil {
		e.tag(1, func() { e.int32(int32(l.Leader)); e.int32(int32(l.Epoch)); e.noTags() })
	}
	if s := p.Snapshot; s != nil {
		e.tag(2, func() { e.int64(int64(s.End)); e.int32(int32(s.Epoch)); e.noTags() })
	}
}

func (e *fetchEncoder) endpoints(all []NodeEndpoint) {
	e.length(len(all))
	for i := range all {
		n := &all[i]
		e.int32(int32(n.ID))
		e.string(n.Host)
		e.int32(n.Port)
		if n.Rack == nil {
			e.out = append(e.out, 0)
		} else {
			e.string(*n.Rack)
		}
		e.noTags()
	}
}

// tag appends one tagged field: its number, its size, and what body appends.
func (e *fetchEncoder) tag(number byte, body func()) {
	e.out = append(e.out, number)
	at := len(e.out)
	body()
	field := append([]byte(nil), e.out[at:]...)
	e.out = binary.AppendUvarint(e.out[:at], uint64(len(field)))
	e.out = append(e.out, field...)
}

func (e *fetchEncoder) noTags() {
	if e.flexible {
		e.out = append(e.out, 0)
	}
}

func (e *fetchEncoder) int16(v int16) { e.out = binary.BigEndian.AppendUint16(e.out, uint16(v)) }
func (e *fetchEncoder) int32(v int32) { e.out = binary.BigEndian.AppendUint32(e.out, uint32(v)) }
func (e *fetchEncoder) int64(v int64) { e.out = binary.BigEndian.AppendUint64(e.out, uint64(v)) }

// length appends the length of an array or byte string; -1 is null.
func (e *fetchEncoder) length(n int) {
	if e.flexible {
		e.out = binary.AppendUvarint(e.out, uint64(n+1))
		return
	}
	e.int32(int32(n))
}

func (e *fetchEncoder) string(s string) {
	if e.flexible {
		e.out = binary.AppendUvarint(e.out, uint64(len(s)+1))
	} else {
		e.int16(int16(len(s)))
	}
	e.out = append(e.out, s...)
}
