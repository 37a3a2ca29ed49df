package log_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

// BenchmarkCommitLatency appends 16 KiB to one of six partitions at a fixed rate, whether or not
// what came before is durable, on a disk. It is long enough from -benchtime=20000x on: by then the
// journal has been full, its logs were synced and its segments went.
func BenchmarkCommitLatency(b *testing.B) {
	for _, path := range []log.CommitPath{log.CommitFile, log.CommitAuto} {
		for _, rate := range []int{500, 1500} {
			b.Run(fmt.Sprintf("%d-a-second/%s", rate, path), func(b *testing.B) { benchLatency(b, rate, path) })
		}
	}
}

func benchLatency(b *testing.B, rate int, path log.CommitPath) {
	b.Helper()
	const partitions, size = 6, 16 << 10
	w := start(b, vfs.OS(), func(c *log.DirConfig) { c.Path, c.MaxOpenFiles = diskDir(b), 2048 }, commitBy(path))
	w.dir.SetPoints(time.Second, 20, 256<<20)
	parts := make([]*part, partitions)
	for i := range parts {
		parts[i] = must(w.tryOpen("t", protocol.PartitionKey{Topic: topicID, Partition: int32(i)}, benchConfig, log.Init{}))(b)
		parts[i].add(1, "first")
		parts[i].flush()
	}
	value := strings.Repeat("x", size)
	took := make([]time.Duration, b.N)
	var wg sync.WaitGroup
	b.ResetTimer()
	begin := time.Now()
	for i := range took {
		due := begin.Add(time.Duration(i) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(due))
		wg.Go(func() {
			p := parts[i%partitions]
			info := must(p.Append(plain(1, value), 1, log.AppendOptions{Client: true}))(b)
			p.waitFor("the append", func() bool { return protocol.Offset(p.reported.Load()) >= info.Next })
			took[i] = time.Since(due)
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	for name, at := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99, "p99.9-ms": 0.999, "max-ms": 1} {
		b.ReportMetric(took[min(int(at*float64(b.N)), b.N-1)].Seconds()*1000, name)
	}
	check(b, w.dir.Close(true))
}
