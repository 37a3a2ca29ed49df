package log

import (
	"path"
	"slices"
	"sort"

	"github.com/stratabroker/strata/protocol"
)

// epochCache is the leader epoch lineage of a log: which epoch began where.
// Epochs and starts ascend strictly. It is a cache of what the batch headers say, plus
// what lies below the local start. Log.mu guards it.
type epochCache struct {
	entries []protocol.EpochStart
	changes int // so far
	saved   int // changes that the checkpoint file knows of
}

// assign notes that e began at start, and tells whether that was new. An
// epoch that had no batch before start is forgotten.
func (c *epochCache) assign(e protocol.Epoch, start protocol.Offset) bool {
	if e < 0 || e <= c.latest() {
		return false
	}
	for n := len(c.entries); n > 0 && c.entries[n-1].Start >= start; n-- {
		c.entries = c.entries[:n-1]
	}
	c.entries = append(c.entries, protocol.EpochStart{Epoch: e, Start: start})
	c.changes++
	return true
}

func (c *epochCache) latest() protocol.Epoch {
	if len(c.entries) == 0 {
		return protocol.NoEpoch
	}
	return c.entries[len(c.entries)-1].Epoch
}

func (c *epochCache) list() []protocol.EpochStart { return slices.Clone(c.entries) }

// end is Kafka's LeaderEpochFileCache.endOffsetFor: the greatest known epoch at
// or below e, and where the next one begins. The latest epoch ends at the log end. For
// an e below all known ones the answer is e itself with the start of the first.
func (c *epochCache) end(e protocol.Epoch, leo protocol.Offset) (protocol.Epoch, protocol.Offset, bool) {
	if e < 0 || len(c.entries) == 0 || e > c.latest() {
		return protocol.NoEpoch, protocol.NoOffset, false
	}
	if e == c.latest() {
		return e, leo, true
	}
	i := sort.Search(len(c.entries), func(i int) bool { return c.entries[i].Epoch > e })
	if i == 0 {
		return e, c.entries[0].Start, true
	}
	return c.entries[i-1].Epoch, c.entries[i].Start, true
}

// cutEnd forgets epochs that begin at or above end.
func (c *epochCache) cutEnd(end protocol.Offset) {
	n := sort.Search(len(c.entries), func(i int) bool { return c.entries[i].Start >= end })
	if n < len(c.entries) {
		c.entries = c.entries[:n]
		c.changes++
	}
}

// cutStart forgets epochs that ended at or below start; the one in force there
// now begins there.
func (c *epochCache) cutStart(start protocol.Offset) {
	n := sort.Search(len(c.entries), func(i int) bool { return c.entries[i].Start > start })
	if n == 0 || n == 1 && c.entries[0].Start == start {
		return
	}
	c.entries = slices.Clone(c.entries[n-1:])
	c.entries[0].Start = start
	c.changes++
}

// within is the lineage of [from, to): the first entry is the epoch in force at from.
func (c *epochCache) within(from, to protocol.Offset) []protocol.EpochStart {
	var out []protocol.EpochStart
	for _, e := range c.entries {
		switch {
		case e.Start >= to:
			return out
		case e.Start <= from:
			out = append(out[:0], protocol.EpochStart{Epoch: e.Epoch, Start: from})
		default:
			out = append(out, e)
		}
	}
	return out
}

// saveEpochs makes the epoch checkpoint durable, if it is behind.
func (l *Log) saveEpochs() (written bool, err error) {
	l.epochFile.Lock()
	defer l.epochFile.Unlock()
	l.mu.Lock()
	changes, list := l.epochs.changes, l.epochs.list()
	behind := changes != l.epochs.saved
	l.mu.Unlock()
	if !behind {
		return false, nil
	}
	if err := l.dir.fatal(l.writeEpochs(list)); err != nil {
		return false, err
	}
	l.mu.Lock()
	l.epochs.saved = changes
	l.mu.Unlock()
	return true, nil
}

func (l *Log) writeEpochs(list []protocol.EpochStart) error {
	return replaceFile(l.dir.cfg.FS, path.Join(l.path, epochFile), encodeEpochs(list))
}
