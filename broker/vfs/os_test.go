package vfs_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stratabroker/strata/broker/vfs"
)

func TestLockIsHeldOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), ".lock")
	release, err := vfs.Lock(name)
	must(t, err)
	if _, err := vfs.Lock(name); !errors.Is(err, vfs.ErrLocked) || !strings.Contains(err.Error(), name) {
		t.Errorf("second lock: %v", err)
	}
	must(t, release())
	release, err = vfs.Lock(name)
	must(t, err)
	must(t, release())
	if _, err := vfs.Lock(filepath.Join(t.TempDir(), "no", ".lock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lock in a missing folder: %v", err)
	}
}

func TestUnderlyingIsOfTheOSOnly(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	f, ok := vfs.Underlying(open(t, vfs.OS(), name))
	if !ok || f.Name() != name {
		t.Errorf("got %v, %v", f, ok)
	}
	if f, ok := vfs.Underlying(open(t, vfs.NewMem(), "f")); ok || f != nil {
		t.Errorf("of Mem: %v, %v", f, ok)
	}
}

// TestFullDiskIsNoSpace writes to the kernel's file that is always full.
func TestFullDiskIsNoSpace(t *testing.T) {
	f, err := vfs.OS().Open("/dev/full", false)
	must(t, err)
	defer f.Close() //nolint:errcheck // a device
	if _, err := f.WriteAt([]byte{1}, 0); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
}
