package log

import (
	"errors"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// decodeBudget bounds what a batch may unpack to in a look-up by time, and the
// bytes of the batches that one look-up decodes in a segment.
const decodeBudget = 64 << 20

// OffsetForTime finds the first record in [from, below), in offset order, whose
// timestamp is not before ts. Of a batch that cannot be decoded within 64 MiB the answer is
// its first offset with its max timestamp.
func (l *Log) OffsetForTime(ts protocol.Timestamp, from, below protocol.Offset) (TimedOffset, bool, error) {
	for {
		t, ok, err := l.offsetForTime(ts, max(from, l.Start()), below)
		if !errors.Is(err, errGone) {
			return t, ok, err
		}
	}
}

// MaxTimestamp finds the first record in [from, below) that has the greatest
// timestamp (KIP-734).
func (l *Log) MaxTimestamp(from, below protocol.Offset) (TimedOffset, bool, error) {
	for {
		t, ok, err := l.maxTimestamp(max(from, l.Start()), below)
		if !errors.Is(err, errGone) {
			return t, ok, err
		}
	}
}

var notTimed = TimedOffset{protocol.NoOffset, protocol.NoTimestamp, protocol.NoEpoch}

func (l *Log) offsetForTime(ts protocol.Timestamp, start, below protocol.Offset) (TimedOffset, bool, error) {
	for _, s := range l.list() {
		if s.base >= below {
			break
		}
		found, ok, err := s.pinned(func() (TimedOffset, bool, error) { return s.offsetForTime(ts, start, below) })
		if err != nil || ok {
			return found, ok, err
		}
	}
	return notTimed, false, nil
}

// pinned runs do with a reference on the segment.
func (s *segment) pinned(do func() (TimedOffset, bool, error)) (TimedOffset, bool, error) {
	if !s.pin() {
		return notTimed, false, errGone
	}
	defer s.unpin()
	return do()
}

func (s *segment) offsetForTime(ts protocol.Timestamp, start, below protocol.Offset) (found TimedOffset, ok bool, err error) {
	size := s.filled.Load().size
	if greatest, _, err := s.maximum(); err != nil || greatest < ts || size == 0 {
		return notTimed, false, err
	}
	from, err := s.lookupTime(ts)
	if err != nil {
		return notTimed, false, err
	}
	pos, err := s.lookupOffset(from)
	if err != nil {
		return notTimed, false, err
	}
	found = notTimed
	left := int64(decodeBudget)
	err = s.steps(min(pos, size), size, func(h record.Batch, pos, total int64) (bool, error) {
		if h.BaseOffset() >= below {
			return false, nil
		}
		if h.MaxTimestamp() < ts || h.NextOffset() <= start {
			return true, nil
		}
		p := placeOf(h, pos, total)
		if left -= total; left < 0 {
			found, ok = p.undecoded(start), true
			return false, nil
		}
		r, in, err := s.recordIn(p, start, func(t protocol.Timestamp) bool { return t >= ts })
		if err != nil || !in {
			return err == nil, err // the header claimed more than the records say
		}
		found, ok = r, r.Offset < below
		return false, nil
	})
	if !ok {
		found = notTimed
	}
	return found, ok, err
}

// recordIn decodes a batch and returns its first record at or above start that is wanted.
func (s *segment) recordIn(p place, start protocol.Offset, wanted func(protocol.Timestamp) bool) (TimedOffset, bool, error) {
	bytes := make([]byte, p.total)
	h, err := s.log.dir.handles.acquire(s, logKind)
	if err != nil {
		return notTimed, false, err
	}
	err = readFull(h.file, bytes, p.pos)
	s.log.dir.handles.release(h)
	if err != nil {
		return notTimed, false, err
	}
	for r, err := range record.Batch(bytes).Records(decodeBudget) {
		if err != nil {
			return p.undecoded(start), true, nil
		}
		if r.Offset >= start && wanted(r.Timestamp) {
			return TimedOffset{r.Offset, r.Timestamp, p.epoch}, true, nil
		}
	}
	return notTimed, false, nil
}

// undecoded is the answer where the records cannot be looked at.
func (p place) undecoded(start protocol.Offset) TimedOffset {
	return TimedOffset{max(p.base, start), p.maxTime, p.epoch}
}

func (l *Log) maxTimestamp(start, below protocol.Offset) (TimedOffset, bool, error) {
	var best *segment
	var bestPlace place
	bestTime := protocol.NoTimestamp
	for _, s := range l.list() {
		if s.base >= below {
			break
		}
		if _, _, err := s.pinned(func() (TimedOffset, bool, error) {
			p, ok, err := s.latest(start, below, bestTime)
			if ok {
				best, bestPlace, bestTime = s, p, p.maxTime
			}
			return notTimed, false, err
		}); err != nil {
			return notTimed, false, err
		}
	}
	if best == nil {
		return notTimed, false, nil
	}
	found, ok, err := best.pinned(func() (TimedOffset, bool, error) {
		return best.recordIn(bestPlace, start, func(t protocol.Timestamp) bool { return t >= bestTime })
	})
	if err != nil || ok {
		return found, ok, err
	}
	return bestPlace.undecoded(start), true, nil
}

// latest finds the first batch that has the greatest timestamp of those
// within [start, below), if that is above least.
func (s *segment) latest(start, below protocol.Offset, least protocol.Timestamp) (best place, ok bool, err error) {
	filled := s.filled.Load()
	greatest, last, err := s.maximum()
	if err != nil || greatest <= least || filled.size == 0 {
		return place{}, false, err
	}
	if last >= start && last < below && last < filled.next {
		if best, ok, err = s.seek(last, filled.size); err != nil || ok && best.base >= start {
			return best, ok, err
		}
	}
	return s.latestByHeaders(start, below, least)
}

// latestByHeaders is latest where the greatest timestamp of the segment lies outside of the range.
func (s *segment) latestByHeaders(start, below protocol.Offset, least protocol.Timestamp) (best place, ok bool, err error) {
	filled := s.filled.Load()
	pos, err := s.lookupOffset(start)
	if err != nil {
		return place{}, false, err
	}
	err = s.steps(min(pos, filled.size), filled.size, func(h record.Batch, pos, total int64) (bool, error) {
		if h.NextOffset() > below {
			return false, nil
		}
		if h.NextOffset() <= start || timeOf(h) <= least {
			return true, nil
		}
		p := placeOf(h, pos, total)
		if p.base < start { // the record that gave the batch its max may lie below
			if p.maxTime, err = s.greatestFrom(p, start); err != nil {
				return false, err
			}
		}
		if p.maxTime > least {
			best, ok, least = p, true, p.maxTime
		}
		return true, nil
	})
	return best, ok, err
}

// greatestFrom is the greatest timestamp of a batch's records at or above start; of
// a batch that cannot be decoded that of its header.
func (s *segment) greatestFrom(p place, start protocol.Offset) (protocol.Timestamp, error) {
	greatest := protocol.NoTimestamp
	found, _, err := s.recordIn(p, start, func(t protocol.Timestamp) bool {
		greatest = max(greatest, t)
		return false
	})
	if err == nil && found.Offset != protocol.NoOffset {
		greatest = p.maxTime
	}
	return greatest, err
}
