package object

import (
	"fmt"
	"strings"
)

// Limits of keys. They leave room for a prefix below S3's 1,024 bytes, and for
// the names of temporary files below the 255 bytes of file systems.
const (
	MaxKeyBytes     = 768
	MaxSegmentBytes = 200
)

// CheckKey refuses what is no key: segments of [a-zA-Z0-9._-], not "." or "..",
// none longer than MaxSegmentBytes, joined by "/", at most MaxKeyBytes long.
// The error is an ErrInvalidKey.
func CheckKey(key string) error {
	if len(key) > MaxKeyBytes {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrInvalidKey, len(key), MaxKeyBytes)
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("%w: %q has a segment %q", ErrInvalidKey, key, segment)
		}
		if len(segment) > MaxSegmentBytes {
			return fmt.Errorf("%w: %q has a segment of more than %d bytes", ErrInvalidKey, key, MaxSegmentBytes)
		}
		if i := strings.IndexFunc(segment, notInKey); i >= 0 {
			return fmt.Errorf("%w: %q holds %q, allowed are letters, digits, '.', '_', '-' and '/'", ErrInvalidKey, key, segment[i])
		}
	}
	return nil
}

// CheckPrefix refuses what no key can begin with; "" is allowed.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	// Completed by a letter the prefix has to be a key, whatever it ends in.
	if len(prefix) > MaxKeyBytes {
		return fmt.Errorf("%w: prefix of %d bytes", ErrInvalidKey, len(prefix))
	}
	return CheckKey(prefix + "x")
}

func notInKey(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
}

// CheckPut refuses the arguments of a Put that no driver can honour.
func CheckPut(key string, size int64) error {
	if size < 0 {
		return fmt.Errorf("put %s: negative size %d", key, size)
	}
	return CheckKey(key)
}

// CheckRange is ErrRange unless [offset, offset+length) lies inside an object of size bytes.
func CheckRange(key string, offset, length, size int64) error {
	if offset < 0 || length < 0 || offset > size || length > size-offset {
		return fmt.Errorf("%w: %d bytes from %d of %s, which has %d", ErrRange, length, offset, key, size)
	}
	return nil
}
