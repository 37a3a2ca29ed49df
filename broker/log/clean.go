package log

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/compact"
	"github.com/stratabroker/strata/protocol/record"
)

// CleanRules are what a topic's settings and its tier mean to the cleaning of one log.
type CleanRules struct {
	// Stable: nothing at or above it is touched. It is the last stable offset, so that no record of an open transaction is.
	Stable          protocol.Offset
	MinLag          time.Duration // min.compaction.lag.ms
	MaxLag          time.Duration // max.compaction.lag.ms; 0 means no limit
	MinDirtyRatio   float64       // min.cleanable.dirty.ratio
	DeleteRetention time.Duration // delete.retention.ms
	// SupersededOnly and Dropped are those of compact.Rules, for a tiered partition (DESIGN D17).
	SupersededOnly bool
	Dropped        func(protocol.Offset) bool
}

// Dirt is how much of a log could be cleaned.
type Dirt struct {
	First, End protocol.Offset // the dirty part that may be cleaned: whole segments
	CleanBytes int64           // of the segments below First
	DirtyBytes int64           // of those from First to End
	Overdue    time.Duration   // by how long max.compaction.lag.ms has passed
}

// Ratio is the share of dirty bytes, as Kafka computes it.
func (d Dirt) Ratio() float64 {
	if d.DirtyBytes == 0 {
		return 0
	}
	return float64(d.DirtyBytes) / float64(d.CleanBytes+d.DirtyBytes)
}

// Dirt measures the log. The active segment never counts, nor what is not durable in its own file yet.
func (l *Log) Dirt(rules CleanRules, now time.Time) (Dirt, error) {
	list := l.list()
	d := Dirt{First: l.firstDirty(list)}
	d.End = d.First
	for i, s := range list[:max(0, len(list)-1)] {
		end := list[i+1].base
		if end <= d.First {
			d.CleanBytes += s.filled.Load().size
			continue
		}
		if end > rules.Stable || !s.synced.Load() {
			break
		}
		if rules.MinLag > 0 {
			if old, err := s.oldEnough(rules.MinLag, now); err != nil || !old {
				return d, err
			}
		}
		if rules.MaxLag > 0 {
			first, err := s.firstTime()
			if err != nil {
				return d, err
			}
			if late := now.UnixMilli() - int64(first) - rules.MaxLag.Milliseconds(); first > 0 {
				d.Overdue = max(d.Overdue, time.Duration(late)*time.Millisecond)
			}
		}
		d.DirtyBytes += s.filled.Load().size
		d.End = end
	}
	return d, nil
}

// firstDirty is where the cleaner goes on. A checkpoint that cannot be right is no more than a hint: all is dirty then.
func (l *Log) firstDirty(list []*segment) protocol.Offset {
	if len(list) == 0 {
		return l.Start()
	}
	at := l.dir.cleanedTo(l.name)
	if at < list[0].base || at > list[len(list)-1].base {
		return list[0].base
	}
	return at
}

// oldEnough tells whether all records of a sealed segment were written a lag ago.
func (s *segment) oldEnough(lag time.Duration, now time.Time) (bool, error) {
	greatest, _, err := s.maximum()
	at := compact.Written(greatest, protocol.Timestamp(s.sealed.Load()), protocol.Timestamp(now.UnixMilli()))
	return at < 0 || now.UnixMilli()-int64(at) >= lag.Milliseconds(), err
}

// firstTime is the max timestamp of the first batch, as Kafka takes it for the age of a segment.
func (s *segment) firstTime() (first protocol.Timestamp, err error) {
	first = protocol.NoTimestamp
	err = s.steps(0, s.filled.Load().size, func(h record.Batch, _, _ int64) (bool, error) {
		first = h.MaxTimestamp()
		return false, nil
	})
	return first, err
}

// errMoved ends a pass whose segments were cut, evicted or closed meanwhile: nothing is wrong.
var errMoved = errors.New("the log changed while it was cleaned")

// errNoRoom ends a pass for which the disk has too little room besides the reserve.
var errNoRoom = errors.New("too little free disk space to clean")

// pass is one cleaning of one log.
type pass struct {
	l      *Log
	rules  CleanRules
	dirt   Dirt
	now    time.Time
	cuts   int                   // of the log when the pass began
	paced  func(bytes int) error // called for all that is read and written; an error ends the pass
	keys   *compact.Map
	filter *compact.Filter
	stats  CleanStats
	tidied bool
}

