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
	share  *share          // of AnswerBytes: holds limit at first, then cap(out)
	window int64           // bytes that may be loaded from where the call reads on
	stream bool            // the read continues another
	coming int64           // bytes of the entry that holds from and of those after it, as far as limit may reach

	out     []byte
	aborted []protocol.AbortedTxn // of all entries read
}

// fromEntry adds what fits of one entry, from next on.
func (f *fill) fromEntry(ctx context.Context, src *source) error {
	pos := src.index.Floor(f.next)
	for pos < src.index.DataBytes() {
		// One GET may bring all that still fits, and the batch that shows that no more does.
		src.expect(pos, int64(max(f.limit-len(f.out), 0))+record.HeaderLen)
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
		if f.out == nil {
			f.open(pos, h.size)
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

// open makes the buffer when the first batch, at pos of its object, is known. It is made once: a buffer that
// grows holds its old and its new self for a while, which no share would cover.
func (f *fill) open(pos, first int64) {
	n := max(min(int64(f.limit), f.coming-pos), first)
	f.out = f.share.open(n)
}

// settle leaves the share at what the answer really holds. One that was cut
// short, by a deadline or an outage, moves into a buffer of its size.
func (f *fill) settle() {
	if len(f.out) < cap(f.out)/2 {
		f.out = f.share.shrink(f.out)
	}
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
