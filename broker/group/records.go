package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

// Versions of the records, as Kafka 4.x writes them. The formats are Kafka's
// (GroupMetadataKey/Value, OffsetCommitKey/Value), each led by its version as
// int16; CRC and framing are those of the record batch.
const (
	offsetKeyVersion     = 1 // 0 is the same
	groupKeyVersion      = 2
	groupValueVersion    = 3
	offsetValueVersion   = 4 // the first with a topic id
	offsetExpiresVersion = 1 // the only one with an expiry of its own
)

// maxString bounds the strings that come from clients and go into records, where
// they have a length of 15 bits; a compact string on the wire may be longer. It
// leaves room for the UUID in a member id.
const maxString = 1<<15 - 64

// Errors of Replay. The shard is as it was before the record.
var (
	ErrUnknownRecord = errors.New("record of an unknown version or kind, written by newer software")
	ErrCorruptRecord = errors.New("record is corrupt")
)

// committed is what a group committed for a partition.
type committed struct {
	offset      int64
	leaderEpoch int32 // -1 where not said
	metadata    string
	commitMs    int64
	expireMs    int64            // -1: by offsets.retention.minutes
	topic       protocol.TopicID // zero where the record does not say
}

func offsetKey(group, topic string, partition int32) []byte {
	k := kmsg.OffsetCommitKey{Version: offsetKeyVersion, Group: group, Topic: topic, Partition: partition}
	return k.AppendTo(nil)
}

func offsetRecord(group, topic string, partition int32, c committed) Record {
	v := kmsg.OffsetCommitValue{
		Version: offsetValueVersion, Offset: c.offset, LeaderEpoch: c.leaderEpoch,
		Metadata: c.metadata, CommitTimestamp: c.commitMs, TopicID: c.topic,
	}
	if c.expireMs >= 0 {
		v.Version, v.ExpireTimestamp = offsetExpiresVersion, c.expireMs
	}
	return Record{Key: offsetKey(group, topic, partition), Value: v.AppendTo(nil)}
}

func groupKey(id string) []byte {
	k := kmsg.GroupMetadataKey{Version: groupKeyVersion, Group: id}
	return k.AppendTo(nil)
}

// metadataRecord is the group as it now is, with the time at which it entered its state.
func metadataRecord(g *group, since protocol.Timestamp) Record {
	v := kmsg.GroupMetadataValue{
		Version: groupValueVersion, ProtocolType: g.protocolType, Generation: g.generation,
		Protocol: g.protocol, CurrentStateTimestamp: int64(since),
	}
	if g.leader != "" {
		v.Leader = &g.leader
	}
	for _, m := range g.members {
		meta, _ := m.metadata(*g.protocol)
		v.Members = append(v.Members, kmsg.GroupMetadataValueMember{
			MemberID: m.id, InstanceID: m.instance, ClientID: m.client.ID, ClientHost: m.client.Host,
			RebalanceTimeoutMillis: int32(m.rebalanceTimeout.Milliseconds()),
			SessionTimeoutMillis:   int32(m.sessionTimeout.Milliseconds()),
			Subscription:           meta, Assignment: m.assignment,
		})
	}
	return Record{Key: groupKey(g.id), Value: v.AppendTo(nil)}
}

// Replay applies one record read from the partition; r may be reused afterwards.
// Errors wrap ErrUnknownRecord or ErrCorruptRecord; the shard is then as before.
func (s *Shard) Replay(r Record) error {
	version, err := recordVersion(r.Key)
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	switch version {
	case 0, offsetKeyVersion:
		var k kmsg.OffsetCommitKey
		if err := k.ReadFrom(r.Key); err != nil {
			return fmt.Errorf("%w: key of an offset commit: %w", ErrCorruptRecord, err)
		}
		return s.replayOffset(k, r.Value)
	case groupKeyVersion:
		var k kmsg.GroupMetadataKey
		if err := k.ReadFrom(r.Key); err != nil {
			return fmt.Errorf("%w: key of group metadata: %w", ErrCorruptRecord, err)
		}
		if err := s.replayGroup(k.Group, r.Value); err != nil {
			return fmt.Errorf("group %q: %w", k.Group, err)
		}
		return nil
	}
	return fmt.Errorf("key version %d: %w", version, ErrUnknownRecord)
}

func recordVersion(b []byte) (int16, error) {
	if len(b) < 2 {
		return 0, fmt.Errorf("%w: %d bytes", ErrCorruptRecord, len(b))
	}
	v := int16(binary.BigEndian.Uint16(b))
	if v < 0 {
		return 0, fmt.Errorf("%w: version %d", ErrCorruptRecord, v)
	}
	return v, nil
}

func (s *Shard) replayOffset(k kmsg.OffsetCommitKey, value []byte) error {
	g := s.groups[k.Group]
	if value == nil {
		if g != nil {
			s.forgetOffset(g, k.Topic, k.Partition)
			s.forgetIfUnused(g)
		}
		return nil
	}
	c, err := decodeCommitted(value)
	if err != nil {
		return fmt.Errorf("offset of group %q, %s-%d: %w", k.Group, k.Topic, k.Partition, err)
	}
	if g == nil {
		g = newGroup(k.Group)
		s.enlist(g)
	}
	s.setOffset(g, k.Topic, k.Partition, c)
	return nil
}

