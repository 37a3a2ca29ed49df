package record_test

import (
	"fmt"
	"testing"

	"github.com/stratabroker/strata/protocol/record"
)

// BenchmarkBatchCheck splits a batch off and checks it, as an append does. Allocations do not grow with bytes.
func BenchmarkBatchCheck(b *testing.B) {
	for _, c := range []struct{ records, size int }{{1, 1 << 10}, {128, 1 << 10}, {1024, 1 << 10}, {1024, 100}} {
		b.Run(fmt.Sprintf("%dx%d", c.records, c.size), func(b *testing.B) {
			builder := record.NewBuilder(0)
			for range c.records {
				builder.Add(record.Record{Value: make([]byte, c.size)})
			}
			bytes := builder.Bytes()
			b.SetBytes(int64(len(bytes)))
			b.ReportAllocs()
			for b.Loop() {
				batch, _, err := record.Split(bytes)
				if err == nil {
					err = batch.Check()
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBatchPatch writes what the log sets in a header: it costs the same for every size.
func BenchmarkBatchPatch(b *testing.B) {
	for _, size := range []int{1 << 10, 128 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			builder := record.NewBuilder(0)
			builder.Add(record.Record{Value: make([]byte, size)})
			batch := builder.Bytes()
			b.ReportAllocs()
			for b.Loop() {
				batch.SetBaseOffset(7)
				batch.SetLeaderEpoch(3)
			}
		})
	}
}
