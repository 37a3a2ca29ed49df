package store

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/drivers"
)

// getsSpec is what a process of GETs does. It is its argument.
type getsSpec struct {
	URL         string        `json:"url"`
	Connections int           `json:"connections"`
	Size        int64         `json:"size"` // of a GET
	Time        time.Duration `json:"time"`
}

// ServeGets is the body of a process that reads segment objects with ranged GETs, as fast as the
// store gives them, until the spec's time is over.
func ServeGets(ctx context.Context, spec string) error {
	var s getsSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return fmt.Errorf("gets: %w", err)
	}
	u, err := object.ParseURL(s.URL)
	if err != nil {
		return fmt.Errorf("gets: %w", err)
	}
	bucket, err := drivers.Open(ctx, u, slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("gets: %w", err)
	}
	ctx, stop := context.WithTimeout(ctx, s.Time)
	defer stop()
	m := &MinIO{bucket: bucket}
	for ctx.Err() == nil {
		if _, err := m.ReadRate(ctx, s.Connections, s.Size, 1<<30); err != nil && ctx.Err() == nil {
			return fmt.Errorf("gets: %w", err)
		}
	}
	return bucket.Close()
}

// Gets starts a process that does so, as `bench gets spec`. The caller waits for it.
func (m *MinIO) Gets(bench string, connections int, size int64, d time.Duration) (*exec.Cmd, error) {
	spec, err := json.Marshal(getsSpec{URL: m.URL, Connections: connections, Size: size, Time: d})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(bench, "gets", string(spec)) //nolint:noctx // it ends by itself
	cmd.Env, cmd.Stderr = append(os.Environ(), m.Env...), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, cmd.Start()
}
