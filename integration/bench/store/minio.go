package store

import (
	"context"
	"errors"
	"fmt"
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

// Start starts all three.
func Start(ctx context.Context) (_ *MinIO, err error) {
	m := &MinIO{}
	if m.server, err = startProcess(ctx); err != nil {
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
	var ranges []segmentRange
	for info, err := range m.bucket.List(ctx, "data/", "") {
		if err != nil {
			return 0, err
		}
		for at := int64(0); at+size <= info.Size; at += size {
			ranges = append(ranges, segmentRange{info.Key, at})
		}
	}
	if len(ranges) == 0 {
		return 0, fmt.Errorf("the bucket holds no object of %d bytes", size)
	}
	var next, read atomic.Int64
	begun := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range connections {
		group.Go(func() error {
			for read.Load() < total {
				r := ranges[int(next.Add(1)-1)%len(ranges)]
				if _, err := m.bucket.Get(ctx, r.key, r.at, size); err != nil {
					return err
				}
				read.Add(size)
			}
			return nil
		})
	}
	err := group.Wait()
	return float64(read.Load()) / time.Since(begun).Seconds(), err
}

type segmentRange struct {
	key string
	at  int64
}
