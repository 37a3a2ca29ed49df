package log_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

// BenchmarkAppendBatch appends one batch at a time to a log on a disk: without a wait, and until it is durable.
// Allocations do not grow with bytes.
func BenchmarkAppendBatch(b *testing.B) {
	ways := []struct {
		name string
		set  option
	}{{"cache", replicated}, {"file", commitBy(log.CommitFile)}, {"journal", commitBy(log.CommitJournal)}}
	for _, size := range []int{1 << 10, 128 << 10, 1 << 20} {
		batch := plain(1, strings.Repeat("x", size))
		for _, way := range ways {
			b.Run(fmt.Sprintf("bytes=%d/%s", size, way.name), func(b *testing.B) {
				w := start(b, vfs.OS(), func(c *log.DirConfig) { c.Path = diskDir(b) }, way.set)
				p := w.open(benchConfig)
				add := func() {
					info := must(p.Append(batch, 1, log.AppendOptions{Client: true}))(b)
					p.waitFor("the append", func() bool { return protocol.Offset(p.reported.Load()) >= info.Next })
				}
				for range 4 { // buffers that are kept are not counted
					add()
				}
				b.SetBytes(int64(len(batch)))
				b.ReportAllocs()
				for b.Loop() {
					add()
				}
				check(b, w.dir.Close(false))
			})
		}
	}
}

// BenchmarkReadRandom looks up offsets at random and reads one batch there. The log has
// so many segments, each with so many batches and an index entry for every second.
func BenchmarkReadRandom(b *testing.B) {
	for _, c := range []struct{ segments, batches int }{{1, 1000}, {1, 30_000}, {10, 200}, {100, 200}, {1000, 200}} {
		b.Run(fmt.Sprintf("segments=%d/batches=%d", c.segments, c.batches), func(b *testing.B) {
			p := stockedLog(b, c.segments, c.batches)
			end := int64(p.LEO())
			random := rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			for b.Loop() {
				at := protocol.Offset(random.Int64N(end))
				s := must(p.Read(at, p.LEO(), 1, true))(b)
				if s.First() != at {
					b.Fatalf("asked for %d, got %d", at, s.First())
				}
				s.Release()
			}
		})
	}
}

// BenchmarkReadSizes reads from the start of a log as much as a fetch allows: it costs
// two look-ups, whatever the size.
func BenchmarkReadSizes(b *testing.B) {
	p := stockedLog(b, 1, 30_000)
	for _, size := range []int{1 << 10, 128 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s := must(p.Read(100, p.LEO(), size, true))(b)
				if s.Len() < size/2 {
					b.Fatalf("%d bytes of %d", s.Len(), size)
				}
				s.Release()
			}
		})
	}
}

// stockedLog is a log of small batches whose files stay open.
func stockedLog(b *testing.B, segments, batches int) *part {
	b.Helper()
	w := start(b, vfs.OS(), func(c *log.DirConfig) { c.Path, c.MaxOpenFiles = b.TempDir(), 4096 }, replicated)
	b.Cleanup(func() { check(b, w.dir.Close(false)) })
	batch := plain(1, strings.Repeat("x", 200))
	cfg := benchConfig
	cfg.IndexIntervalBytes = int64(len(batch))
	p := w.open(cfg)
	run := make([]byte, 0, 100*len(batch))
	for range 100 {
		run = append(run, batch...)
	}
	for i := range segments {
		if i > 0 {
			check(b, p.Roll())
		}
		for range batches / 100 {
			must(p.Append(run, 1, log.AppendOptions{}))(b)
		}
	}
	if p.Segments() != segments {
		b.Fatalf("%d segments, not %d", p.Segments(), segments)
	}
	return p
}
