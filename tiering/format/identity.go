package format

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// MaxIdentityBytes bounds cluster.json and OWNER: what is longer is not read.
const MaxIdentityBytes = 64 << 10

// Cluster is cluster.json: which cluster this bucket belongs to and which
// format its objects have. It is written once (PutIf, must not exist).
type Cluster struct {
	FormatVersion int                `json:"format_version"` // 0 is encoded as FormatVersion
	ClusterID     string             `json:"cluster_id"`
	CreatedMs     protocol.Timestamp `json:"created_ms"`
}

// Owner is OWNER: which generation of which cluster may write the bucket (D21).
// It is changed only by PutIf.
type Owner struct {
	Generation uint64             `json:"generation"`
	ClusterID  string             `json:"cluster_id"`
	Region     string             `json:"region"`
	SinceMs    protocol.Timestamp `json:"since_ms"`
	// Holder tells two restores apart that want the same generation: what a restore
	// wrote into its data folder before. "" for a cluster that was founded on the bucket.
	Holder string `json:"holder,omitempty"`
}

// The objects hold one line of JSON: the struct's fields, the format version,
// and a CRC32C of 8 hex digits over the line as it is with an empty crc32c.
type (
	clusterJSON struct {
		Cluster
		CRC string `json:"crc32c"`
	}
	ownerJSON struct {
		FormatVersion int `json:"format_version"`
		Owner
		CRC string `json:"crc32c"`
	}
)

// Encode gives the object's bytes.
func (c Cluster) Encode() []byte {
	if c.FormatVersion == 0 {
		c.FormatVersion = FormatVersion
	}
	return encodeJSON(clusterJSON{c, crcText(encodeJSON(clusterJSON{Cluster: c}))})
}

// Encode gives the object's bytes.
func (o Owner) Encode() []byte {
	v := ownerJSON{FormatVersion: FormatVersion, Owner: o}
	v.CRC = crcText(encodeJSON(v))
	return encodeJSON(v)
}

// DecodeCluster reads cluster.json. Errors: ErrNewerFormat, ErrCorrupt.
func DecodeCluster(b []byte) (Cluster, error) {
	var v clusterJSON
	if err := decodeJSON(ClusterPart, b, &v); err != nil {
		return Cluster{}, err
	}
	if v.ClusterID == "" {
		return Cluster{}, corrupt(ClusterPart, "no cluster id")
	}
	return v.Cluster, nil
}

// DecodeOwner reads OWNER. Errors: ErrNewerFormat, ErrCorrupt.
func DecodeOwner(b []byte) (Owner, error) {
	var v ownerJSON
	if err := decodeJSON(OwnerPart, b, &v); err != nil {
		return Owner{}, err
	}
	if v.ClusterID == "" || v.Generation == 0 {
		return Owner{}, corrupt(OwnerPart, "cluster %q, generation %d", v.ClusterID, v.Generation)
	}
	return v.Owner, nil
}

// crcAt is where the CRC's digits stand, counted from the end of the line.
const crcAt = len(`01234567"}` + "\n")

// decodeJSON looks at the format version first: a newer strata may have other fields. The
// CRC is of the bytes that are there, fields that this strata does not know included.
func decodeJSON(part Part, b []byte, into any) error {
	if len(b) > MaxIdentityBytes {
		return corrupt(part, "%d bytes, at most %d are allowed", len(b), MaxIdentityBytes)
	}
	var head struct {
		FormatVersion int `json:"format_version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return corrupt(part, "%v", err)
	}
	switch {
	case head.FormatVersion > FormatVersion:
		return newer(part, uint64(head.FormatVersion))
	case head.FormatVersion < 1:
		return corrupt(part, "format version %d", head.FormatVersion)
	}
	if len(b) < crcAt {
		return corrupt(part, "%d bytes", len(b))
	}
	stored, rest := string(b[len(b)-crcAt:][:8]), b[len(b)-crcAt+8:]
	if want := crcText(slices.Concat(b[:len(b)-crcAt], rest)); stored != want {
		return corrupt(part, "CRC is %q, contents have %q", stored, want)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return corrupt(part, "%v", err)
	}
	return nil
}

func encodeJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("format: identity of strings and numbers does not encode: %v", err))
	}
	return append(b, '\n')
}

func crcText(b []byte) string { return fmt.Sprintf("%08x", record.CRC(b)) }
