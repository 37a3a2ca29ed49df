package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stratabroker/strata/integration/harness"
)

const (
	waitLimit = 30 * time.Second // of conditions, also on a busy machine
	stopLimit = time.Second
)

// buffer may be read while a process writes it.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// start runs the binary with an input that stays open.
func start(t *testing.T, args ...string) (cmd *exec.Cmd, stdin io.Writer, stdout, stderr *buffer) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), harness.Binary(t), args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr = &buffer{}, &buffer{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, in, stdout, stderr
}

// interrupt sends a signal and gives the exit status and how long it took.
func interrupt(t *testing.T, cmd *exec.Cmd, sig syscall.Signal) (int, time.Duration) {
	t.Helper()
	began := time.Now()
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // ProcessState tells
	return cmd.ProcessState.ExitCode(), time.Since(began)
}

func TestCtrlCEndsAConsumerAtOnceAndItsGroupResumes(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	ok(t, "1\n2\n3\n", "produce", "t", "--bootstrap-server", b.Addr)
	cmd, _, stdout, stderr := start(t, "consume", "t", "--group", "g", "--bootstrap-server", b.Addr)
	harness.Eventually(t, waitLimit, "three records are printed", func() error {
		if stdout.String() != "1\n2\n3\n" {
			return fmt.Errorf("got %q, %q", stdout, stderr)
		}
		return nil
	})
	if code, took := interrupt(t, cmd, syscall.SIGINT); code != 0 || took > stopLimit {
		t.Errorf("status %d after %v: %s", code, took, stderr)
	}
	ok(t, "4\n", "produce", "t", "--bootstrap-server", b.Addr)
	if got := ok(t, "", "consume", "t", "--group", "g", "--max", "1", "--bootstrap-server", b.Addr); got != "4\n" {
		t.Errorf("the group goes on with %q", got)
	}
}

func TestCtrlCEndsAProducerThatWaitsForInput(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	cmd, stdin, _, stderr := start(t, "produce", "t", "--bootstrap-server", b.Addr)
	if _, err := io.WriteString(stdin, "typed\n"); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, waitLimit, "the typed line is there", func() error {
		got, text, _ := strata(t, "", "consume", "t", "--until-end", "--bootstrap-server", b.Addr)
		if got != "typed\n" {
			return fmt.Errorf("got %q, %q", got, text)
		}
		return nil
	})
	code, took := interrupt(t, cmd, syscall.SIGTERM)
	if code != 1 || took > stopLimit || !strings.Contains(stderr.String(), "1 records written") || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("status %d after %v: %s", code, took, stderr)
	}
}

func TestSecondSignalKills(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	ok(t, strings.Repeat("a line that nobody will read\n", 10000), "produce", "t", "--bootstrap-server", b.Addr)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	cmd := exec.CommandContext(t.Context(), harness.Binary(t), "consume", "t", "--from", "beginning", "--bootstrap-server", b.Addr)
	cmd.Stdout = writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // ProcessState tells
	}()
	harness.Eventually(t, waitLimit, "the consumer waits for its reader", func() error {
		if n, err := unix.IoctlGetInt(int(reader.Fd()), unix.TIOCINQ); err != nil || n < 1<<16 {
			return fmt.Errorf("the pipe holds %d bytes, error %w", n, err)
		}
		return nil
	})
	// It cannot act on the first signal while it waits; a later one needs no acting.
	harness.Eventually(t, waitLimit, "signals end it", func() error {
		_ = cmd.Process.Signal(syscall.SIGINT) // it may be gone by now
		select {
		case <-exited:
			return nil
		default:
			return errors.New("it still runs")
		}
	})
	if status, isWait := cmd.ProcessState.Sys().(syscall.WaitStatus); !isWait || status.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %s, want the signal", cmd.ProcessState)
	}
}

func TestCtrlCEndsAStartThatWaitsForItsBucket(t *testing.T) {
	var config net.ListenConfig
	silent, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	t.Setenv("AWS_ACCESS_KEY_ID", "any")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "any")
	url := "s3://bucket?region=us-east-1&endpoint=http://" + silent.Addr().String()
	cmd, _, stdout, stderr := start(t, "dev", "--data-dir", t.TempDir(), "--bucket", url, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if code, took := interrupt(t, cmd, syscall.SIGINT); code != 0 || took > stopLimit {
		t.Errorf("status %d after %v: %s", code, took, stderr)
	}
	if stdout.String() != "" {
		t.Errorf("it said that it was ready: %s", stdout)
	}
}
