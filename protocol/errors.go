package protocol

import (
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Error is an answer that Kafka's protocol has a code for, with a message for
// people. errors.Is finds the code (kerr.X) in it.
type Error struct {
	Code    *kerr.Error
	Message string
}

// What a message holds at most in bytes: a request may name the same long string for each of a hundred
// thousand partitions, and each has a message of its own.
const (
	maxQuoted  = 250 // of one argument: the longest topic name and no more
	maxMessage = 2000
)

// Errorf makes an Error. Long strings among args are told by their beginning.
func Errorf(code *kerr.Error, format string, args ...any) error {
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			args[i] = clip(arg, maxQuoted)
		case error:
			args[i] = clip(arg.Error(), maxMessage)
		}
	}
	return &Error{Code: code, Message: clip(fmt.Sprintf(format, args...), maxMessage)}
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// Error gives code and message.
func (e *Error) Error() string {
	if e.Message == "" {
		return e.Code.Message
	}
	return e.Code.Message + ": " + e.Message
}

// Unwrap gives the code, for errors.Is.
func (e *Error) Unwrap() error { return e.Code }

// CodeOf gives the number that tells err to a client: 0 for nil, that of an
// Error or kerr.Error anywhere in its chain, else UNKNOWN_SERVER_ERROR.
func CodeOf(err error) int16 {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[*kerr.Error](err); ok {
		return code.Code
	}
	return kerr.UnknownServerError.Code
}

// MessageOf gives the text that tells err to a client, nil for none. The text
// of an error without a code stays in the broker: it may name files or hosts.
func MessageOf(err error) *string {
	if err == nil {
		return nil
	}
	msg := kerr.UnknownServerError.Description
	if e, ok := errors.AsType[*Error](err); ok && e.Message != "" {
		msg = e.Message
	} else if code, ok := errors.AsType[*kerr.Error](err); ok {
		msg = code.Description
	}
	return &msg
}
