package log

import (
	"errors"
	"fmt"
	"slices"

	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// loadProducers gives the producer state at end: the nearest snapshot at or
// below atMost, and on it what the log holds up to end. A snapshot that is missing or
// torn is passed over for one further below; below the first segment the object
// store is asked. unknownBelow is above 0 where nobody could tell the state at the log's
// first segment. aborted is called for each aborted transaction met on the way; it may be nil.
func (l *Log) loadProducers(end, atMost protocol.Offset, aborted func(protocol.AbortedTxn) error) (state *producer.State, unknownBelow protocol.Offset, err error) {
	snapshots, err := l.snapshots()
	if err != nil {
		return nil, 0, err
	}
	return l.loadProducersOf(snapshots, end, atMost, aborted)
}

// loadProducersOf is loadProducers where it is known which snapshots there are, ascending.
func (l *Log) loadProducersOf(snapshots []protocol.Offset, end, atMost protocol.Offset, aborted func(protocol.AbortedTxn) error) (state *producer.State, unknownBelow protocol.Offset, err error) {
	list := l.list()
	state, from, err := l.nearestOf(snapshots, list[0].base, min(end, atMost))
	if err != nil {
		return nil, 0, err
	}
	if state == nil {
		from = list[0].base
		if state, err = l.stateBelow(from); err != nil {
			return nil, 0, err
		}
		if state == nil {
			state, unknownBelow = &producer.State{}, from
			l.dir.cfg.Logger.Warn("producer state below the log start is not known", "log", l.name, "start", int64(from))
		}
	}
	return state, unknownBelow, l.replay(list, state, from, end, aborted)
}

// nearestSnapshot reads the newest good snapshot in [least, most]; state is nil
// where there is none.
func (l *Log) nearestSnapshot(least, most protocol.Offset) (state *producer.State, at protocol.Offset, err error) {
	snapshots, err := l.snapshots()
	if err != nil {
		return nil, 0, err
	}
	return l.nearestOf(snapshots, least, most)
}

// nearestOf is nearestSnapshot where it is known which there are, ascending.
func (l *Log) nearestOf(snapshots []protocol.Offset, least, most protocol.Offset) (state *producer.State, at protocol.Offset, err error) {
	for _, at := range slices.Backward(snapshots) {
		if at < least || at > most {
			continue
		}
		b, err := vfs.ReadFile(l.dir.cfg.FS, l.snapshotPath(at))
		if err != nil {
			return nil, 0, err
		}
		state, err := producer.Decode(b)
		if err == nil {
			return state, at, nil
		}
		l.dir.cfg.Logger.Warn("producer snapshot is not whole and is passed over", "log", l.name, "offset", int64(at), "err", err)
	}
	return nil, 0, nil
}

// stateBelow is the producer state at the base of the first segment, of which
// there is no snapshot; nil where nobody knows.
func (l *Log) stateBelow(base protocol.Offset) (*producer.State, error) {
	switch {
	case base == 0:
		return &producer.State{}, nil
	case base == l.init.Start && l.init.Producers != nil:
		return producer.Decode(l.init.Producers)
	case l.init.Rebuild == nil:
		return nil, nil
	}
	b, err := l.init.Rebuild(base)
	if err != nil {
		return nil, fmt.Errorf("producer state at %d: %w", base, err)
	}
	if b == nil {
		return nil, nil
	}
	return producer.Decode(b)
}

// replay applies the batches in [from, end) to state.
func (l *Log) replay(list []*segment, state *producer.State, from, end protocol.Offset, aborted func(protocol.AbortedTxn) error) error {
	if from >= end {
		return nil
	}
	now := protocol.Timestamp(l.dir.cfg.Now().UnixMilli())
	for _, s := range list[max(0, find(list, from)):] {
		if s.base >= end {
			break
		}
		size := s.filled.Load().size
		pos, err := s.lookupOffset(from)
		if err != nil {
			return err
		}
		err = s.steps(min(pos, size), size, func(h record.Batch, pos, total int64) (bool, error) {
			if h.NextOffset() <= from || h.NextOffset() > end {
				return h.NextOffset() <= from, nil
			}
			if h.Control() {
				whole := make(record.Batch, total)
				err := s.log.dir.handles.with(s, logKind, func(f vfs.File) error { return readFull(f, whole, pos) })
				if err != nil {
					return false, err
				}
				h = whole
			}
			t, ok := state.Apply(h, h.BaseOffset(), now)
			if ok && aborted != nil {
				return true, aborted(t)
			}
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// producersAt encodes the producer state at an offset, for which there should
// be a snapshot.
func (l *Log) producersAt(at protocol.Offset) ([]byte, error) {
	b, err := readFile(l.dir.cfg.FS, l.snapshotPath(at))
	if err != nil {
		return nil, err
	}
	if b != nil {
		if _, err := producer.Decode(b); err == nil {
			return b, nil
		}
	}
	state, unknownBelow, err := l.loadProducers(at, at, nil)
	if err != nil {
		return nil, err
	}
	if unknownBelow > 0 {
		return nil, fmt.Errorf("producer state at %d: nothing is known below %d", at, unknownBelow)
	}
	return state.Encode(), nil
}

// aborted reads the segment's aborted index.
func (s *segment) aborted() ([]protocol.AbortedTxn, error) {
	if !s.txns.Load() {
		return nil, nil
	}
	var out []protocol.AbortedTxn
	err := s.log.dir.handles.with(s, txnKind, func(f vfs.File) error {
		size, err := f.Size()
		if err != nil {
			return err
		}
		// An entry may be in the writing: whole ones are what there is.
		b := make([]byte, size-size%producer.AbortedLen)
		if err := readFull(f, b, 0); err != nil {
			return err
		}
		out, err = producer.DecodeAborted(b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("aborted index of %s: %w", s.name(), err)
	}
	return out, nil
}

// Aborted lists the aborted transactions of which records may lie in [from, to).
// An error must not be taken for an empty list: records that are not committed would be served.
func (l *Log) Aborted(from, to protocol.Offset) ([]protocol.AbortedTxn, error) {
	for {
		out, err := l.abortedIn(from, to)
		if !errors.Is(err, errGone) {
			return out, err
		}
	}
}

func (l *Log) abortedIn(from, to protocol.Offset) ([]protocol.AbortedTxn, error) {
	list := l.list()
	var out []protocol.AbortedTxn
	for _, s := range list[max(0, min(find(list, from), len(list))):] {
		if !s.txns.Load() {
			continue
		}
		if !s.pin() {
			return nil, errGone
		}
		aborted, err := s.aborted()
		s.unpin()
		if err != nil {
			return nil, err
		}
		for _, t := range aborted {
			if t.Last >= from && t.First < to {
				out = append(out, t)
			}
			if t.LastStable >= to {
				return out, nil // what is aborted later began later
			}
		}
	}
	return out, nil
}

// Producers lists the producers that are known, by id.
func (l *Log) Producers() []producer.Active {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.producers.Active()
}
