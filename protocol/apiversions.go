package protocol

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kerr"
)

// AppendUnsupportedVersion appends the body that answers an ApiVersions request
// of a version not served: version 0 with UNSUPPORTED_VERSION and what is
// served, so that the client can ask again (KIP-511).
func AppendUnsupportedVersion(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(kerr.UnsupportedVersion.Code))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(apis)))
	for i := range apis {
		dst = binary.BigEndian.AppendUint16(dst, uint16(apis[i].Key))
		dst = binary.BigEndian.AppendUint16(dst, uint16(apis[i].Advertised))
		dst = binary.BigEndian.AppendUint16(dst, uint16(apis[i].Max))
	}
	return dst
}

// ClientSoftware reads the name and version of the client's software off an
// ApiVersions body; both are "" before version 3 and where the body is malformed.
func ClientSoftware(version int16, body []byte) (name, softwareVersion string) {
	if version < 3 {
		return "", ""
	}
	r := reader{b: body}
	name, softwareVersion = string(r.string(true)), string(r.string(true))
	if r.bad {
		return "", ""
	}
	return name, softwareVersion
}
