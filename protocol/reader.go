package protocol

import "encoding/binary"

// reader takes the primitive types of Kafka's protocol off b. After the first
// failure bad is set, b is empty and every result is zero. Nothing it returns
// is copied, and no length is believed beyond the bytes left.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.bad, r.b = true, nil }

// span takes n bytes; a negative n or one beyond the bytes left fails.
func (r *reader) span(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) int16() int16 {
	if b := r.span(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.span(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

// uvarint reads an unsigned varint of at most 32 bits.
func (r *reader) uvarint() uint32 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 5 || v > 1<<32-1 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

// maxString is the longest string in bytes, also where the encoding could hold more, as in Kafka.
const maxString = 1<<15 - 1

// length reads the length of a string (short), byte string or array: -1 is null.
// Lengths of strings that are not compact have 2 bytes, all others 4.
func (r *reader) length(compact, short bool) int {
	switch {
	case compact:
		n := int(r.uvarint()) - 1
		if short && n > maxString {
			r.fail()
			return 0
		}
		return n
	case short:
		return int(r.int16())
	}
	return int(r.int32())
}

// nullable takes what the length before it says; nil is null, a length below -1 fails.
func (r *reader) nullable(n int) []byte {
	if r.bad || n == -1 {
		return nil
	}
	return r.span(n)
}

func (r *reader) nullableString(compact bool) []byte { return r.nullable(r.length(compact, true)) }

func (r *reader) nullableBytes(compact bool) []byte { return r.nullable(r.length(compact, false)) }

// string takes a string that must not be null.
func (r *reader) string(compact bool) []byte {
	n := r.length(compact, true)
	if r.bad {
		return nil
	}
	return r.span(n)
}

// count reads the length of an array whose elements take at least least bytes
// each; -1 is null. A count that the bytes left cannot hold fails.
func (r *reader) count(compact bool, least int) int {
	n := r.length(compact, false)
	if r.bad || n < -1 || n > len(r.b)/least {
		r.fail()
		return 0
	}
	return n
}

// tags skips a run of tagged fields and tells how many there were.
func (r *reader) tags() int {
	n := int(r.uvarint())
	if n > len(r.b)/2 {
		r.fail()
		return 0
	}
	for range n {
		r.uvarint()
		r.span(int(r.uvarint()))
		if r.bad {
			return 0
		}
	}
	return n
}
