package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"

	"github.com/stratabroker/strata/tiering/object"
)

// sdkLogger is where the SDK writes: by itself it would to standard error.
func sdkLogger(l *slog.Logger) logging.Logger {
	if l == nil {
		return logging.Nop{}
	}
	return logging.LoggerFunc(func(class logging.Classification, format string, args ...any) {
		l.Debug("AWS SDK", "class", string(class), "text", fmt.Sprintf(format, args...))
	})
}

// places is where the SDK looks for credentials.
const places = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to one of ~/.aws, or give this machine a role"

// namedCredentials marks the errors of where credentials come from: the SDK runs
// them together with those of the request that they are for.
type namedCredentials struct{ aws.CredentialsProvider }

// Retrieve implements aws.CredentialsProvider.
func (c namedCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := c.CredentialsProvider.Retrieve(ctx)
	if err == nil {
		return found, nil
	}
	if ended := ctx.Err(); ended != nil {
		return found, &object.CredentialsError{Cause: fmt.Errorf("no answer from where they come in time: %w", ended)}
	}
	text := strings.ReplaceAll(strings.ReplaceAll(err.Error(), ", RequestID: , HostID: ", ""), "RequestID: , ", "")
	return found, &object.CredentialsError{None: nowhere(err), Places: places, Cause: plainError{text, err}}
}

// nowhere tells whether no place has credentials. The SDK asks the machine's
// metadata service only where nothing else is set up; one that does not answer cannot be told from a machine without one.
func nowhere(err error) bool {
	var op *smithy.OperationError
	return errors.As(err, &op) && op.Service() == "ec2imds"
}

// plainError is an error in fewer words.
type plainError struct {
	text string
	error
}

func (e plainError) Error() string { return e.text }
func (e plainError) Unwrap() error { return e.error }
