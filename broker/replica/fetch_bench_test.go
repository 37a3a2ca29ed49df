package replica_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stratabroker/strata/broker/replica"
)

// BenchmarkFetchPlan answers a fetch of partitions that all have data: what is found are ranges of
// files, so that neither time nor allocations grow with their bytes.
func BenchmarkFetchPlan(b *testing.B) {
	for _, partitions := range []int32{1, 6, 50} {
		for _, size := range []int{1 << 10, 128 << 10, 1000 << 10} {
			w := newWorld(b)
			leaders := w.topic("t", partitions)
			written := make(chan error, partitions)
			for _, l := range leaders {
				l.Append(batch(1, size), replica.AcksAll, time.Now(), func(_ replica.Appended, err error) { written <- err })
			}
			for range leaders {
				if err := <-written; err != nil {
					b.Fatal(err)
				}
			}
			parts := make([]replica.FetchPartition, 0, partitions)
			for _, l := range leaders {
				parts = append(parts, part(l, 0, 2<<20))
			}
			got := make(chan []replica.FetchResult, 1)
			q := replica.FetchRequest{
				FetchOptions: replica.FetchOptions{MinBytes: 1, MaxBytes: 256 << 20}, Put: parts,
				Reply: func(r []replica.FetchResult) { got <- r },
			}
			hear := func(b *testing.B) {
				b.Helper()
				found := int32(0)
				for _, r := range <-got {
					if r.Err != nil || r.Records.Len() < size {
						b.Fatalf("%+v", r)
					}
					r.Records.Release()
					found++
				}
				if found != partitions {
					b.Fatalf("%d of %d partitions", found, partitions)
				}
			}
			b.Run(fmt.Sprintf("partitions=%d/bytes=%d/sessionless", partitions, size), func(b *testing.B) {
				b.ReportAllocs()
				q := q
				q.Full = true
				for b.Loop() {
					set := w.set()
					set.Fetch(q)
					hear(b)
					set.Close()
				}
			})
			b.Run(fmt.Sprintf("partitions=%d/bytes=%d/session", partitions, size), func(b *testing.B) {
				s := newSession(b, w)
				b.ReportAllocs()
				for b.Loop() {
					s.set.Fetch(q)
					hear(b)
				}
			})
		}
	}
}
