package tiering_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/object"
)

func TestACauseOfFailuresIsToldOnceAMinuteAndItsEndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		c := tiering.NewCauses(slog.New(slog.NewTextHandler(&text, nil)), "it failed", "it goes on")
		lines := func() int { return strings.Count(text.String(), "\n") }
		c.Succeeded() // nobody has failed
		for i := range 1000 {
			c.Failed(fmt.Errorf("put %d: %w", i, object.ErrDenied), "partition", i)
		}
		if lines() != 1 || !strings.Contains(text.String(), `cause="access denied"`) {
			t.Errorf("a thousand failures of one cause: %s", text.String())
		}
		c.Failed(errors.New("dial tcp: connection refused"))
		if lines() != 2 {
			t.Errorf("another cause: %s", text.String())
		}
		time.Sleep(tiering.CauseInterval)
		c.Failed(object.ErrDenied)
		if lines() != 3 || !strings.Contains(text.String(), "failures_since=999") {
			t.Errorf("a minute later: %s", text.String())
		}
		c.Succeeded()
		c.Succeeded()
		if lines() != 4 || !strings.Contains(text.String(), "it goes on") {
			t.Errorf("the end: %s", text.String())
		}
		c.Failed(object.ErrDenied)
		if lines() != 5 {
			t.Errorf("again after the end: %s", text.String())
		}
	})
}
