package minio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// errExited is a server that ended before it was ready: another program may
// have taken its port.
var errExited = errors.New("the server ended at its start")

func (s *Server) startProcess(ctx context.Context, path string) error {
	for try := 1; ; try++ {
		err := s.tryProcess(ctx, path)
		if !errors.Is(err, errExited) || try == 5 {
			return err
		}
	}
}

func (s *Server) tryProcess(ctx context.Context, path string) error {
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	data, err := os.MkdirTemp("", "strata-minio-")
	if err != nil {
		return err
	}
	var output bytes.Buffer
	// Not under ctx, which bounds the start only.
	cmd := exec.Command(path, "server", "--address", address, "--quiet", data) //nolint:noctx // it outlives the start
	cmd.Env = os.Environ()
	environment := s.environment()
	environment["HOME"] = data
	for name, value := range environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // when a test dies without a word
	if err := cmd.Start(); err != nil {
		_ = os.RemoveAll(data)
		return err
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // it is killed
	}()
	stop := func(ctx context.Context) error {
		_ = cmd.Process.Kill() // an error says that it has ended
		select {
		case <-exited:
			return os.RemoveAll(data)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.Kind, s.Endpoint, s.stop = "process", "http://"+address, stop
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !s.ready(ctx) {
		select {
		case <-ticker.C:
		case <-exited:
			return errors.Join(fmt.Errorf("%w: %s", errExited, output.Bytes()), stop(ctx))
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.Stop())
		}
	}
	return nil
}

func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
