package s3

import (
	"errors"
	"fmt"
	"net/http"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/stratabroker/strata/tiering/object"
)

// translate names an error of the SDK by object's errors where one fits; the
// rest stays what it is, an outage.
func translate(err error) error {
	status := 0
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	code, message := "", ""
	var api smithy.APIError
	if errors.As(err, &api) {
		code, message = api.ErrorCode(), api.ErrorMessage()
	}
	if known := byCode(code); known != nil {
		return fmt.Errorf("%w (%s: %s)", known, code, message)
	}
	switch status {
	// 304 is what some MinIO answered to If-None-Match on a PUT (issue 19442).
	case http.StatusPreconditionFailed, http.StatusNotModified:
		return fmt.Errorf("%w (HTTP %d)", object.ErrPrecondition, status)
	case http.StatusNotFound: // without a code: the answer to a HEAD has no body
		return fmt.Errorf("%w (HTTP %d)", object.ErrNotFound, status)
	case http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%w (HTTP %d)", object.ErrRange, status)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return fmt.Errorf("%w (HTTP %d %s)", object.ErrThrottled, status, code)
	case http.StatusForbidden, http.StatusUnauthorized:
		return fmt.Errorf("%w (HTTP %d %s)", object.ErrDenied, status, code)
	}
	return err
}

// byCode knows the codes of S3 and, where they differ, of MinIO. A 409
// ConditionalRequestConflict is not among them: the write lost, or another
// operation was under way; the object has to be read.
func byCode(code string) error {
	switch code {
	case "NoSuchKey":
		return object.ErrNotFound
	case "NoSuchBucket":
		return object.ErrNoBucket
	case "PreconditionFailed":
		return object.ErrPrecondition
	case "InvalidRange":
		return object.ErrRange
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded":
		return object.ErrThrottled
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AllAccessDisabled", "AccountProblem":
		return object.ErrDenied
	}
	return nil
}
