package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// perfRate is samples a second of each running thread: not a divisor of the kernel's own ticks.
const perfRate = "997"

// Perf samples where the broker's CPU time goes while do runs, with Linux's perf and without the broker's
// help, and returns perf's report: report.ParsePerf reads it. The binary needs its symbols.
func (b *Broker) Perf(ctx context.Context, do func() error) (string, error) {
	file := filepath.Join(b.dir, "perf.data")
	// The clock, as virtual machines often have no counter of cycles.
	record := exec.Command("perf", "record", "--event", "cpu-clock", "--freq", perfRate, "--pid", fmt.Sprint(b.PID()), "--output", file) //nolint:noctx // it is told to end below
	var said strings.Builder
	record.Stdout, record.Stderr = &said, &said
	record.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := record.Start(); err != nil {
		return "", fmt.Errorf("perf, which Debian has in linux-perf: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- record.Wait() }()
	err := poll(ctx, perfLimit, 10*time.Millisecond, func() error {
		if info, err := os.Stat(file); err != nil || info.Size() == 0 {
			return errors.Join(errors.New("perf does not sample yet"), err)
		}
		return nil
	})
	if err == nil {
		err = do()
	}
	_ = record.Process.Signal(os.Interrupt) // an error says that it has ended
	// It ends by the signal.
	if end := <-ended; end != nil && record.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
		err = errors.Join(err, fmt.Errorf("perf record: %w: %s", end, said.String()))
	}
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "perf", "report", "--input", file, "--stdio", "--no-children", "--show-nr-samples",
		"--sort", "dso,symbol", "--field-separator", "|").Output()
	if err != nil {
		return "", fmt.Errorf("perf report: %w", err)
	}
	return string(out), os.Remove(file)
}

const perfLimit = 30 * time.Second

// Output is what the broker has written to its log so far.
func (b *Broker) Output() (string, error) {
	text, err := os.ReadFile(b.log())
	return string(text), err
}