// CleanStats say what a pass did.
type CleanStats struct {
	compact.Stats
	From, To  protocol.Offset // that were dirty and are not any more
	Groups    int             // segments written
	Full      bool            // the map had no room for all keys
	MapShare  float64         // of the map's memory that was used
	Took      time.Duration
	DirtyLeft bool
}

// CleanMemory is what a pass may hold for its map of keys, in bytes, and how much of it may be filled.
type CleanMemory struct {
	Bytes int64
	Load  float64
}

// Clean makes one pass over the log: of each key the last record stays (package compact), at the offset it had. Readers
// are not disturbed: those of a replaced segment read on in its old files. What is left is durable on return.
// paced is called with the bytes read and written; an error of it ends the pass, and it must not wait on when
// the context ends that it gets: then the log is to be closed or deleted, which waits for the pass. One pass runs at a
// time. An error leaves the log as it was, or cleaned up to some segment.
func (l *Log) Clean(rules CleanRules, memory CleanMemory, paced func(life context.Context, bytes int) error) (CleanStats, error) {
	life, ended, err := l.beginPass()
	if err != nil {
		return CleanStats{}, fmt.Errorf("clean %s: %w", l.name, err)
	}
	defer ended()
	p := &pass{l: l, rules: rules, now: l.dir.cfg.Now()}
	p.paced = func(bytes int) error {
		if err := paced(life, bytes); err != nil {
			return err
		}
		if life.Err() != nil {
			return ErrClosed
		}
		return nil
	}
	err = p.run(memory)
	if err = l.dir.fatal(err); err != nil {
		err = fmt.Errorf("clean %s: %w", l.name, err)
	}
	p.stats.Took = l.dir.cfg.Now().Sub(p.now)
	return p.stats, err
}

func (p *pass) run(memory CleanMemory) (err error) {
	l := p.l
	l.mu.Lock()
	err = l.usable()
	p.cuts = l.cuts
	known := compact.NewTracker(math.MaxInt)
	for id, last := range l.producers.Lasts() {
		known.Know(id, last.Epoch, last.Offset)
	}
	l.mu.Unlock()
	if err != nil {
		return err
	}
	list := l.list()
	if p.dirt, err = l.Dirt(p.rules, p.now); err != nil || p.dirt.DirtyBytes == 0 {
		return err
	}
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails
	p.keys = compact.NewMap(memory.Bytes, memory.Load, salt)
	covered, err := p.scan(list)
	if err != nil {
		return err
	}
	p.filter = compact.NewFilter(p.keys, compact.Rules{
		Now: protocol.Timestamp(p.now.UnixMilli()), DeleteRetentionMs: p.rules.DeleteRetention.Milliseconds(), FirstDirty: p.dirt.First,
		Covered: covered, Producers: known, SupersededOnly: p.rules.SupersededOnly, Dropped: p.rules.Dropped,
	})
	for _, g := range l.groups(list, covered) {
		if err := p.clean(g); err != nil {
			return err
		}
	}
	p.stats.Stats = p.filter.Stats()
	p.stats.From, p.stats.To, p.stats.DirtyLeft = p.dirt.First, covered, covered < p.dirt.End
	return p.done(covered)
}

