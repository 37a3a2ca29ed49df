package checker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/stratabroker/strata/protocol"
)

// Check judges the history so far. No anomaly, no violated promise.
func (h *History) Check() []Anomaly {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []Anomaly
	keys := slices.SortedFunc(maps.Keys(h.parts), func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Number, b.Number))
	})
	for _, p := range keys {
		j := &judge{partition: h.parts[p], name: p, places: map[string]protocol.Offset{}, values: map[protocol.Offset]string{}}
		j.run()
		found = append(found, j.found...)
	}
	return found
}

// judge looks at one partition.
type judge struct {
	*partition
	name   Partition
	places map[string]protocol.Offset // where each value is, by whoever saw it
	values map[protocol.Offset]string
	found  []Anomaly
}

func (j *judge) add(kind Kind, text string, args ...any) {
	j.found = append(j.found, Anomaly{kind, j.name, fmt.Sprintf(text, args...)})
}

func (j *judge) run() {
	j.found = append(j.found, j.told...)
	for _, value := range slices.Sorted(maps.Keys(j.fate)) {
		if f := j.fate[value]; f.acked {
			j.place(f.offset, value)
		}
	}
	for _, reader := range slices.Sorted(maps.Keys(j.polls)) {
		j.reader(reader, j.polls[reader])
	}
	for _, producer := range slices.Sorted(maps.Keys(j.sent)) {
		j.producer(producer, j.sent[producer])
	}
	if j.read {
		j.lost()
	}
}

// place notes that a value was seen at an offset, and compares with all earlier sightings.
func (j *judge) place(offset protocol.Offset, value string) {
	if other, ok := j.values[offset]; ok && other != value {
		j.add(InconsistentOffset, "offset %d held %q and %q", offset, other, value)
	}
	if other, ok := j.places[value]; ok && other != offset {
		j.add(Duplicate, "%q is at %d and at %d", value, other, offset)
	}
	j.values[offset], j.places[value] = value, offset
}

func (j *judge) reader(name string, polls []poll) {
	for i, one := range polls {
		j.place(one.offset, one.value)
		switch f, sent := j.fate[one.value]; {
		case !sent:
			j.add(Phantom, "%s read %q at %d", name, one.value, one.offset)
		case f.refused:
			j.add(AbortedRead, "%s read %q at %d, whose send failed", name, one.value, one.offset)
		}
		if i == 0 || one.jump {
			continue
		}
		switch last := polls[i-1].offset; {
		case one.offset <= last:
			j.add(PollReorder, "%s was given %d after %d", name, one.offset, last)
		case one.offset > last+1:
			j.add(PollSkip, "%s was given %d after %d", name, one.offset, last)
		}
	}
}

// producer checks one producer's values in its order. A value that is nowhere
// between two that are somewhere must have been refused, or lies below the log start.
func (j *judge) producer(producer int, values []string) {
	last, lastValue := protocol.NoOffset, ""
	var missing []string
	for _, value := range values {
		offset, there := j.places[value]
		if !there {
			if !j.fate[value].refused && last >= j.start {
				missing = append(missing, value)
			}
			continue
		}
		if offset < last {
			j.add(SendReorder, "producer %d sent %q before %q, they are at %d and %d", producer, lastValue, value, last, offset)
		}
		for _, m := range missing {
			j.add(SendSkip, "producer %d sent %q before %q, which is at %d, and did not fail", producer, m, value, offset)
		}
		missing = nil
		last, lastValue = max(last, offset), value
	}
}

// lost compares the final read with the acknowledgements.
func (j *judge) lost() {
	got := make(map[protocol.Offset]string, len(j.final))
	newest := protocol.NoOffset
	for _, one := range j.final {
		got[one.offset] = one.value
		newest = max(newest, one.offset)
	}
	if len(j.final) > 0 && j.final[0].offset > j.start {
		j.add(PollSkip, "the final read began at %d, the log start is %d", j.final[0].offset, j.start)
	}
	for _, value := range slices.Sorted(maps.Keys(j.fate)) {
		f := j.fate[value]
		if !f.acked || f.offset < j.start || got[f.offset] == value {
			continue
		}
		if f.offset < newest {
			j.add(LostWrite, "%q was acknowledged at %d, the final read found %q there and went on to %d", value, f.offset, got[f.offset], newest)
		} else {
			j.add(Unseen, "%q was acknowledged at %d, the final read ended at %d", value, f.offset, newest)
		}
	}
}
