package format

import (
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// Root is a recovery point in time, first form (D20): the metadata image, which holds
// every manifest row, at one cut.
type Root struct {
	Generation, Seq uint64
	Cut             metadata.Attempt
	AtMs            protocol.Timestamp
	ClusterID       string
	Image           []byte // opaque; metadata.MarshalImage
}

// EncodeRoot makes the object for key (RootKey of the root's generation and seq) and its place, which
// spans the whole object.
func EncodeRoot(r Root, key string) (object []byte, place metadata.PagePlace) { panic("body follows") }

// DecodeRoot reads a whole root object; Image aliases b. Errors: ErrNewerFormat, ErrCorrupt.
func DecodeRoot(b []byte) (Root, error) { panic("body follows") }
