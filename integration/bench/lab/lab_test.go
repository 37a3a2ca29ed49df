package lab_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stratabroker/strata/integration/bench/lab"
)

func TestCPUTimeIsReadPastAnyName(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 1234 66 0 0 20 0 30 0 100"
	for _, name := range []string{"(java)", "(a b) c)", "()"} {
		if got, err := lab.ParseStat("77 " + name + rest); err != nil || got != 13 {
			t.Errorf("%s: %v s, %v, want 13", name, got, err)
		}
	}
	if _, err := lab.ParseStat("77 (java) S 1"); err == nil {
		t.Error("a line that is cut short is taken")
	}
}

func TestKilobytesAreBytes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "status")
	if err := os.WriteFile(file, []byte("Name:\tx\nVmRSSx:\t    9 kB\nVmRSS:\t  1024 kB\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := lab.Kilobytes(file, "VmRSS"); err != nil || got != 1<<20 {
		t.Errorf("%d, %v, want 1 MiB", got, err)
	}
	if _, err := lab.Kilobytes(file, "VmSwap"); err == nil {
		t.Error("a name that is not there is found")
	}
}

func TestATopicsFoldersAreToldFromThoseOfOthers(t *testing.T) {
	for name, want := range map[string]bool{
		"bench-0": true, "bench-12": true, "bench-3.0123456789abcdef0123456789abcdef-delete": true,
		"bench-two-0": false, "bench": false, "bench-": false, "bench-x": false, "other-0": false, "mybench-0": false, "bench-two-1.0f-delete": false,
	} {
		if got := lab.FolderOf(name, "bench"); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestARowThatLacksDiskIsRefusedWithWhatItNeeds(t *testing.T) {
	l := &lab.Lab{Folder: t.TempDir()}
	if err := l.NeedDisk(1); err != nil {
		t.Errorf("a byte: %v", err)
	}
	const much = 1 << 60
	err := l.NeedDisk(much)
	if err == nil || !strings.Contains(err.Error(), l.Folder) || !strings.Contains(err.Error(), "-work") || !strings.Contains(err.Error(), "1152921505 GB") {
		t.Errorf("an EiB: %v", err)
	}
}
