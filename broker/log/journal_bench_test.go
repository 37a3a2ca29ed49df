package log_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

// diskDir is a folder beside the sources: the temporary one may be memory.
func diskDir(b *testing.B) string {
	b.Helper()
	dir := fmt.Sprintf("bench-%d", time.Now().UnixNano())
	check(b, os.Mkdir(dir, 0o755))
	b.Cleanup(func() { check(b, os.RemoveAll(dir)) })
	return dir
}

// BenchmarkCommit appends once to each partition and waits until all are durable,
// on a disk: by the files, and through the journal.
func BenchmarkCommit(b *testing.B) {
	for _, c := range []struct{ partitions, size int }{
		{1, 100}, {2, 100}, {4, 100}, {8, 100}, {16, 100}, {1, 16 << 10}, {8, 16 << 10}, {1, 128 << 10}, {6, 128 << 10}, {100, 1024}, {1000, 1024},
	} {
		for _, path := range []log.CommitPath{log.CommitFile, log.CommitJournal, log.CommitAuto} {
			b.Run(fmt.Sprintf("%dx%d/%s", c.partitions, c.size, path), func(b *testing.B) { benchCommit(b, c.partitions, c.size, path) })
		}
	}
}

func benchCommit(b *testing.B, partitions, size int, path log.CommitPath) {
	b.Helper()
	w := start(b, vfs.OS(), func(c *log.DirConfig) { c.Path, c.MaxOpenFiles = diskDir(b), 2048 }, commitBy(path))
	parts := make([]*part, partitions)
	batch := plain(1, strings.Repeat("x", size))
	for i := range parts {
		parts[i] = must(w.tryOpen("t", protocol.PartitionKey{Topic: topicID, Partition: int32(i)}, benchConfig, log.Init{}))(b)
		must(parts[i].Append(batch, 1, log.AppendOptions{Client: true}))(b)
		parts[i].flush()
	}
	b.SetBytes(int64(partitions * len(batch)))
	b.ReportAllocs()
	for b.Loop() {
		for _, p := range parts {
			must(p.Append(batch, 1, log.AppendOptions{Client: true}))(b)
		}
		for _, p := range parts {
			p.waitFor("the append", func() bool { return protocol.Offset(p.reported.Load()) >= p.LEO() })
		}
	}
	check(b, w.dir.Close(false))
}

// BenchmarkCommitClients has 64 clients that append 1 KiB, each to a partition of 1,000 of its own
// choice, and wait for it.
func BenchmarkCommitClients(b *testing.B) {
	const partitions, clients = 1000, 64
	for _, path := range []log.CommitPath{log.CommitFile, log.CommitJournal} {
		b.Run(string(path), func(b *testing.B) {
			w := start(b, vfs.OS(), func(c *log.DirConfig) { c.Path, c.MaxOpenFiles = diskDir(b), 4096 }, commitBy(path))
			parts := make([]*part, partitions)
			for i := range parts {
				parts[i] = must(w.tryOpen("t", protocol.PartitionKey{Topic: topicID, Partition: int32(i)}, benchConfig, log.Init{}))(b)
				parts[i].add(1, "first")
				parts[i].flush()
			}
			b.ResetTimer()
			var wg sync.WaitGroup
			for c := range clients {
				wg.Go(func() {
					batch := plain(1, strings.Repeat("x", 1024))
					for i := c; i < b.N; i += clients {
						p := parts[i*7919%partitions]
						info := must(p.Append(batch, 1, log.AppendOptions{Client: true}))(b)
						p.waitFor("the append", func() bool { return protocol.Offset(p.reported.Load()) >= info.Next })
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			check(b, w.dir.Close(false))
		})
	}
}
