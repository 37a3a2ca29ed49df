package protocol_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/protocol"
)

func TestCodesAndMessagesOfErrors(t *testing.T) {
	named := protocol.Errorf(kerr.InvalidTopicException, "topic %q has a slash", "a/b")
	for _, c := range []struct {
		err     error
		code    int16
		message string
	}{
		{nil, 0, ""},
		{kerr.NotLeaderForPartition, 6, kerr.NotLeaderForPartition.Description},
		{fmt.Errorf("append: %w", kerr.NotLeaderForPartition), 6, kerr.NotLeaderForPartition.Description},
		{named, 17, `topic "a/b" has a slash`},
		{fmt.Errorf("create: %w", named), 17, `topic "a/b" has a slash`},
		{errors.New("open /secret/place"), -1, kerr.UnknownServerError.Description},
	} {
		if got := protocol.CodeOf(c.err); got != c.code {
			t.Errorf("%v: code %d, want %d", c.err, got, c.code)
		}
		switch got := protocol.MessageOf(c.err); {
		case got == nil && c.message != "", got != nil && *got != c.message:
			t.Errorf("%v: message %v, want %q", c.err, got, c.message)
		}
	}
	if !errors.Is(named, kerr.InvalidTopicException) || named.Error() != `INVALID_TOPIC_EXCEPTION: topic "a/b" has a slash` {
		t.Errorf("got %v", named)
	}
	if e := (&protocol.Error{Code: kerr.InvalidRequest}); e.Error() != "INVALID_REQUEST" {
		t.Errorf("got %v", e)
	}
}
