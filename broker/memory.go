package broker

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/metadata"
)

const memorySetting = "strata.memory.max.bytes"

// leastMemory is the smallest strata.memory.max.bytes that a broker works with.
const leastMemory = 128 << 20

// MemoryMax is strata.memory.max.bytes in force: what is set, or for 0 half of what the machine or the control
// group of the process has, at least 256 MiB.
func MemoryMax(s *metadata.Static) (int64, error) {
	set := s.Int(memorySetting)
	switch {
	case set >= leastMemory:
		return set, nil
	case set != 0:
		return 0, fmt.Errorf("%s=%d: at least %d, or 0 for half of the machine's memory", memorySetting, set, leastMemory)
	}
	return max(256<<20, machineMemory(groupLimit())/2), nil
}

// machineMemory is what the machine has in bytes, or the limit of the control group where that is less; limit 0 means none.
func machineMemory(limit int64) int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return limit
	}
	total := int64(info.Totalram) * int64(info.Unit)
	if limit > 0 {
		return min(total, limit)
	}
	return total
}

// groupLimit is memory.max of the process's control group (version 2), as a container sees it; 0 where there is none.
func groupLimit() int64 {
	b, err := os.ReadFile("/sys/fs/cgroup/memory.max")
	if err != nil {
		return 0
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0 // "max"
	}
	return limit
}

// Shares of strata.memory.max.bytes.
const (
	producerShare = 8 // an eighth is for producers that are remembered
	groupShare    = 8 // an eighth for groups and what they committed
	requestShare  = 4 // at most a quarter for requests and answers
)

// mostProducers is how many producers all partitions together may remember.
func mostProducers(memory int64) int64 { return memory / producerShare / log.ProducerBytes }
