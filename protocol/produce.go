package protocol

import (
	"fmt"
	"unsafe"
)

// ProduceRequest is a decoded Produce request. Only Records alias the body.
type ProduceRequest struct {
	TransactionalID *string
	Acks            int16
	TimeoutMs       int32
	Topics          []ProduceTopic
}

// ProduceTopic names its topic by Name up to version 12, by ID from 13 on.
type ProduceTopic struct {
	Name       string
	ID         TopicID
	Partitions []ProducePartition
}

// ProducePartition is what is to be appended to one partition. Records is nil where
// the wire says null.
type ProducePartition struct {
	Index   int32
	Records []byte
}

// MaxProduceStructure bounds what a Produce body may hold besides records, in
// bytes: the frame cap of Produce is there for records, the rest is bounded as
// the frames of all other APIs are.
const MaxProduceStructure = 1 << 20

// DecodeProduce decodes a Produce body of a served version (3 to 13). Records
// alias body, names do not. Errors wrap ErrMalformed.
//
// kmsg believes an element count up to the bytes left, which takes 64 bytes of
// memory for each byte of a hostile frame of up to 100 MiB. Here the body is
// walked first; memory is taken only for elements that were seen, at most 24
// bytes for each byte of structure.
func DecodeProduce(version int16, body []byte) (*ProduceRequest, error) {
	if api, _ := LookupAPI(KeyProduce); !api.Serves(version) {
		return nil, fmt.Errorf("%w: Produce version %d", ErrNotServed, version)
	}
	d := newProduceDecoder(version, body)
	topics, partitions, err := d.measure()
	if err != nil {
		return nil, err
	}
	d.reader = reader{b: body}
	return d.decode(topics, partitions), nil
}

// checkProduce is CheckBody for Produce.
func checkProduce(version int16, body []byte) (cost int, err error) {
	d := newProduceDecoder(version, body)
	topics, partitions, err := d.measure()
	if err != nil {
		return 0, err
	}
	return d.structure + topics*(topicSize+8) + partitions*partitionSize + DecodeOverhead, nil
}

// What an element takes in memory once decoded.
const (
	topicSize     = int(unsafe.Sizeof(ProduceTopic{}))
	partitionSize = int(unsafe.Sizeof(ProducePartition{}))
)

// produceDecoder walks a body twice: to measure, then to decode what is known
// to be well formed.
type produceDecoder struct {
	reader
	version      int16
	compact, ids bool
	structure    int // bytes that are not records
}

func newProduceDecoder(version int16, body []byte) produceDecoder {
	return produceDecoder{
		reader: reader{b: body}, version: version, compact: version >= 9, ids: version >= 13,
		structure: len(body),
	}
}

// measure counts topics and partitions and refuses what decode must not meet.
func (d *produceDecoder) measure() (topics, partitions int, err error) {
	size := len(d.b)
	d.nullableString(d.compact)
	d.span(2 + 4)
	topics = d.elements(d.leastTopic())
	for range topics {
		d.skipTopic()
		n := d.elements(d.leastPartition())
		partitions += n
		for i := 0; i < n && !d.bad; i++ {
			d.int32()
			d.structure -= len(d.nullableBytes(d.compact))
			d.skipTags()
		}
		d.skipTags()
		if d.bad {
			break
		}
	}
	d.skipTags()
	switch {
	case d.bad:
		return 0, 0, fmt.Errorf("%w: Produce version %d of %d bytes", ErrMalformed, d.version, size)
	case d.structure > MaxProduceStructure:
		return 0, 0, fmt.Errorf("%w: Produce with %d bytes besides records, at most %d are taken",
			ErrMalformed, d.structure, MaxProduceStructure)
	}
	return topics, partitions, nil
}

func (d *produceDecoder) decode(topics, partitions int) *ProduceRequest {
	req := &ProduceRequest{Topics: make([]ProduceTopic, topics)}
	if id := d.nullableString(d.compact); id != nil {
		s := string(id)
		req.TransactionalID = &s
	}
	req.Acks, req.TimeoutMs = d.int16(), d.int32()
	d.elements(d.leastTopic())
	all := make([]ProducePartition, partitions)
	for i := range req.Topics {
		t := &req.Topics[i]
		t.Name, t.ID = d.topic()
		n := d.elements(d.leastPartition())
		t.Partitions, all = all[:n:n], all[n:]
		for j := range t.Partitions {
			t.Partitions[j] = ProducePartition{Index: d.int32(), Records: d.nullableBytes(d.compact)}
			d.skipTags()
		}
		d.skipTags()
	}
	return req
}

// elements reads the count of an array that must not be null.
func (d *produceDecoder) elements(least int) int {
	n := d.count(d.compact, least)
	if n < 0 {
		d.fail()
		return 0
	}
	return n
}

func (d *produceDecoder) topic() (name string, id TopicID) {
	if d.ids {
		copy(id[:], d.span(len(id)))
		return "", id
	}
	return string(d.string(d.compact)), id
}

func (d *produceDecoder) skipTopic() {
	if d.ids {
		d.span(len(TopicID{}))
		return
	}
	d.string(d.compact)
}

func (d *produceDecoder) skipTags() {
	if d.compact {
		d.tags()
	}
}

// leastTopic and leastPartition are the fewest bytes an element can take.
func (d *produceDecoder) leastTopic() int {
	switch {
	case d.ids:
		return len(TopicID{}) + 1 + 1
	case d.compact:
		return 1 + 1 + 1
	}
	return 2 + 4
}

func (d *produceDecoder) leastPartition() int {
	if d.compact {
		return 4 + 1 + 1
	}
	return 4 + 4
}
