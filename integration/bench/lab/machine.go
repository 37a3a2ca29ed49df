package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stratabroker/strata/integration/bench/report"
)

// Machine describes where and with what is measured.
func (l *Lab) Machine(ctx context.Context) (report.Machine, error) {
	m := report.Machine{
		Cores: runtime.NumCPU(), Go: strings.TrimPrefix(runtime.Version(), "go"),
		Kafka: strings.TrimPrefix(filepath.Base(filepath.Dir(l.KafkaLibs)), "kafka-"),
	}
	total, err := kilobytes("/proc/meminfo", "MemTotal")
	if err != nil {
		return m, err
	}
	m.Memory = fmt.Sprintf("%.0f GiB", float64(total)/(1<<30))
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, err
	}
	m.Kernel = unix.ByteSliceToString(name.Release[:])
	m.CPU = "unknown"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, found := strings.Cut(string(text), "model name"); found {
			line, _, _ := strings.Cut(rest, "\n")
			m.CPU = strings.TrimSpace(strings.TrimLeft(line, "\t :"))
		}
	}
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return m, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	if m.Load, err = strconv.ParseFloat(first, 64); err != nil {
		return m, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(l.Folder, &fs); err != nil {
		return m, err
	}
	m.Disk = fmt.Sprintf("%.0f GB, %s", float64(fs.Blocks)*float64(fs.Bsize)/1e9, fileSystem(fs.Type))
	out, err := exec.CommandContext(ctx, l.Strata, "version").Output()
	if err != nil {
		return m, fmt.Errorf("%s version: %w", l.Strata, err)
	}
	m.Strata, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(out)), "strata "), " ")
	if out, err = exec.CommandContext(ctx, "java", "-version").CombinedOutput(); err != nil {
		return m, fmt.Errorf("java -version: %w", err)
	}
	if fields := strings.SplitN(string(out), `"`, 3); len(fields) == 3 {
		m.Java = fields[1]
	}
	return m, nil
}

func fileSystem(magic int64) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	default:
		return fmt.Sprintf("file system %#x", magic)
	}
}
