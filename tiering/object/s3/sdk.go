package s3

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/logging"
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

// namedCredentials marks the errors of where credentials come from: the SDK runs
// them together with those of the request that they are for.
type namedCredentials struct{ aws.CredentialsProvider }

// Retrieve implements aws.CredentialsProvider.
func (c namedCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := c.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return found, &credentialsError{err}
	}
	return found, nil
}

// credentialsError is that a request had no credentials to be signed with. It may
// pass: a machine's metadata service has outages as well.
type credentialsError struct{ cause error }

func (e *credentialsError) Error() string {
	cause := strings.ReplaceAll(strings.ReplaceAll(e.cause.Error(), ", RequestID: , HostID: ", ""), "RequestID: , ", "")
	return "no credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to one of ~/.aws, " +
		"or give this machine a role. The last place asked: " + cause
}

func (e *credentialsError) Unwrap() error { return e.cause }
