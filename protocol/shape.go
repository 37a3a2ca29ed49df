package protocol

import "fmt"

// CheckBody walks a request body of a served API and version and tells how
// many bytes of memory decoding it takes (an upper bound, records excepted).
// It must come before kmsg's decoder, which believes an element count up to the
// bytes left and a count of tagged fields without any bound (four billion
// rounds for five bytes). What passes here decodes without error, but for the
// values of tagged fields, which kmsg reads within their bounds; errors wrap
// ErrMalformed. Cost is at most MaxDecodeFactor times the body plus
// DecodeOverhead; a denser body is refused as malformed. Bytes after the body
// are let be, as Kafka does.
func CheckBody(h RequestHeader, body []byte) (cost int, err error) {
	api, ok := LookupAPI(h.Key)
	if !ok || !api.Serves(h.Version) {
		return 0, fmt.Errorf("%w: API key %d version %d", ErrNotServed, h.Key, h.Version)
	}
	if h.Key == KeyProduce {
		return checkProduce(h.Version, body)
	}
	w := walker{reader: reader{b: body}, version: h.Version, flexible: api.IsFlexible(h.Version)}
	w.fields(shapeOf(h.Key))
	w.tagged()
	switch {
	case w.bad:
		return 0, fmt.Errorf("%w: %s version %d of %d bytes", ErrMalformed, api.Name, h.Version, len(body))
	case w.cost > MaxDecodeFactor*len(body)+DecodeOverhead:
		return 0, fmt.Errorf("%w: %s version %d of %d bytes would take %d bytes of memory",
			ErrMalformed, api.Name, h.Version, len(body), w.cost)
	}
	return w.cost + DecodeOverhead, nil
}

// Bounds of what decoding a body may take in memory.
const (
	MaxDecodeFactor = 40   // bytes of memory for each byte of body
	DecodeOverhead  = 1024 // the request struct itself
)

// AnswerFactor is how many bytes of memory the answer to a request may take for each byte of its body, beyond
// what decoding takes: for APIs that answer each of many small elements with much, errors included. What is there to
// be told (topics, partitions, offsets) is told once a request and not counted.
func AnswerFactor(key int16) int {
	switch key {
	case KeyCreateTopics:
		return 600 // all settings of each topic
	case KeyElectLeaders, KeyAlterPartitionReassignments, KeyDeleteRecords, KeyDescribeProducers, KeyDescribeConfigs,
		KeyIncrementalAlterConfigs, KeyAlterConfigs, KeyDeleteTopics, KeyCreatePartitions:
		return 100 // a message for each element
	case KeyListOffsets, KeyOffsetForLeaderEpoch, KeyOffsetFetch, KeyOffsetCommit, KeyOffsetDelete, KeyMetadata,
		KeyDescribeTopicPartitions, KeyDescribeGroups, KeyDeleteGroups, KeyFindCoordinator:
		return 40 // numbers and a code for each element
	}
	return 0
}

// What a run of tagged fields takes in memory: kmsg keeps unknown ones in a map.
const (
	tagMapCost = 512
	tagCost    = 192
)

type kind uint8

const (
	kindFixed kind = iota // a number, boolean or UUID of size bytes
	kindString
	kindBytes
	kindList  // of structs; an element takes size bytes of memory
	kindPlain // a list of one primitive, without tagged fields
	kindMaybe // a struct that may be missing; it takes size bytes of memory
)

// field is one field of a request, on the wire in versions from since to until.
type field struct {
	kind         kind
	size         int
	since, until int16
	nullable     bool
	pointed      bool // kmsg keeps a pointer to it, 16 bytes more
	fields       []field
}

const lastVersion int16 = 1<<15 - 1

func fixed(size int) field { return field{kind: kindFixed, size: size, until: lastVersion} }
func text() field          { return field{kind: kindString, until: lastVersion} }
func nullText() field {
	return field{kind: kindString, nullable: true, pointed: true, until: lastVersion}
}
func blob() field { return field{kind: kindBytes, until: lastVersion} }
func list(size int, f ...field) field {
	return field{kind: kindList, size: size, fields: f, until: lastVersion}
}

func plain(size int, f field) field {
	return field{kind: kindPlain, size: size, fields: []field{f}, until: lastVersion}
}

func maybe(size int, f ...field) field {
	return field{kind: kindMaybe, size: size, fields: f, until: lastVersion}
}
func null(f field) field               { f.nullable = true; return f }
func pointed(f field) field            { f.pointed = true; return f }
func since(v int16, f field) field     { f.since = v; return f }
func until(v int16, f field) field     { f.until = v; return f }
func within(a, b int16, f field) field { f.since, f.until = a, b; return f }

// walker follows a shape over a body.
type walker struct {
	reader
	version  int16
	flexible bool
	cost     int
}

func (w *walker) fields(fields []field) {
	for i := range fields {
		f := &fields[i]
		if w.version < f.since || w.version > f.until {
			continue
		}
		w.field(f)
		if w.bad {
			return
		}
	}
}

func (w *walker) field(f *field) {
	switch f.kind {
	case kindFixed:
		w.span(f.size)
	case kindString:
		if f.pointed {
			w.cost += 16
		}
		if f.nullable {
			w.cost += rounded(len(w.nullableString(w.flexible)))
		} else {
			w.cost += rounded(len(w.string(w.flexible)))
		}
	case kindBytes:
		w.span(w.length(w.flexible, false))
	case kindList, kindPlain:
		w.list(f)
	case kindMaybe:
		w.maybe(f)
	}
}

// maybe takes a struct that a byte of -1 says to be missing.
func (w *walker) maybe(f *field) {
	if b := w.span(1); b == nil || int8(b[0]) == -1 {
		return
	}
	w.cost += rounded(f.size)
	w.fields(f.fields)
	w.tagged()
}

func (w *walker) list(f *field) {
	n := w.count(w.flexible, w.least(f))
	if n < 0 {
		if !f.nullable {
			w.fail()
		}
		return
	}
	w.cost += rounded(n * f.size)
	for range n {
		w.fields(f.fields)
		if f.kind == kindList {
			w.tagged()
		}
		if w.bad {
			return
		}
	}
}

// rounded bounds what the allocator makes of n bytes: a size class or a page more.
func rounded(n int) int { return n + n/4 + 16 }

// tagged skips the tagged fields at the end of a struct. Known and unknown ones
// count alike; none of those known to kmsg holds an array.
func (w *walker) tagged() {
	if !w.flexible {
		return
	}
	before := len(w.b)
	if n := w.tags(); n > 0 {
		w.cost += tagMapCost + n*tagCost + rounded(before-len(w.b))
	}
}

// least is the fewest bytes that an element of a list can take.
func (w *walker) least(f *field) int {
	n := 0
	for i := range f.fields {
		e := &f.fields[i]
		switch {
		case w.version < e.since || w.version > e.until:
		case e.kind == kindFixed:
			n += e.size
		case w.flexible:
			n++
		case e.kind == kindString:
			n += 2
		default:
			n += 4
		}
	}
	if f.kind == kindList && w.flexible {
		n++
	}
	return max(n, 1)
}
