package object

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// What drivers of S3's protocol share: the meaning of its answers. None of it is for callers of a Store.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WireChecksum is the CRC32C of a body's first size bytes as S3 writes it.
func WireChecksum(ctx context.Context, body io.ReadSeeker, size int64) (string, error) {
	section := NewSection(body, size)
	h := crc32.New(castagnoli)
	buf := make([]byte, 128<<10)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := section.Read(buf)
		_, _ = h.Write(buf[:n]) // never fails
		if errors.Is(err, io.EOF) {
			return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, h.Sum32())), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// WireError gives an answer of S3's protocol its meaning: an error of this package, or nil where it is an
// outage of unknown effect.
func WireError(status int, code, message string) error {
	if known := WireCode(code); known != nil {
		return fmt.Errorf("%w (%s: %s)", known, code, message)
	}
	var known error
	switch status {
	// 304 is what some MinIO answered to If-None-Match on a PUT (issue 19442).
	case http.StatusPreconditionFailed, http.StatusNotModified:
		known = ErrPrecondition
	case http.StatusNotFound: // without a code: the answer to a HEAD has no body
		known = ErrNotFound
	case http.StatusRequestedRangeNotSatisfiable:
		known = ErrRange
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		known = ErrThrottled
	case http.StatusForbidden, http.StatusUnauthorized:
		known = ErrDenied
	case http.StatusInsufficientStorage:
		known = ErrFull
	default:
		return nil
	}
	return fmt.Errorf("%w (HTTP %s)", known, WireStatus(status, code))
}

// WireStatus is a status with the code that came with it, for people.
func WireStatus(status int, code string) string {
	return strings.TrimSpace(strconv.Itoa(status) + " " + code)
}

// WireCode knows the codes of S3 and, where they differ, of MinIO; nil for others. A 409
// ConditionalRequestConflict is not among them: the write lost, or another
// operation was under way; the object has to be read.
func WireCode(code string) error {
	switch code {
	case "NoSuchKey":
		return ErrNotFound
	case "NoSuchBucket":
		return ErrNoBucket
	case "PreconditionFailed":
		return ErrPrecondition
	case "InvalidRange":
		return ErrRange
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded":
		return ErrThrottled
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AllAccessDisabled", "AccountProblem":
		return ErrDenied
	case "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded":
		return ErrFull
	}
	return nil
}

// CheckWireRange tells whether the answer to a ranged GET, by its headers, is the range that was asked for.
func CheckWireRange(key, contentRange string, answered, offset, length int64) error {
	var from, to, size int64
	n, err := fmt.Sscanf(contentRange, "bytes %d-%d/%d", &from, &to, &size)
	if err != nil || n != 3 || from < 0 || to < from || size <= to {
		return fmt.Errorf("get %s: answer to a ranged GET has the Content-Range %q", key, contentRange)
	}
	if err := CheckRange(key, offset, length, size); err != nil {
		return err // the answer is what there was of the range
	}
	if from != offset || to != offset+length-1 {
		return fmt.Errorf("get %s: asked for bytes %d-%d, got %q", key, offset, offset+length-1, contentRange)
	}
	if answered != length {
		return fmt.Errorf("get %s: asked for %d bytes, the answer has %d", key, length, answered)
	}
	return nil
}

// ReadWire reads the n bytes of an answer's body; one that ends before is an io.ErrUnexpectedEOF.
func ReadWire(r io.Reader, key string, n int64) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("get %s: answer cut off: %w", key, err)
	}
	return b, nil
}

// CredentialsError is that a request had no credentials to be signed with. It may pass: what
// gives them has outages too. A driver's names of places are in Places.
type CredentialsError struct {
	None   bool   // no place has any; else a place that should give them has failed
	Places string // where they may be put, for people
	Cause  error  // of the place that failed, or of the last one asked
}

// Error implements error.
func (e *CredentialsError) Error() string {
	if e.None {
		return fmt.Sprintf("no credentials found: %s. The last place asked: %v", e.Places, e.Cause)
	}
	return fmt.Sprintf("credentials cannot be had: %v", e.Cause)
}

// Unwrap gives the cause.
func (e *CredentialsError) Unwrap() error { return e.Cause }
