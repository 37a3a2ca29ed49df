package store

import "time"

// Bucket is the token bucket.
type Bucket struct{ tokenBucket }

// SetRate and Reserve are those of the token bucket.
func (b *Bucket) SetRate(bytesPerSecond float64, now time.Time) { b.setRate(bytesPerSecond, now) }

// Reserve takes n bytes and tells how long to wait.
func (b *Bucket) Reserve(n int, now time.Time) time.Duration { return b.reserve(n, now) }
