package group

import "encoding/binary"

// readTopics adds the topics of a consumer's subscription to into. It reads the
// part that all versions begin with (int16 version, array of topic names) and
// says false where that is not what the bytes are.
func readTopics(b []byte, into map[string]struct{}) bool {
	if len(b) < 6 {
		return false
	}
	count := int32(binary.BigEndian.Uint32(b[2:]))
	b = b[6:]
	if count < 0 || int64(count)*2 > int64(len(b)) {
		return false
	}
	for range count {
		if len(b) < 2 {
			return false
		}
		n := int(int16(binary.BigEndian.Uint16(b)))
		if n < 0 || n > len(b)-2 {
			return false
		}
		into[string(b[2:2+n])] = struct{}{}
		b = b[2+n:]
	}
	return true
}
