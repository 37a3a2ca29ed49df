package tiering_test

import (
	"fmt"
	"testing"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering"
)

// BenchmarkColdFetch reads on through an archive, fetch after fetch of so many bytes, from a store in
// memory that takes no time: what a fetch costs the broker itself.
func BenchmarkColdFetch(b *testing.B) {
	w := archive(b, 1, 4, 64<<20)
	end := w.row(w.key(0)).Manifest.TieredEnd
	for _, size := range []int{64 << 10, 256 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			r := tiering.NewReader(tiering.ReaderConfig{Store: w.bucket, Metadata: w.log, CacheBytes: 32 << 20, IndexCacheBytes: 32 << 20})
			defer r.Close()
			at, read := protocol.Offset(0), 0
			fetch := func() {
				f, err := r.Read(b.Context(), w.key(0), at, size, true)
				if err != nil {
					b.Fatal(err)
				}
				read += len(f.Batches)
				at = f.Next
				f.Release()
				if at == end {
					at = 0
				}
			}
			for at < end/2 { // until the cache is full and its buffers go round
				fetch()
			}
			read = 0
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				fetch()
			}
			b.SetBytes(int64(read / b.N))
		})
	}
}
