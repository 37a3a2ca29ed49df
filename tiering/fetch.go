package tiering

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

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
	slots    *slots // GETs at once; nil for no limit
	quota    *quota // of bytes; nil for none

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
	if f.quota != nil {
		if err := f.quota.take(ctx, n); err != nil {
			return nil, err
		}
	}
	if f.slots != nil {
		if err := f.slots.acquire(ctx); err != nil {
			return nil, err
		}
		defer f.slots.release()
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

// answer is one GET that is read bit by bit.
type answer struct {
	of     *fetcher
	body   io.ReadCloser
	late   *time.Timer // ends the GET once no byte came for a deadline
	cancel context.CancelCauseFunc
	ctx    context.Context //nolint:containedctx // of the request, which goes on after the call that sent it
}

// open sends a GET of n bytes from off. It does not try again. Errors: object.ErrNotFound,
// errDamaged where the object is shorter, outages.
func (f *fetcher) open(ctx context.Context, key string, off, n int64) (*answer, error) {
	a := &answer{of: f}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	a.late = time.AfterFunc(f.deadline, func() { a.cancel(context.DeadlineExceeded) })
	f.gets.Add(1)
	var err error
	if a.body, err = object.OpenRange(a.ctx, f.store, key, off, n); err != nil {
		f.errors.Add(1)
		err = a.explain(err)
		a.close()
		return nil, err
	}
	return a, nil
}

// explain names an error of the store.
func (a *answer) explain(err error) error {
	if errors.Is(err, object.ErrRange) {
		return fmt.Errorf("%w: %w", errDamaged, err) // shorter than its manifest entry says
	}
	if cause := context.Cause(a.ctx); errors.Is(cause, context.DeadlineExceeded) && !errors.Is(err, cause) {
		return fmt.Errorf("%w: nothing came for %v: %w", cause, a.of.deadline, err)
	}
	return err
}

// read fills b with the bytes that come next and checks them.
func (a *answer) read(b []byte, check func([]byte) error) error {
	if a.of.quota != nil {
		a.late.Stop()
		if err := a.of.quota.take(a.ctx, int64(len(b))); err != nil {
			return a.explain(err)
		}
	}
	a.late.Reset(a.of.deadline)
	for n := 0; n < len(b); {
		got, err := a.body.Read(b[n:])
		n += got
		a.of.bytes.Add(int64(got))
		switch {
		case errors.Is(err, io.EOF) && n < len(b):
			a.of.torn.Add(1)
			return fmt.Errorf("%w: answer ends %d bytes early", errDamaged, len(b)-n)
		case err != nil && n < len(b):
			a.of.errors.Add(1)
			return a.explain(err)
		}
	}
	if err := check(b); err != nil {
		a.of.torn.Add(1)
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil
}

// rest stops the clock until the next read.
func (a *answer) rest() { a.late.Stop() }

func (a *answer) close() {
	a.late.Stop()
	if a.body != nil {
		_ = a.body.Close() // it was only read
	}
	a.cancel(nil)
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
