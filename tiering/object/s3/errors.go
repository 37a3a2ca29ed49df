package s3

import (
	"errors"
	"fmt"
	"net/url"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/stratabroker/strata/tiering/object"
)

// translate names an error of the SDK by object's errors where one fits; the
// rest stays what it is, an outage.
func translate(err error) error {
	if lost := (*object.CredentialsError)(nil); errors.As(err, &lost) {
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
	if known := object.WireError(status, code, message); known != nil {
		return known
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
		return fmt.Errorf("HTTP %s: %s (request %s)", object.WireStatus(status, code), message, answered.ServiceRequestID())
	case code != "" && status != 0:
		return fmt.Errorf("HTTP %s: %s", object.WireStatus(status, code), message)
	}
	return err
}
