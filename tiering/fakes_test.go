package tiering_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering"
)

// errOutcome is a proposal of unknown outcome.
var errOutcome = errors.New("no answer from the metadata leader")

// fakeLog is the metadata log: Apply behind a lock.
type fakeLog struct {
	mu     sync.Mutex
	img    *metadata.Image
	subs   []func(metadata.Delta, *metadata.Image)
	judge  func(c *metadata.Command) verdict // what happens to the next commands; nil: they are applied
	late   []*metadata.Command               // proposals that were lost and may still be applied
	traced func(string)
}

type verdict uint8

const (
	applied      verdict = iota
	lostAnswer           // applied, but the proposer does not learn it
	lostProposal         // not applied, and the proposer does not learn it
	heldProposal         // not applied before applyLate
)

func (l *fakeLog) Image() *metadata.Image {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.img
}

func (l *fakeLog) Propose(ctx context.Context, c *metadata.Command) (metadata.Result, error) {
	if err := ctx.Err(); err != nil {
		return metadata.Result{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	v := applied
	if l.judge != nil {
		v = l.judge(c)
	}
	switch v {
	case lostProposal:
		return metadata.Result{}, errOutcome
	case heldProposal:
		l.late = append(l.late, c)
		return metadata.Result{}, errOutcome
	case applied, lostAnswer:
	}
	result, err := l.apply(c)
	if v == lostAnswer {
		return metadata.Result{}, errOutcome
	}
	return result, err
}

func (l *fakeLog) apply(c *metadata.Command) (metadata.Result, error) {
	img, delta, result, err := metadata.Apply(l.img, c, l.img.Index()+1)
	l.img = img
	if l.traced != nil {
		l.traced(describe(c, err))
	}
	for _, s := range l.subs {
		s(delta, img)
	}
	return result, err
}

// applyLate applies what was held.
func (l *fakeLog) applyLate() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.late {
		_, _ = l.apply(c) // most are refused by now, which is the point
	}
	l.late = nil
}

// tickIndex moves the index on, as any other command does.
func (l *fakeLog) tickIndex() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.apply(&metadata.Command{Kind: &metadatapb.Command_ReleaseRoots{ReleaseRoots: &metadatapb.ReleaseRoots{}}})
}

func (l *fakeLog) subscribe(f func(metadata.Delta, *metadata.Image)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs = append(l.subs, f)
}

func describe(c *metadata.Command, err error) string {
	out := ""
	switch k := c.GetKind().(type) {
	case *metadatapb.Command_CommitManifest:
		m := k.CommitManifest
		out = fmt.Sprintf("commit manifest %d over %d, [%d, %d)", m.GetVersion(), m.GetParentVersion(), m.GetFrom(), m.GetTieredEnd())
	case *metadatapb.Command_AdvanceLogStarts:
		out = "advance log starts"
		for _, r := range k.AdvanceLogStarts.GetRows() {
			out += fmt.Sprintf(" %d:%d", r.GetPartition(), r.GetOffset())
		}
	case *metadatapb.Command_SetSweepFloor:
		out = "set sweep floor"
	case *metadatapb.Command_RetainRoot:
		out = fmt.Sprintf("retain root %d", k.RetainRoot.GetSeq())
	case *metadatapb.Command_ReleaseRoots:
		out = fmt.Sprintf("release roots %v", k.ReleaseRoots.GetSeqs())
	case *metadatapb.Command_BindBucket:
		out = "bind bucket"
	default:
		out = fmt.Sprintf("%T", k)
	}
	if err != nil {
		out += ": refused"
	}
	return out
}

// hotLog is one partition's hot tier: its segments, all sealed, and where it is committed.
type hotLog struct {
	led      tiering.Led
	segments []hotSegment
	active   int64 // bytes of its unsealed end
	leading  bool
}

type hotSegment struct {
	r         tiering.SealedRange
	batches   []byte
	epochs    []protocol.EpochStart
	aborted   []protocol.AbortedTxn
	producers []byte // as encoded; nil for some text
}

// fakeHot is the hot tier of one broker.
type fakeHot struct {
	mu   sync.Mutex
	logs map[protocol.PartitionKey]*hotLog
}

func (h *fakeHot) Led() []tiering.Led {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []tiering.Led
	for _, l := range h.logs {
		if l.leading {
			out = append(out, l.led)
		}
	}
	slices.SortFunc(out, func(a, b tiering.Led) int { return int(a.Key.Partition - b.Key.Partition) })
	return out
}

func (h *fakeHot) Leads(k protocol.PartitionKey) (tiering.Led, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, ok := h.logs[k]
	if !ok || !l.leading {
		return tiering.Led{}, false
	}
	return l.led, true
}

func (h *fakeHot) Sealed(k protocol.PartitionKey, from protocol.Offset) ([]tiering.SealedRange, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []tiering.SealedRange
	for _, s := range h.logs[k].segments {
		if r := s.cut(from).r; r.End > from && r.End <= h.logs[k].led.HW {
			out = append(out, r)
		}
	}
	return out, nil
}

func (h *fakeHot) BytesFrom(k protocol.PartitionKey, from protocol.Offset) int64 {
	sealed, _ := h.Sealed(k, from) // it has no errors
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.logs[k].active
	for _, r := range sealed {
		n += r.Bytes
	}
	return n
}

// cut gives the part of the segment from the batch that holds from on.
func (s hotSegment) cut(from protocol.Offset) hotSegment {
	if from <= s.r.Base || from >= s.r.End {
		return s
	}
	for rest := s.batches; len(rest) > 0; {
		b, next, err := record.Split(rest)
		if err != nil {
			panic(err)
		}
		if b.NextOffset() > from {
			s.batches = rest
			s.r.Base, s.r.Bytes = min(from, b.BaseOffset()), int64(len(rest))
			return s
		}
		rest = next
	}
	return s
}

func (h *fakeHot) OpenSealed(k protocol.PartitionKey, r tiering.SealedRange) (tiering.SealedSource, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.logs[k].segments {
		if c := s.cut(r.Base); c.r == r {
			return &hotSource{Reader: bytes.NewReader(c.batches), s: c}, nil
		}
	}
	return nil, fmt.Errorf("no sealed range %+v", r)
}

type hotSource struct {
	*bytes.Reader
	s hotSegment
}

func (s *hotSource) Range() tiering.SealedRange     { return s.s.r }
func (s *hotSource) Epochs() []protocol.EpochStart  { return s.s.epochs }
func (s *hotSource) Aborted() []protocol.AbortedTxn { return s.s.aborted }
func (s *hotSource) Close() error                   { return nil }

func (s *hotSource) Producers() []byte {
	if s.s.producers != nil {
		return s.s.producers
	}
	return fmt.Appendf(nil, "producers at %d", s.s.r.End)
}
