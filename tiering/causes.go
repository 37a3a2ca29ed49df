package tiering

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/stratabroker/strata/tiering/object"
)

// causeInterval is how often one cause of failed uploads is told while it lasts.
const causeInterval = time.Minute

// causes tells why a kind of work on the bucket fails: a line for each cause, not for each failure, and one when it succeeds again.
type causes struct {
	logger           *slog.Logger
	failure, success string // what the lines say

	mu      sync.Mutex
	told    map[string]*cause // guarded by mu
	failing bool              // told, and nothing has succeeded since; guarded by mu
}

type cause struct {
	at     time.Time
	silent int // failures since it was told
}

func newCauses(logger *slog.Logger, failure, success string) *causes {
	return &causes{logger: logger, failure: failure, success: success, told: map[string]*cause{}}
}

// causeOf names what an operator has to look at.
func causeOf(err error) string {
	for _, known := range []error{
		ErrNotOwner, object.ErrNoBucket, object.ErrDenied, object.ErrFull, object.ErrThrottled, context.DeadlineExceeded, object.ErrNotFound,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if _, lost := errors.AsType[*object.CredentialsError](err); lost {
		return "no credentials"
	}
	return "the bucket does not answer, or with an error"
}

// failed tells of a failure, unless its cause was told a moment ago.
func (c *causes) failed(err error, attrs ...any) {
	name := causeOf(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.told[name]
	if known != nil && time.Since(known.at) < causeInterval {
		known.silent++
		c.logger.Debug(c.failure, append(attrs, "err", err)...)
		return
	}
	if known != nil {
		attrs = append(attrs, "failures_since", known.silent)
	}
	c.told[name], c.failing = &cause{at: time.Now()}, true
	c.logger.Warn(c.failure, append(attrs, "cause", name, "err", err)...)
}

// succeeded tells once that the work goes on.
func (c *causes) succeeded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.failing {
		return
	}
	c.failing = false
	clear(c.told)
	c.logger.Info(c.success)
}
