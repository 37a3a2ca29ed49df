package quorum

import (
	"context"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// newRaftLogger passes on what Raft warns of; it says a lot more.
func newRaftLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Output: io.Discard, Level: hclog.Off})
	l.RegisterSink(sink{log})
	return l
}

// sink is where Raft's log lines go.
type sink struct{ log *slog.Logger }

// Accept takes one line; args are keys and values.
func (s sink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	switch level {
	case hclog.Warn:
		s.log.Log(context.Background(), slog.LevelWarn, "raft: "+msg, args...)
	case hclog.Error:
		s.log.Log(context.Background(), slog.LevelError, "raft: "+msg, args...)
	default:
	}
}
