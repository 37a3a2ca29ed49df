// Package checker judges a history of what producers sent and were told, and
// of what readers saw, against the promises of a log: nothing acknowledged is
// lost, doubled or reordered, offsets name one value for ever, and neither log
// start nor high watermark goes back. The anomalies have the names of the Jepsen
// Kafka workload where that has them. It knows neither broker nor client; the
// tests of package integration and of later clusters feed it. Values must be unique
// within a partition, producers idempotent, topics neither compacted nor transactional.
package checker

import (
	"fmt"
	"strings"
	"sync"

	"github.com/stratabroker/strata/protocol"
)

// Partition names a partition in a history.
type Partition struct {
	Topic  string
	Number int32
}

// String is "topic/number".
func (p Partition) String() string { return fmt.Sprintf("%s/%d", p.Topic, p.Number) }

// Kind is what is wrong.
type Kind string

// The kinds of anomalies.
const (
	InconsistentOffset Kind = "inconsistent-offset" // one offset held two values
	Duplicate          Kind = "duplicate"           // one value at two offsets
	LostWrite          Kind = "lost-write"          // acknowledged, later offsets were read, this one was not
	Unseen             Kind = "unseen"              // acknowledged, and the final read ended before it
	AbortedRead        Kind = "aborted-read"        // a value whose send certainly failed was read
	Phantom            Kind = "phantom"             // a value that nobody sent was read
	SendReorder        Kind = "nonmonotonic-send"   // one producer's later value at a lower offset
	SendSkip           Kind = "send-skip"           // one producer's later value is there, an earlier one that did not fail is not
	PollReorder        Kind = "nonmonotonic-poll"   // one reader was given a lower offset after a higher one
	PollSkip           Kind = "poll-skip"           // one reader was given an offset that does not follow its last one
	StartWentBack      Kind = "log-start-went-back" // as a client was told
	EndWentBack        Kind = "high-watermark-went-back"
	EndBelowAck        Kind = "high-watermark-below-ack" // below what had been acknowledged before the question
)

// Anomaly is one thing that is wrong.
type Anomaly struct {
	Kind      Kind
	Partition Partition
	Detail    string
}

// String is one line.
func (a Anomaly) String() string { return fmt.Sprintf("%s %s: %s", a.Kind, a.Partition, a.Detail) }

// History gathers what clients saw. All methods may run concurrently.
type History struct {
	mu    sync.Mutex
	parts map[Partition]*partition // guarded by mu
}

// partition is the history of one partition.
type partition struct {
	sent     map[int][]string // by producer, in its order
	fate     map[string]fate
	polls    map[string][]poll // by reader, in its order
	final    []poll
	read     bool // there was a final read
	maxAcked protocol.Offset
	start    protocol.Offset // greatest that a client was told
	end      protocol.Offset
	told     []Anomaly // found while the history was written
}

// fate is what a producer was told about a value.
type fate struct {
	acked, refused bool
	offset         protocol.Offset
}

type poll struct {
	offset protocol.Offset
	value  string
	jump   bool // the reader was set to this offset
}

// NewHistory makes an empty one.
func NewHistory() *History { return &History{parts: map[Partition]*partition{}} }

func (h *History) at(p Partition) *partition {
	part := h.parts[p]
	if part == nil {
		part = &partition{sent: map[int][]string{}, fate: map[string]fate{}, polls: map[string][]poll{}, maxAcked: protocol.NoOffset}
		h.parts[p] = part
	}
	return part
}

// Sent notes a value before its producer may send it. The order of calls is the producer's order.
func (h *History) Sent(producer int, p Partition, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	part := h.at(p)
	part.sent[producer] = append(part.sent[producer], value)
	part.fate[value] = fate{}
}

// Acked notes that a value was acknowledged at an offset.
func (h *History) Acked(p Partition, value string, offset protocol.Offset) {
	h.mu.Lock()
	defer h.mu.Unlock()
	part := h.at(p)
	if old := part.fate[value]; old.acked && old.offset != offset {
		part.told = append(part.told, Anomaly{Duplicate, p, fmt.Sprintf("%q was acknowledged at %d and at %d", value, old.offset, offset)})
	}
	part.fate[value] = fate{acked: true, offset: offset}
	part.maxAcked = max(part.maxAcked, offset)
}

// Refused notes that a value was certainly not written, and never will be.
func (h *History) Refused(p Partition, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at(p).fate[value] = fate{refused: true}
}

// Polled notes a record that a reader was given. The order of calls is the reader's order.
func (h *History) Polled(reader string, p Partition, offset protocol.Offset, value string) {
	h.poll(reader, p, poll{offset: offset, value: value})
}

// Jumped is Polled for a record that need not follow the reader's last one: its
// first one, or one after a seek.
func (h *History) Jumped(reader string, p Partition, offset protocol.Offset, value string) {
	h.poll(reader, p, poll{offset: offset, value: value, jump: true})
}

func (h *History) poll(reader string, p Partition, one poll) {
	h.mu.Lock()
	defer h.mu.Unlock()
	part := h.at(p)
	part.polls[reader] = append(part.polls[reader], one)
}

// Final says that a reader has read the partition from its log start to its end
// after all sends were over. Without it nothing counts as lost.
func (h *History) Final(reader string, p Partition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	part := h.at(p)
	part.final, part.read = part.polls[reader], true
}

// Ask is called before a client asks for a partition's bounds, and what it
// returns with the answer. Questions about one partition come one after another.
func (h *History) Ask(p Partition) (answer func(start, end protocol.Offset)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	acked := h.at(p).maxAcked
	return func(start, end protocol.Offset) {
		h.mu.Lock()
		defer h.mu.Unlock()
		part := h.at(p)
		tell := func(bad bool, kind Kind, text string, args ...any) {
			if bad {
				part.told = append(part.told, Anomaly{kind, p, fmt.Sprintf(text, args...)})
			}
		}
		tell(start < part.start, StartWentBack, "from %d to %d", part.start, start)
		tell(end < part.end, EndWentBack, "from %d to %d", part.end, end)
		tell(end <= acked, EndBelowAck, "it is %d, offset %d had been acknowledged", end, acked)
		part.start, part.end = max(part.start, start), max(part.end, end)
	}
}

// Acks is how many values were acknowledged so far.
func (h *History) Acks() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, part := range h.parts {
		for _, f := range part.fate {
			if f.acked {
				n++
			}
		}
	}
	return n
}

// String counts what the history holds.
func (h *History) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var sent, acked, refused, polled, final int
	for _, part := range h.parts {
		sent += len(part.fate)
		final += len(part.final)
		for _, f := range part.fate {
			if f.acked {
				acked++
			}
			if f.refused {
				refused++
			}
		}
		for _, polls := range part.polls {
			polled += len(polls)
		}
	}
	return fmt.Sprintf("%d partitions, %d values sent, %d acknowledged, %d refused, %d polled, %d of them by the final read",
		len(h.parts), sent, acked, refused, polled, final)
}

// Lines joins anomalies for a test's message, at most 20 of them.
func Lines(found []Anomaly) string {
	var b strings.Builder
	for i, a := range found {
		if i == 20 {
			fmt.Fprintf(&b, "and %d more\n", len(found)-i)
			break
		}
		b.WriteString(a.String() + "\n")
	}
	return b.String()
}
