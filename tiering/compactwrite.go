package tiering

import (
	"fmt"
	"slices"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/compact"
	"github.com/stratabroker/strata/tiering/format"
)

// output is what one step leaves of its entries: the batches in a spool, and what the object says beside them.
type output struct {
	entries []format.Entry
	meta    format.SegmentMeta // but for attempt and rand
	spool   Spool
	bytes   int64
	changed bool               // a batch is not as it was, or gone
	horizon protocol.Timestamp // earliest delete horizon of the tombstones and markers that stay, 0 for none

	aborted map[protocol.ProducerID][]abortedTxn
}

// abortedTxn is a transaction that the entries list. The object lists it while it holds a batch of it, for readers, or where it
// goes on behind the object, for the passes to come, which must know it before they come there.
type abortedTxn struct {
	protocol.AbortedTxn
	held bool
}

func (p *pass) newOutput(entries []format.Entry) (*output, error) {
	most := int64(0)
	for _, e := range entries {
		most += e.DataBytes
	}
	spool, err := p.cfg.Spool(most)
	if err != nil {
		return nil, fmt.Errorf("make room for compacted batches: %w", err)
	}
	return &output{
		entries: entries, spool: spool, aborted: map[protocol.ProducerID][]abortedTxn{},
		meta: format.SegmentMeta{
			Key: p.led.Key, TopicName: p.led.Topic, Base: entries[0].Base, End: entries[len(entries)-1].End, Epoch: p.led.Epoch,
			SealedMs: protocol.NoTimestamp,
		},
	}, nil
}

func (o *output) close() { _ = o.spool.Close() } // it was only scratch space

// begin takes what the object of the next entry says beside its batches. The producer state is that at the end of the last.
func (o *output) begin(x *format.Index) {
	m := x.Meta()
	for _, e := range m.Epochs {
		if n := len(o.meta.Epochs); n == 0 || e.Epoch > o.meta.Epochs[n-1].Epoch {
			o.meta.Epochs = append(o.meta.Epochs, e)
		}
	}
	o.meta.Producers = m.Producers
	o.meta.SealedMs = max(o.meta.SealedMs, m.SealedMs)
	for _, a := range m.Aborted {
		list := o.aborted[a.Producer]
		if !slices.ContainsFunc(list, func(b abortedTxn) bool { return b.AbortedTxn == a }) {
			o.aborted[a.Producer] = append(list, abortedTxn{AbortedTxn: a})
		}
	}
}

// add takes what stays of the next batch, with so many tombstones.
func (o *output) add(v compact.Verdict, tombstones int64) error {
	b := v.Batch
	o.changed = o.changed || v.Changed || b == nil
	if b == nil {
		return nil
	}
	n, err := o.spool.Write(b)
	o.bytes += int64(n)
	if err != nil {
		return fmt.Errorf("write compacted batches: %w", err)
	}
	// A batch keeps its horizon when its tombstones have gone: then nothing of it is due any more.
	if b.HasDeleteHorizon() && (tombstones > 0 || b.Control() && b.Count() > 0) && (o.horizon == 0 || b.BaseTimestamp() < o.horizon) {
		o.horizon = max(b.BaseTimestamp(), 1)
	}
	if b.Transactional() {
		for i, a := range o.aborted[b.ProducerID()] {
			if a.First <= b.LastOffset() && b.BaseOffset() <= a.Last {
				o.aborted[b.ProducerID()][i].held = true
			}
		}
	}
	return nil
}

// build makes the object for one attempt.
func (o *output) build(attempt metadata.Attempt, rand uint64) (*format.Segment, format.SegmentMeta, error) {
	meta := o.meta
	meta.Attempt, meta.Rand = attempt, rand
	for _, list := range o.aborted {
		for _, a := range list {
			if a.held || a.Last >= meta.End {
				meta.Aborted = append(meta.Aborted, a.AbortedTxn)
			}
		}
	}
	slices.SortFunc(meta.Aborted, func(a, b protocol.AbortedTxn) int { return int(min(1, max(-1, a.Last-b.Last))) })
	segment, err := format.BuildSegment(meta, o.spool, o.bytes)
	if err != nil {
		return nil, meta, fmt.Errorf("build compacted object: %w", err)
	}
	return segment, meta, nil
}