// replayGroup puts what a record says of the membership in place of what was known.
func (s *Shard) replayGroup(id string, value []byte) error {
	old := s.groups[id]
	if value == nil {
		if old == nil {
			return nil
		}
		bare := newGroup(id)
		bare.offsets = old.offsets
		s.put(old, bare)
		s.forgetIfUnused(bare)
		return nil
	}
	version, err := recordVersion(value)
	if err != nil {
		return fmt.Errorf("value: %w", err)
	}
	if version > groupValueVersion {
		return fmt.Errorf("value version %d: %w", version, ErrUnknownRecord)
	}
	var v kmsg.GroupMetadataValue
	if err := v.ReadFrom(value); err != nil {
		return fmt.Errorf("%w: %w", ErrCorruptRecord, err)
	}
	g, err := groupOf(id, &v)
	if err != nil {
		return err
	}
	if old != nil {
		g.offsets = old.offsets
	}
	s.put(old, g)
	return nil
}

// put replaces a group while loading.
func (s *Shard) put(old, g *group) {
	if old != nil {
		for _, m := range old.members {
			s.charge(-m.weight)
		}
		s.charge(-old.topicsWeight)
	}
	for _, m := range g.members {
		s.weigh(m)
	}
	s.enlist(g)
	s.weighTopics(g)
}

// groupOf makes the group that a record describes: with members it is stable, else empty.
func groupOf(id string, v *kmsg.GroupMetadataValue) (*group, error) {
	g := newGroup(id)
	g.written = true
	g.generation, g.protocolType = v.Generation, v.ProtocolType
	if v.CurrentStateTimestamp >= 0 && v.Version >= 2 {
		g.since = protocol.Timestamp(v.CurrentStateTimestamp)
	}
	if len(v.Members) == 0 {
		g.resubscribe()
		return g, nil
	}
	if v.Protocol == nil {
		return nil, fmt.Errorf("%w: %d members and no protocol", ErrCorruptRecord, len(v.Members))
	}
	g.protocol, g.state = v.Protocol, stable
	for i := range v.Members {
		m := memberOf(&v.Members[i], *v.Protocol)
		if g.byID[m.id] != nil || m.instance != nil && g.static[*m.instance] != nil {
			return nil, fmt.Errorf("%w: member %q twice", ErrCorruptRecord, m.id)
		}
		g.add(m)
	}
	if v.Leader != nil && g.byID[*v.Leader] != nil {
		g.leader = *v.Leader
	}
	g.resubscribe()
	return g, nil
}

func memberOf(v *kmsg.GroupMetadataValueMember, protocolName string) *member {
	m := &member{
		id: v.MemberID, instance: v.InstanceID, client: Client{ID: v.ClientID, Host: v.ClientHost},
		sessionTimeout:   time.Duration(v.SessionTimeoutMillis) * time.Millisecond,
		rebalanceTimeout: time.Duration(v.RebalanceTimeoutMillis) * time.Millisecond,
		assignors:        []assignor{{protocolName, append([]byte{}, v.Subscription...)}},
		assignment:       append([]byte{}, v.Assignment...),
	}
	if v.RebalanceTimeoutMillis < 0 {
		m.rebalanceTimeout = m.sessionTimeout
	}
	return m
}

// decodeCommitted reads an OffsetCommitValue. By hand: kmsg believes a tag count
// whatever the bytes left, and spins on a corrupt one.
func decodeCommitted(b []byte) (committed, error) {
	version, err := recordVersion(b)
	if err != nil {
		return committed{}, fmt.Errorf("value: %w", err)
	}
	if version > offsetValueVersion {
		return committed{}, fmt.Errorf("value version %d: %w", version, ErrUnknownRecord)
	}
	r := reader{b: b[2:]}
	c := committed{leaderEpoch: -1, expireMs: -1}
	c.offset = int64(r.uint(8))
	if version >= 3 {
		c.leaderEpoch = int32(r.uint(4))
	}
	if version >= offsetValueVersion {
		c.metadata = string(r.take(r.uvarint() - 1)) // compact string: length + 1
	} else {
		c.metadata = string(r.take(int64(int16(r.uint(2)))))
	}
	c.commitMs = int64(r.uint(8))
	if version == offsetExpiresVersion {
		c.expireMs = int64(r.uint(8))
	}
	if version >= offsetValueVersion {
		for n := r.uvarint(); n > 0 && !r.failed; n-- {
			tag := r.uvarint()
			field := r.take(r.uvarint())
			if tag == 0 && len(field) == len(c.topic) {
				c.topic = protocol.TopicID(field)
			}
		}
	}
	if r.failed || len(r.b) > 0 {
		return committed{}, fmt.Errorf("%w: %d bytes of version %d", ErrCorruptRecord, len(b), version)
	}
	return c, nil
}

// reader takes fields off b; after a failure it gives zeros.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) take(n int64) []byte {
	if n < 0 || n > int64(len(r.b)) {
		r.failed, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) uint(n int64) uint64 {
	var v uint64
	for _, c := range r.take(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

func (r *reader) uvarint() int64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > 1<<32 {
		r.failed, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return int64(v)
}