// scan fills the map with the keys of the dirty part, or as much of it as there is room for.
func (p *pass) scan(list []*segment) (covered protocol.Offset, err error) {
	scan := compact.NewScan(p.keys, p.dirt.First, p.dirt.End)
	for i, s := range list[:len(list)-1] {
		end := list[i+1].base
		if end <= p.dirt.First {
			continue
		}
		aborted, err := p.l.Aborted(s.base, end)
		if err != nil {
			return 0, err
		}
		scan.AddAborted(aborted)
		more := true
		err = p.batches(s, func(b record.Batch, _ int64) error {
			if more = more && scan.Batch(b); !more {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			return 0, err
		}
		if !more {
			break
		}
	}
	p.stats.Full, p.stats.MapShare = scan.Full(), p.keys.Used()
	return scan.Covered(), nil
}

var errStop = errors.New("stop")

// batches calls do for every batch of a sealed segment, whose CRC it checks.
func (p *pass) batches(s *segment, do func(b record.Batch, pos int64) error) error {
	if !s.pin() {
		return errMoved
	}
	defer s.unpin()
	h, err := p.l.dir.handles.acquire(s, logKind)
	if err != nil {
		return err
	}
	defer p.l.dir.handles.release(h)
	w := window{file: h.file, size: s.filled.Load().size}
	for pos := int64(0); pos < w.size; {
		b, err := w.batch(pos)
		if isBad(err) {
			return s.corrupt(pos, protocol.NoOffset, err)
		}
		if err == nil {
			err = p.paced(len(b))
		}
		if err == nil {
			err = do(b, pos)
		}
		if err != nil {
			return err
		}
		pos += int64(len(b))
	}
	return nil
}

// group is neighbouring segments that become one.
type group struct {
	segments []*segment
	filled   []*extent // when the pass saw them
	end      protocol.Offset
	bytes    int64
}

// groups puts together what fits one segment: its bytes, its indexes and the range of relative
// offsets, by what they hold now. Only segments that hold something below covered are looked at.
func (l *Log) groups(list []*segment, covered protocol.Offset) []group {
	cfg := l.config()
	limit, indexLimit := cfg.SegmentBytes, cfg.IndexMaxBytes
	if limit <= 0 {
		limit = math.MaxInt32
	}
	if indexLimit <= 0 {
		indexLimit = math.MaxInt32
	}
	var out []group
	var g group
	var offsets, times int64
	for i, s := range list[:len(list)-1] {
		if s.base >= covered {
			break
		}
		filled, end := s.filled.Load(), list[i+1].base
		o, t := s.indexBytes()
		fits := g.bytes+filled.size <= min(limit, math.MaxInt32) && offsets+o <= indexLimit && times+t <= indexLimit
		if len(g.segments) > 0 && (!fits || end-1-g.segments[0].base > math.MaxInt32) {
			out = append(out, g)
			g, offsets, times = group{}, 0, 0
		}
		g.segments, g.filled = append(g.segments, s), append(g.filled, filled)
		g.bytes, g.end = g.bytes+filled.size, end
		offsets, times = offsets+o, times+t
	}
	if len(g.segments) > 0 {
		out = append(out, g)
	}
	return out
}

// indexBytes is the size of the index files, as if one entry of each came with another segment before it.
func (s *segment) indexBytes() (offsets, times int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.index
	return (x.offsetsWritten + int64(len(x.offsets)) + 1) * indexEntry, (x.timesWritten + int64(len(x.times)) + 1) * timeEntry
}

// done notes how far the log is clean now, unless something was cut below it meanwhile.
func (p *pass) done(covered protocol.Offset) error {
	l := p.l
	l.admin.Lock()
	defer l.admin.Unlock()
	l.mu.Lock()
	err := p.unmoved()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return l.dir.setCleaned(l.name, covered)
}

// unmoved needs mu.
func (p *pass) unmoved() error {
	if err := p.l.usable(); err != nil {
		return err
	}
	if p.cuts != p.l.cuts {
		return errMoved
	}
	return nil
}

// room tells whether so many bytes can be written without touching the disk's reserve.
func (p *pass) room(need int64) error {
	d := p.l.dir
	if d.cfg.DiskReserve <= 0 {
		return nil
	}
	free, err := d.Free()
	if err == nil && free-need < d.cfg.DiskReserve {
		err = fmt.Errorf("%w: %d bytes are free, %d are needed above the reserve of %d", errNoRoom, free, need, d.cfg.DiskReserve)
	}
	return err
}

// cleanedTo is the offset below which the log is clean, or NoOffset.
func (d *Dir) cleanedTo(name string) protocol.Offset {
	d.files.Lock()
	defer d.files.Unlock()
	if at, ok := d.cleaned.values[name]; ok {
		return protocol.Offset(at)
	}
	return protocol.NoOffset
}

// setCleaned makes durable that the log is clean below an offset.
func (d *Dir) setCleaned(name string, at protocol.Offset) error {
	d.files.Lock()
	defer d.files.Unlock()
	d.cleaned.values[name] = int64(at)
	return d.write(&d.cleaned)
}

// lowerCleaned makes durable that nothing at or above to counts as clean: what comes to lie
// there later is not. It needs files.
func (d *Dir) lowerCleaned(name string, to int64) error {
	old, ok := d.cleaned.values[name]
	switch {
	case !ok, old <= to && !d.cleaned.unsure:
		return nil
	case to < 0:
		delete(d.cleaned.values, name)
	default:
		d.cleaned.values[name] = min(old, to)
	}
	return d.write(&d.cleaned)
}
