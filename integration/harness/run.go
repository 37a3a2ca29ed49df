package harness

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// runLimit is how long a command of Run may take.
const runLimit = time.Minute

// Result is what a finished command left.
type Result struct {
	Code           int // exit status
	Stdout, Stderr string
	Took           time.Duration
}

// Run runs the strata binary with args to its end. env is added to this
// process's environment.
func Run(tb testing.TB, env []string, args ...string) Result {
	tb.Helper()
	binary := Binary(tb) // which may have to be built first
	ctx, cancel := context.WithTimeout(tb.Context(), runLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = tb.TempDir()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begun := time.Now()
	err := cmd.Run()
	r := Result{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String(), Took: time.Since(begun)}
	switch exited := (*exec.ExitError)(nil); {
	case ctx.Err() != nil:
		tb.Fatalf("strata %s: still runs after %s\n%s%s", strings.Join(args, " "), r.Took, tail(r.Stdout), tail(r.Stderr))
	case err != nil && !errors.As(err, &exited):
		tb.Fatalf("strata %s: %v", strings.Join(args, " "), err)
	}
	return r
}

// tailLines is how much of a log is shown when a test fails.
const tailLines = 60

// tail is the end of a log.
func tail(text string) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "")
}

// output keeps what a process writes while others read it.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
