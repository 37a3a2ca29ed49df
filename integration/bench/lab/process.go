// Package lab is the bench that brokers stand on: it starts Kafka and strata as
// processes with the same settings, reads what they use from /proc, keeps the
// page cache full, and runs the load generator beside them.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is one child, whose output goes to a file.
type Process struct {
	cmd    *exec.Cmd
	log    string
	exited chan struct{} // closed once cmd has been waited for
}

const stopLimit = 3 * time.Minute // a broker of 10,000 partitions

// start runs a command that dies with this process.
func start(log string, env []string, name string, args ...string) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()                                                     // the child has its own
	p := &Process{cmd: exec.Command(name, args...), log: log, exited: make(chan struct{})} //nolint:noctx // Stop and Kill end it
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // ProcessState tells
	}()
	return p, nil
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Err tells that the process has ended, with the end of its output.
func (p *Process) Err() error {
	select {
	case <-p.exited:
	default:
		return nil
	}
	text, err := os.ReadFile(p.log)
	return errors.Join(errOver, fmt.Errorf("%s ended: %s\n%s", filepath.Base(p.cmd.Path), p.cmd.ProcessState, text[max(0, len(text)-2000):]), err)
}

// Stop asks the process to end and waits for it.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error says that it has ended
	select {
	case <-p.exited:
		return nil
	case <-time.After(stopLimit):
		p.Kill()
		return fmt.Errorf("%s did not end within %s", filepath.Base(p.cmd.Path), stopLimit)
	}
}

// Kill ends the process at once.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // an error says that it has ended
	<-p.exited
}

// CPUSeconds is what the process has used so far, all threads, user and system;
// the kernel counts it in hundredths.
func (p *Process) CPUSeconds() (float64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return 0, err
	}
	return parseStat(string(stat))
}

// parseStat reads utime and stime, fields 14 and 15; the second field, the name
// in brackets, may hold anything.
func parseStat(stat string) (float64, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat has %d fields after the name", len(fields))
	}
	user, err := strconv.ParseUint(fields[11], 10, 64)
	system, err2 := strconv.ParseUint(fields[12], 10, 64)
	return float64(user+system) / ticksPerSecond, errors.Join(err, err2)
}

const ticksPerSecond = 100 // USER_HZ, the same on all of Linux's common machines

// RSS is the resident memory in bytes, file-backed pages included.
func (p *Process) RSS() (int64, error) {
	return kilobytes(fmt.Sprintf("/proc/%d/status", p.PID()), "VmRSS")
}

// kilobytes reads a "Name:  123 kB" line of a file in /proc, in bytes.
func kilobytes(file, name string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, name+":"); found {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}

// errOver is an error that waiting does not mend.
var errOver = errors.New("it is over")

// poll calls ok until it returns nil or errOver, and returns its last error after limit.
func poll(ctx context.Context, limit, every time.Duration, ok func() error) error {
	deadline := time.Now().Add(limit)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		err := ok()
		if err == nil || errors.Is(err, errOver) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}
