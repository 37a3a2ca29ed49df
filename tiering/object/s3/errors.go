package s3

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/stratabroker/strata/tiering/object"
)

// translate names an error of the SDK by object's errors where one fits; the
// rest stays what it is, an outage.
func translate(err error) error {
	if lost := (*credentialsError)(nil); errors.As(err, &lost) {
		return lost
	}
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
		return fmt.Errorf("%w (HTTP %s)", object.ErrThrottled, spaced(status, code))
	case http.StatusForbidden, http.StatusUnauthorized:
		return fmt.Errorf("%w (HTTP %s)", object.ErrDenied, spaced(status, code))
	}
	return outage(err, status, code, message)
}

// outage tells an error of no known kind without the SDK's names for the places it came through.
func outage(err error, status int, code, message string) error {
	var (
		canceled *smithy.CanceledError
		unsent   *smithyhttp.RequestSendError
		answered *awshttp.ResponseError
		request  *url.Error
	)
	switch {
	case errors.As(err, &canceled):
		return canceled.Err
	case errors.As(err, &unsent):
		err = unsent.Err
		if errors.As(err, &request) {
			err = request.Err
		}
		return fmt.Errorf("no answer: %w", err)
	case code != "" && errors.As(err, &answered) && answered.ServiceRequestID() != "":
		return fmt.Errorf("HTTP %s: %s (request %s)", spaced(status, code), message, answered.ServiceRequestID())
	case code != "" && status != 0:
		return fmt.Errorf("HTTP %s: %s", spaced(status, code), message)
	}
	return err
}

func spaced(status int, code string) string {
	return strings.TrimSpace(strconv.Itoa(status) + " " + code)
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
