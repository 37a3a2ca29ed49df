package broker

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

const (
	leastHandles = 64
	mostHandles  = 1 << 16
	wantedFiles  = 1 << 20
)

// fileHandles is how many log files are kept open: what is set, or, for 0, three
// quarters of what the process may open, the rest being for connections. A log that is
// written to needs its file, so that with fewer handles than busy partitions each
// append opens and syncs one; where the system lets us, its limit is raised.
func fileHandles(set int64, logger *slog.Logger) int {
	if set > 0 {
		return max(leastHandles, int(set))
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return leastHandles
	}
	if limit.Cur < wantedFiles {
		more := unix.Rlimit{Cur: wantedFiles, Max: max(limit.Max, wantedFiles)}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &more) == nil {
			limit = more
		}
	}
	n := int(max(leastHandles, min(limit.Cur/4*3, mostHandles)))
	if n < mostHandles/16 {
		logger.Warn("few files may be open at one time; raise the limit (ulimit -n)", "limit", limit.Cur)
	}
	return n
}
