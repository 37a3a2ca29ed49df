package store

import "time"

// Bucket is the token bucket.
type Bucket struct{ tokenBucket }

// SetRate and Reserve are those of the token bucket.
func (b *Bucket) SetRate(bytesPerSecond float64, now time.Time) { b.setRate(bytesPerSecond, now) }

// Reserve takes n bytes and tells how long to wait.
func (b *Bucket) Reserve(n int, now time.Time) time.Duration { return b.reserve(n, now) }

// BehindProxy is a MinIO that has its proxy only, which is started as bench.
func BehindProxy(on *Background, bench, target string) (m *MinIO, endpoint string, err error) {
	m = &MinIO{}
	err = on.Do(func() (err error) {
		m.proxy, endpoint, err = startProxy(bench, target)
		return err
	})
	return m, endpoint, err
}

// ProxyPID is the process of the proxy.
func (m *MinIO) ProxyPID() int { return m.proxy.cmd.Process.Pid }
