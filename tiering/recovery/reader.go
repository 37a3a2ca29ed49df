package recovery

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
)

// reader asks the store again after an outage.
type reader struct{ store object.Store }

const (
	tries      = 5
	firstPause = 100 * time.Millisecond // doubles with each try
)

// retry calls do until it succeeds, fails for good, or has been tried enough.
func retry(ctx context.Context, do func() error) error {
	pause := firstPause
	for try := 1; ; try++ {
		err := do()
		final := err == nil || errors.Is(err, object.ErrNotFound) || errors.Is(err, object.ErrRange) || errors.Is(err, object.ErrInvalidKey)
		if final || try == tries || ctx.Err() != nil {
			return err
		}
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		case <-wait.C:
		}
		pause *= 2
	}
}

// get reads n bytes from off.
func (r reader) get(ctx context.Context, key string, off, n int64) (b []byte, err error) {
	err = retry(ctx, func() error {
		b, err = r.store.Get(ctx, key, off, n)
		if err == nil && int64(len(b)) != n {
			err = io.ErrUnexpectedEOF // a torn answer
		}
		return err
	})
	return b, err
}

// all reads a whole object.
func (r reader) all(ctx context.Context, key string, limit int64) (b []byte, err error) {
	err = retry(ctx, func() error {
		b, _, err = r.store.GetAll(ctx, key, limit)
		return err
	})
	return b, err
}

// list lists, and goes on after the last key where an outage broke the list off.
func (r reader) list(ctx context.Context, prefix string) iter.Seq2[object.Info, error] {
	return func(yield func(object.Info, error) bool) {
		after, stopped := "", false
		err := retry(ctx, func() error {
			for info, err := range r.store.List(ctx, prefix, after) {
				if err != nil {
					return err
				}
				if after = info.Key; !yield(info, nil) {
					stopped = true
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(object.Info{}, err)
		}
	}
}

// page is a format.Load.
func (r reader) page(ctx context.Context) format.Load {
	return func(p metadata.PagePlace) ([]byte, error) {
		return r.get(ctx, p.Key, int64(p.Offset), int64(p.Length))
	}
}

// window is how much of an object rangeReader reads at once, in bytes.
const window = 4 << 20

// rangeReader reads an object's first size bytes in order, a window at a time. It is used by one goroutine.
type rangeReader struct {
	reader
	ctx   context.Context // io.ReaderAt has no place for it; a rangeReader lives for one verification
	key   string
	size  int64
	start int64
	buf   []byte
}

// ReadAt reads from the window, which moves to off where it does not hold what is asked for.
func (r *rangeReader) ReadAt(p []byte, off int64) (int, error) {
	if want := min(int64(len(p)), r.size-off); off < r.start || off+want > r.start+int64(len(r.buf)) {
		if want <= 0 {
			return 0, io.EOF
		}
		b, err := r.get(r.ctx, r.key, off, min(max(want, window), r.size-off))
		if err != nil {
			return 0, err
		}
		r.start, r.buf = off, b
	}
	n := copy(p, r.buf[off-r.start:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
