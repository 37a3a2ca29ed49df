package tiering

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/stratabroker/strata/protocol"
)

// backoff is exponential with full jitter on the upper half: d/2 to d.
type backoff struct {
	first, most time.Duration
	rand        func() uint64
}

// after is how long to wait after so many failures in a row, 1 being the first.
func (b backoff) after(failures int) time.Duration {
	d := b.first
	for i := 1; i < failures && d < b.most; i++ {
		d *= 2
	}
	d = min(d, b.most)
	half := uint64(d / 2)
	return d/2 + time.Duration(b.rand()%(half+1))
}

// sleep waits d or until ctx ends, whose error it then returns.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func nowMs() protocol.Timestamp { return protocol.Timestamp(time.Now().UnixMilli()) }

// or gives v, or where it is the zero value the default.
func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func orRand(f func() uint64) func() uint64 {
	if f == nil {
		return rand.Uint64
	}
	return f
}

func orLogger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
