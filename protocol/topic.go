package protocol

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// TopicID is a topic's identity for life: a topic made anew under an old name
// has another one (KIP-516).
type TopicID [16]byte

// String gives the form that Kafka's tools print: URL-safe base64 without padding.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// Hex gives the form used in object names: 32 lower-case hex digits, free of
// characters that a store or shell might treat specially.
func (id TopicID) Hex() string { return hex.EncodeToString(id[:]) }

// IsZero tells whether the id is absent.
func (id TopicID) IsZero() bool { return id == TopicID{} }

// ParseTopicID reads what String printed.
func ParseTopicID(s string) (TopicID, error) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(raw) != 16 {
		return TopicID{}, fmt.Errorf("topic id %q: want 22 characters of URL-safe base64", s)
	}
	return TopicID(raw), nil
}

// ParseTopicIDHex reads what Hex printed.
func ParseTopicIDHex(s string) (TopicID, error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != 16 {
		return TopicID{}, fmt.Errorf("topic id %q: want 32 hex digits", s)
	}
	return TopicID(raw), nil
}

// PartitionKey names a partition by its topic's identity.
type PartitionKey struct {
	Topic     TopicID
	Partition int32
}

// String gives "<topic id>-<partition>".
func (k PartitionKey) String() string { return fmt.Sprintf("%s-%d", k.Topic, k.Partition) }
