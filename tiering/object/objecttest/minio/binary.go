package minio

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	module  = "github.com/minio/minio"
	version = "v0.0.0-20260212201848-7aac2a2c5b7c"
)

// binary finds the server: at STRATA_MINIO, else in the cache folder, else it
// is built into that, which takes some minutes once a machine.
func binary(ctx context.Context) (string, error) {
	if path := os.Getenv("STRATA_MINIO"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("STRATA_MINIO: %w", err)
		}
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the MinIO server: %w", err)
	}
	folder := filepath.Join(cache, "strata", "bin")
	path := filepath.Join(folder, "minio")
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return "", err
	}
	// Test packages run at once: one builds, the others wait for it.
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }() // which unlocks
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	if err := build(ctx, folder, path); err != nil {
		return "", fmt.Errorf("build the MinIO server: %w", err)
	}
	return path, nil
}

func build(ctx context.Context, folder, path string) error {
	fmt.Fprintf(os.Stderr, "building the MinIO server %s into %s (once, some minutes)\n", version, folder)
	out, err := exec.CommandContext(ctx, "go", "env", "GOPROXY").Output()
	if err != nil {
		return err
	}
	// Without "direct" a module that is missing is an answer, not a hanging git.
	proxy := strings.ReplaceAll(strings.TrimSpace(string(out)), ",direct", "")
	temp, err := os.MkdirTemp(folder, "build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	cmd := exec.CommandContext(ctx, "go", "install", "-v", module+"@"+version)
	cmd.Dir = temp // outside of this module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off", "GOBIN="+temp, "GOPROXY="+proxy)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	return os.Rename(filepath.Join(temp, "minio"), path)
}
