package load

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets whose width is 1/64 of their value at
// most, from a microsecond on. The zero value is ready.
type histogram struct {
	counts [64 * 64]int64
	total  int64
}

const subBits = 6

// bucket is the number of the bucket of a value in microseconds.
func bucket(v uint64) int {
	if v < 1<<subBits {
		return int(v)
	}
	exponent := bits.Len64(v) - 1 - subBits
	return (exponent+1)<<subBits + int(v>>exponent)&(1<<subBits-1)
}

// upper is the largest value in a bucket.
func upper(bucket int) uint64 {
	exponent := bucket>>subBits - 1
	if exponent < 0 {
		return uint64(bucket)
	}
	return (uint64(bucket&(1<<subBits-1))+1<<subBits+1)<<exponent - 1
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(uint64(max(d.Microseconds(), 0)))]++
	h.total++
}

// quantile is the smallest value that at least q of all do not exceed, in
// milliseconds; 0 where there are none.
func (h *histogram) quantile(q float64) float64 {
	rank := max(int64(q*float64(h.total)+0.999999), 1)
	for i, seen := 0, int64(0); i < len(h.counts); i++ {
		if seen += h.counts[i]; seen >= rank {
			return float64(upper(i)) / 1000
		}
	}
	return 0
}
