package store

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/objecttest/minio"
)

// MinIO is a server with one bucket, seen through a Proxy.
type MinIO struct {
	*Proxy
	URL string   // of the bucket, through the proxy
	Env []string // what a program needs in its environment to use it

	server *minio.Server
	bucket object.Store // through the proxy
}

// Start starts all three, the server on the background if one is given.
func Start(ctx context.Context, on *Background) (_ *MinIO, err error) {
	m := &MinIO{}
	start := func() error {
		m.server, err = startProcess(ctx)
		return err
	}
	if on != nil {
		err = on.Do(start)
	} else {
		err = start()
	}
	if err != nil {
		return nil, err
	}
	u, err := m.server.NewBucket(ctx)
	if err == nil {
		m.Proxy, err = NewProxy(ctx, m.server.Endpoint)
	}
	if err != nil {
		return nil, errors.Join(err, m.server.Stop())
	}
	u.Endpoint = m.Endpoint
	m.URL, m.Env = u.String(), m.server.Env()
	if m.bucket, err = m.server.Open(ctx, u); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// startProcess starts the server as a process: a container's network would be measured too.
func startProcess(ctx context.Context) (*minio.Server, error) {
	const asProcess = "STRATA_MINIO_PROCESS"
	if err := os.Setenv(asProcess, "1"); err != nil {
		return nil, err
	}
	server, err := minio.Start(ctx)
	// A broker that inherits it refuses a setting of that name.
	return server, errors.Join(err, os.Unsetenv(asProcess))
}

// Close stops all three; the data is gone.
func (m *MinIO) Close() error {
	var err error
	if m.bucket != nil {
		err = m.bucket.Close()
	}
	m.Proxy.Close()
	return errors.Join(err, m.server.Stop())
}

// ReadRate reads segment objects with ranged GETs of size bytes, on so many
// connections at once, until it has total bytes, and tells the bytes a second.
func (m *MinIO) ReadRate(ctx context.Context, connections int, size, total int64) (float64, error) {
	ranges, err := m.ranges(ctx, size)
	if err != nil {
		return 0, err
	}
	var next, read atomic.Int64
	begun := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range connections {
		group.Go(func() error {
			for read.Load() < total {
				r := ranges[int(next.Add(1)-1)%len(ranges)]
				if _, err := m.bucket.Get(ctx, r.key, r.at, r.size); err != nil {
					return err
				}
				read.Add(r.size)
			}
			return nil
		})
	}
	err = group.Wait()
	return float64(read.Load()) / time.Since(begun).Seconds(), err
}

// Warm reads all segment objects once, so that the server has them in the page cache and leaves the disk alone.
func (m *MinIO) Warm(ctx context.Context, connections int, size int64) error {
	ranges, err := m.ranges(ctx, size)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(connections)
	for _, r := range ranges {
		group.Go(func() error {
			_, err := m.bucket.Get(ctx, r.key, r.at, r.size)
			return err
		})
	}
	return group.Wait()
}

// ranges cuts all segment objects into ranges of at most size bytes.
func (m *MinIO) ranges(ctx context.Context, size int64) (ranges []segmentRange, err error) {
	for info, err := range m.bucket.List(ctx, "data/", "") {
		if err != nil {
			return nil, err
		}
		for at := int64(0); at < info.Size; at += size {
			ranges = append(ranges, segmentRange{info.Key, at, min(size, info.Size-at)})
		}
	}
	if len(ranges) == 0 {
		return nil, errors.New("the bucket holds no segment")
	}
	return ranges, nil
}

type segmentRange struct {
	key      string
	at, size int64
}
