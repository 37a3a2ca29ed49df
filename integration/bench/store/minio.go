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

// MinIO is a server with one bucket, seen through a Proxy. Server and proxy are processes of their own.
type MinIO struct {
	URL string   // of the bucket, through the proxy
	Env []string // what a program needs in its environment to use it

	server *minio.Server
	proxy  *proxyProcess
	bucket object.Store // through the proxy
}

// Start starts the processes, on the background if one is given. bench is this program.
func Start(ctx context.Context, bench string, on *Background) (_ *MinIO, err error) {
	m := &MinIO{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	var endpoint string
	err = on.Do(func() (err error) {
		if m.server, err = startProcess(ctx); err == nil {
			m.proxy, endpoint, err = startProxy(bench, m.server.Endpoint)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	u, err := m.server.NewBucket(ctx)
	if err != nil {
		return nil, err
	}
	u.Endpoint = endpoint
	m.URL, m.Env = u.String(), m.server.Env()
	m.bucket, err = m.server.Open(ctx, u)
	return m, err
}

// Throttle holds the bytes of answers, of all connections together, to so many a second; 0 is no limit.
func (m *MinIO) Throttle(bytesPerSecond float64) error {
	_, err := m.proxy.do(order{Rate: &bytesPerSecond})
	return err
}

// Counts are the requests so far, and the bytes of their answers.
func (m *MinIO) Counts() (Counts, int64, error) {
	s, err := m.proxy.do(order{})
	return s.Counts, s.Bytes, err
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

// Close stops both processes; the data is gone.
func (m *MinIO) Close() error {
	var errs []error
	if m.bucket != nil {
		errs = append(errs, m.bucket.Close())
	}
	if m.proxy != nil {
		errs = append(errs, m.proxy.close())
	}
	if m.server != nil {
		errs = append(errs, m.server.Stop())
	}
	return errors.Join(errs...)
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
