package tiering

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/object"
)

// compactTries is how often a compaction asks for the same bytes while the store does not answer: a pass begun
// anew costs more than waiting for some minutes.
const compactTries = 8

// index reads an entry's index, beside the reader's cache.
func (c *Compactor) index(ctx context.Context, e format.Entry) (x *format.Index, err error) {
	for try := 1; ; try++ {
		_, err = c.fetch.get(ctx, e.ObjectKey, e.IndexOffset, int64(e.IndexLength), func(b []byte) (err error) {
			x, err = format.DecodeIndex(b, e)
			return err
		})
		if err == nil {
			return x, nil
		}
		if !c.again(ctx, err, try) {
			return nil, c.judged(e, fmt.Errorf("index of [%d, %d): %w", e.Base, e.End, err))
		}
	}
}

// again tells whether what failed is worth another try, and waits for it.
func (c *Compactor) again(ctx context.Context, err error, try int) bool {
	if errors.Is(err, object.ErrNotFound) || errors.Is(err, errDamaged) || try == compactTries || ctx.Err() != nil {
		return false
	}
	return sleep(ctx, c.backoff.after(try)) == nil
}

// judged says what a failed read of an entry means: damage where the current manifest still lists it.
func (c *Compactor) judged(e format.Entry, err error) error {
	switch {
	case errors.Is(err, errDamaged), errors.Is(err, format.ErrCorrupt):
		return &damagedError{e, err}
	case !errors.Is(err, object.ErrNotFound):
		return err
	}
	return &missingError{e, err}
}

// missingError is an object that was not there. Whether that is damage the manifest that is current then tells.
type missingError struct {
	entry format.Entry
	err   error
}

func (e *missingError) Error() string { return e.err.Error() }
func (e *missingError) Unwrap() error { return e.err }

// batches yields the batches of an entry that hold or follow an offset, in order, out of one GET as a rule. A batch
// is valid until the next one is asked for. It holds one chunk and the batch. An error ends it.
func (c *Compactor) batches(ctx context.Context, e format.Entry, x *format.Index, from protocol.Offset) iter.Seq2[record.Batch, error] {
	return func(yield func(record.Batch, error) bool) {
		s := &objectStream{Compactor: c, entry: e, index: x}
		defer s.close()
		pos := x.Floor(from)
		chunk := int(pos / int64(e.ChunkSize))
		skip := pos - int64(chunk)*int64(e.ChunkSize)
		var buf, rest []byte // what is not yielded yet, and its end
		for ; chunk < x.Chunks(); chunk++ {
			b, err := s.chunk(ctx, chunk)
			if err != nil {
				yield(nil, c.judged(e, err))
				return
			}
			buf = append(buf[:copy(buf, rest)], b[skip:]...)
			rest, skip = buf, 0
			for len(rest) > 0 {
				batch, after, err := record.Split(rest)
				if errors.Is(err, record.ErrShort) {
					break
				}
				if err != nil {
					yield(nil, &damagedError{e, err})
					return
				}
				if batch.NextOffset() > max(from, e.Base) && !yield(batch, nil) {
					return
				}
				rest = after
			}
		}
		if len(rest) > 0 {
			yield(nil, &damagedError{e, fmt.Errorf("%d bytes after the last batch", len(rest))})
		}
	}
}

// objectStream reads an object's chunks in order, checks them, and goes on with another GET where one breaks off.
type objectStream struct {
	*Compactor
	entry  format.Entry
	index  *format.Index
	answer *answer
	buf    []byte
}

func (s *objectStream) close() {
	if s.answer != nil {
		s.answer.close()
		s.answer = nil
	}
}

// chunk gives chunk i, until the next call.
func (s *objectStream) chunk(ctx context.Context, i int) ([]byte, error) {
	off, n := s.index.ChunkRange(i)
	if s.buf == nil {
		s.buf = make([]byte, min(int64(s.entry.ChunkSize), s.index.DataBytes()))
	}
	if s.answer != nil {
		s.answer.rest() // waiting for the pace is not the store's fault
	}
	if err := s.pace.spend(ctx, n); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		err := s.try(ctx, i, off, s.buf[:n])
		if err == nil {
			s.stats.bytesRead.Add(n)
			return s.buf[:n], nil
		}
		s.close()
		again := s.again(ctx, err, try)
		if errors.Is(err, errDamaged) && try < getTries { // the answer may have been damaged, not the object
			again = sleep(ctx, s.fetch.backoff.after(try)) == nil
		}
		if !again {
			return nil, fmt.Errorf("get chunk %d of %s, try %d: %w", i, s.entry.ObjectKey, try, err)
		}
	}
}

func (s *objectStream) try(ctx context.Context, i int, off int64, b []byte) error {
	if s.answer == nil {
		a, err := s.fetch.open(ctx, s.entry.ObjectKey, off, s.index.DataBytes()-off)
		if err != nil {
			return err
		}
		s.answer = a
	}
	return s.answer.read(b, func(b []byte) error { return s.index.CheckChunk(i, b) })
}
