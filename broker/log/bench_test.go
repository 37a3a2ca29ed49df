package log_test

import (
	"strings"
	"testing"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

var benchConfig = log.Config{SegmentBytes: 64 << 20, IndexIntervalBytes: 4096, IndexMaxBytes: 10 << 20}

// BenchmarkAppend appends batches of 16 records of 1 KiB, without waiting for their sync.
func BenchmarkAppend(b *testing.B) {
	w := start(b, vfs.OS(), func(c *log.DirConfig) { c.Path = b.TempDir() })
	p := w.open(benchConfig)
	batch := plain(1, strings.Split(strings.Repeat(strings.Repeat("x", 1024)+" ", 16), " ")...)
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for b.Loop() {
		must(p.Append(batch, 1, log.AppendOptions{Client: true}))(b)
	}
	check(b, w.dir.Close(true))
}

// BenchmarkRead reads 64 KiB from the middle of a log of small batches.
func BenchmarkRead(b *testing.B) {
	w := start(b, vfs.OS(), func(c *log.DirConfig) { c.Path = b.TempDir() })
	p := w.open(benchConfig)
	for range 20_000 {
		p.add(1, strings.Repeat("x", 200))
	}
	b.ReportAllocs()
	at := protocol.Offset(0)
	for b.Loop() {
		s := must(p.Read(at, p.LEO(), 64<<10, true))(b)
		b.SetBytes(int64(s.Len()))
		if at = s.Next(); at == p.LEO() {
			at = 0
		}
		s.Release()
	}
	check(b, w.dir.Close(true))
}
