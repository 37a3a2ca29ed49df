package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is wrapped by every decoder here when bytes cannot be what they
// claim to be. The connection they came by is closed: what follows on it
// cannot be trusted to be a frame.
var ErrMalformed = errors.New("malformed request")

// ErrNotServed means an API key or a version outside the table of served APIs.
var ErrNotServed = errors.New("API or version is not served")

// RequestHeader is what precedes every request body.
type RequestHeader struct {
	Key           int16
	Version       int16
	CorrelationID int32
	ClientID      string // "" where null
}

// HeaderPrefixLen is how many bytes PeekHeader needs.
const HeaderPrefixLen = 4

// PeekHeader reads API key and version off the first bytes of a frame, so that
// its size can be judged before the rest is read.
func PeekHeader(prefix [HeaderPrefixLen]byte) (key, version int16) {
	return int16(binary.BigEndian.Uint16(prefix[:])), int16(binary.BigEndian.Uint16(prefix[2:]))
}

// ParseHeader takes the request header off a frame (without its length field).
// body aliases frame, the header does not. An API key that is not served gives
// ErrNotServed, as does a version outside the served range; the header is then
// filled all the same, for an ApiVersions request must be answered whatever its
// version is (KIP-511). Bytes that are no header give ErrMalformed.
func ParseHeader(frame []byte) (h RequestHeader, body []byte, err error) {
	r := reader{b: frame}
	h.Key, h.Version, h.CorrelationID = r.int16(), r.int16(), r.int32()
	if r.bad {
		return h, nil, fmt.Errorf("%w: header of %d bytes", ErrMalformed, len(frame))
	}
	api, ok := LookupAPI(h.Key)
	if !ok {
		return h, nil, fmt.Errorf("%w: API key %d", ErrNotServed, h.Key)
	}
	// The client id is never compact, not even in a flexible header (KIP-511).
	if id := r.nullableString(false); id != nil {
		h.ClientID = string(id)
	}
	if api.IsFlexible(h.Version) {
		r.tags()
	}
	if r.bad {
		return h, nil, fmt.Errorf("%w: header of %s", ErrMalformed, api.Name)
	}
	if !api.Serves(h.Version) {
		return h, r.b, fmt.Errorf("%w: %s version %d", ErrNotServed, api.Name, h.Version)
	}
	return h, r.b, nil
}

// AppendResponseHeader appends the length field and header of a response whose
// body has bodyLen bytes. ApiVersions always answers with a header without
// tagged fields: its reader does not know yet what the broker speaks (KIP-511).
func AppendResponseHeader(dst []byte, h RequestHeader, bodyLen int) []byte {
	api, ok := LookupAPI(h.Key)
	flexible := ok && api.IsFlexible(h.Version) && h.Key != KeyAPIVersions
	n := 4 + bodyLen
	if flexible {
		n++
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.CorrelationID))
	if flexible {
		dst = append(dst, 0)
	}
	return dst
}
