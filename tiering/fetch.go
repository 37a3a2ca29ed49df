package tiering

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
)

// errDamaged means that the store gave other bytes than were written, each time it was asked.
var errDamaged = errors.New("object is damaged")

const (
	getTries        = 3
	getBackoff      = 50 * time.Millisecond
	getBackoffMax   = time.Second
	defaultDeadline = 30 * time.Second
)

// fetcher reads ranges of objects: with a deadline for each GET, again after an
// outage, and again when an answer is torn: a proxy or a lost connection may cut or
// spoil one answer of an object that is whole.
type fetcher struct {
	store    object.Store
	deadline time.Duration
	backoff  backoff
	slots    *semaphore.Weighted // GETs at once; nil for no limit

	gets, bytes, errors, torn counter
}

func newFetcher(store object.Store, deadline time.Duration, rand func() uint64) *fetcher {
	return &fetcher{
		store: store, deadline: or(deadline, defaultDeadline),
		backoff: backoff{first: getBackoff, most: getBackoffMax, rand: orRand(rand)},
	}
}

// get reads n bytes from off and checks them. Errors: object.ErrNotFound at
// once; errDamaged for bytes that are missing or wrong however often they are asked for; else the last outage, or ctx's.
func (f *fetcher) get(ctx context.Context, key string, off, n int64, check func([]byte) error) ([]byte, error) {
	for try := 1; ; try++ {
		b, err := f.once(ctx, key, off, n, check)
		switch {
		case err == nil:
			return b, nil
		case errors.Is(err, object.ErrNotFound):
			return nil, fmt.Errorf("get [%d, +%d) of %s: %w", off, n, key, err)
		case try == getTries || ctx.Err() != nil:
			return nil, fmt.Errorf("get [%d, +%d) of %s, try %d: %w", off, n, key, try, err)
		}
		if err := sleep(ctx, f.backoff.after(try)); err != nil {
			return nil, err
		}
	}
}

func (f *fetcher) once(ctx context.Context, key string, off, n int64, check func([]byte) error) ([]byte, error) {
	if f.slots != nil {
		if err := f.slots.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		defer f.slots.Release(1)
	}
	ctx, cancel := context.WithTimeout(ctx, f.deadline)
	defer cancel()
	f.gets.Add(1)
	b, err := f.store.Get(ctx, key, off, n)
	if errors.Is(err, object.ErrRange) {
		err = fmt.Errorf("%w: %w", errDamaged, err) // shorter than its manifest entry says
	}
	if err != nil {
		f.errors.Add(1)
		return nil, err
	}
	f.bytes.Add(int64(len(b)))
	if int64(len(b)) != n {
		f.torn.Add(1)
		return nil, fmt.Errorf("%w: %d bytes instead of %d", errDamaged, len(b), n)
	}
	if err := check(b); err != nil {
		f.torn.Add(1)
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return b, nil
}

// page reads one page of a manifest or a whole root.
func (f *fetcher) page(ctx context.Context, p metadata.PagePlace) ([]byte, error) {
	return f.get(ctx, p.Key, int64(p.Offset), int64(p.Length), func(b []byte) error { return checkCRC(b, p.CRC) })
}

func checkCRC(b []byte, want uint32) error {
	if got := record.CRC(b); got != want {
		return fmt.Errorf("CRC is %08x, want %08x", got, want)
	}
	return nil
}

// load adapts page to package format.
func (f *fetcher) load(ctx context.Context) format.Load {
	return func(p metadata.PagePlace) ([]byte, error) { return f.page(ctx, p) }
}
