package format_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
)

// BenchmarkManifest is what a manifest of so many segments costs: to find an offset, one after the other and at
// random, with every page decoded anew, and to add a segment.
func BenchmarkManifest(b *testing.B) {
	for _, segments := range []int{1_000, 10_000, 100_000, 1_000_000} {
		tr := longTree(b, segments)
		random := rand.New(rand.NewPCG(1, 2))
		find := func(next func(at int) int) func(*testing.B) {
			return func(b *testing.B) {
				b.Helper()
				read := int64(0)
				load := func(p metadata.PagePlace) ([]byte, error) {
					read += int64(p.Length)
					return tr.load(p)
				}
				b.ReportAllocs()
				for at := 0; b.Loop(); at = next(at) {
					o := protocol.Offset(at) * spanOfEntry
					if e, ok, err := tr.Find(load, o); !ok || err != nil || e.Base != o {
						b.Fatal(e, ok, err)
					}
				}
				b.ReportMetric(float64(read)/float64(b.N), "page-B/op")
			}
		}
		b.Run(fmt.Sprintf("segments=%d/sequential", segments), find(func(at int) int { return (at + 1) % segments }))
		b.Run(fmt.Sprintf("segments=%d/random", segments), find(func(int) int { return random.IntN(segments) }))
		b.Run(fmt.Sprintf("segments=%d/append", segments), func(b *testing.B) {
			e := format.Edit{Append: []format.Entry{longEntry(segments)}}
			key := format.ManifestKey(testKey(0), tr.Version+1, metadata.Attempt{Generation: 1, Index: 2000}, 1)
			written := 0
			b.ReportAllocs()
			for b.Loop() {
				v, err := tr.Apply(tr.load, e, key, tr.Version+1)
				if err != nil {
					b.Fatal(err)
				}
				written += len(v.Object)
			}
			b.ReportMetric(float64(written)/float64(b.N), "written-B/op")
		})
	}
}

const spanOfEntry = 100

// longEntry is the i-th entry of a long tree.
func longEntry(i int) format.Entry {
	meta := format.SegmentMeta{
		Key: testKey(0), Base: protocol.Offset(i) * spanOfEntry, End: protocol.Offset(i+1) * spanOfEntry,
		Attempt: metadata.Attempt{Generation: 1, Index: uint64(i)}, Rand: uint64(i) * 0x9e3779b97f4a7c15,
	}
	return format.Entry{
		ObjectKey: meta.ObjectKey(), Base: meta.Base, End: meta.End, MaxTimestamp: protocol.Timestamp(i),
		DataBytes: 64 << 20, IndexOffset: 64 << 20, IndexLength: 4096, ObjectSize: 64<<20 + 4096,
		ChunkSize: format.DefaultChunkSize, Records: spanOfEntry, Attempt: meta.Attempt,
	}
}

// longTree has so many entries of spanOfEntry offsets each.
func longTree(tb testing.TB, segments int) *tree {
	tb.Helper()
	entries := make([]format.Entry, segments)
	for i := range entries {
		entries[i] = longEntry(i)
	}
	tr := newTree(0)
	tr.edit(tb, format.Edit{Append: entries})
	return tr
}
