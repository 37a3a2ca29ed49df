// Package harness runs strata as its users do, for the tests of package
// integration: the binary as a process that is started, stopped, killed and
// paused, buckets on disk and on a real MinIO, and a proxy that holds uploads
// back. It knows the broker only by its command line, its ports, its files and
// its bucket. Only tests import it.
package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stratabroker/strata/tiering/object/objecttest/minio"
)

// shared is what the tests of one process use together. Each part is made at its first use.
type shared struct {
	mu     sync.Mutex
	folder string        // of the binary; guarded by mu
	server *minio.Server // guarded by mu
}

var common shared

// Main runs the tests and removes what they shared. TestMain calls it:
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
func Main(m *testing.M) int {
	code := m.Run()
	if err := common.close(); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		code = max(code, 1)
	}
	return code
}

func (s *shared) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.server != nil {
		errs = append(errs, s.server.Stop())
	}
	if s.folder != "" {
		errs = append(errs, os.RemoveAll(s.folder))
	}
	return errors.Join(errs...)
}

// Binary is the path of the strata binary, built at the first call.
func Binary(tb testing.TB) string {
	tb.Helper()
	begun := time.Now()
	path, built, err := common.binary(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	if built {
		tb.Logf("built strata in %s", time.Since(begun).Round(time.Millisecond))
	}
	return path
}

func (s *shared) binary(ctx context.Context) (path string, built bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.folder != "" {
		return filepath.Join(s.folder, "strata"), false, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return "", false, err
	}
	folder, err := os.MkdirTemp("", "strata-binary-")
	if err != nil {
		return "", false, err
	}
	path = filepath.Join(folder, "strata")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", path, "./cmd/strata")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", false, errors.Join(fmt.Errorf("build strata: %w\n%s", err, out), os.RemoveAll(folder))
	}
	s.folder = folder
	return path, true, nil
}

// moduleRoot is the folder of go.mod at or above the working folder.
func moduleRoot() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder, nil
		}
		up := filepath.Dir(folder)
		if up == folder {
			return "", errors.New("no go.mod above the working folder")
		}
		folder = up
	}
}

// MinIO is the one server of this test process, started at the first call.
func MinIO(tb testing.TB) *minio.Server {
	tb.Helper()
	common.mu.Lock()
	defer common.mu.Unlock()
	if common.server == nil {
		server, err := minio.Start(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		common.server = server
		// It says that it is ready a moment before it takes buckets.
		Eventually(tb, serverLimit, "MinIO takes buckets", func() error {
			_, err := server.NewBucket(tb.Context())
			return err
		})
		tb.Logf("MinIO as a %s at %s", server.Kind, server.Endpoint)
	}
	return common.server
}

// serverLimit is how long a server that answers may take to serve.
const serverLimit = 20 * time.Second

// pollInterval is how often a condition is looked at.
const pollInterval = 10 * time.Millisecond

// Eventually polls until ok returns nil, and fails the test with ok's last
// error when that takes longer than limit.
func Eventually(tb testing.TB, limit time.Duration, what string, ok func() error) {
	tb.Helper()
	if err := poll(tb.Context(), limit, ok); err != nil {
		tb.Fatalf("%s: not within %s: %v", what, limit, err)
	}
}

// poll returns ok's last error when it does not return nil within limit.
func poll(ctx context.Context, limit time.Duration, ok func() error) error {
	deadline := time.Now().Add(limit)
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := ok()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}
