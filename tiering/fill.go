package tiering

import (
	"context"
	"slices"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// fill is one answer in the making.
type fill struct {
	from   protocol.Offset // asked for
	limit  int             // bytes
	minOne bool            // the first batch may be larger than limit
	next   protocol.Offset // where to go on
	full   bool            // no more fits

	out     []byte
	aborted []protocol.AbortedTxn // of all entries read
}

// fromEntry adds what fits of one entry, from next on.
func (f *fill) fromEntry(ctx context.Context, src *source) error {
	pos := src.index.Floor(f.next)
	for pos < src.index.DataBytes() {
		// One GET may bring all that still fits, and the batch that shows that no more does.
		src.expect(int64(max(f.limit-len(f.out), 0)) + record.HeaderLen)
		h, err := src.header(ctx, pos)
		if err != nil {
			return err
		}
		if h.batch.BaseOffset() >= src.entry.End {
			break // the object holds more than the entry covers
		}
		if h.batch.NextOffset() <= f.next {
			pos += h.size
			continue
		}
		if fits := len(f.out)+int(h.size) <= f.limit; !fits && (len(f.out) > 0 || !f.minOne) {
			f.full = true
			return nil
		}
		out, err := src.append(ctx, f.out, pos, h.size)
		if err != nil {
			return err // f.out ends before this batch
		}
		f.out = out
		pos += h.size
		f.next = h.batch.NextOffset()
	}
	f.next = max(f.next, src.entry.End)
	return nil
}

// overlapping lists the aborted transactions that a reader of [from, next) must know, each once:
// one that spans segments is named by each of them.
func (f *fill) overlapping() []protocol.AbortedTxn {
	var out []protocol.AbortedTxn
	for _, a := range f.aborted {
		if a.First < f.next && a.Last >= f.from && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}
