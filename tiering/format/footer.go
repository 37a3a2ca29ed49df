package format

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/stratabroker/strata/protocol/record"
)

// Every binary object is a run of sections that tile it from byte 0, then its
// footer: the section table and a trailer.
//
//	section (24 bytes)           trailer (28 bytes, the object's last)
//	 0  4  kind                   0  8  magic
//	 4  4  CRC32C                 8  2  format version
//	 8  8  offset                10  2  zero
//	16  8  length                12  4  number of sections
//	                             16  8  size of the whole object
//	                             24  4  CRC32C of table and trailer up to here
//
// The trailer has this form in every format version, so that its CRC can be
// checked before its version is believed. Numbers are big-endian.
const (
	sectionLen = 24
	trailerLen = 28
)

// Magics.
const (
	segmentMagic  = "strataSG"
	manifestMagic = "strataMF"
	rootMagic     = "strataRT"
)

// section is one row of the section table.
type section struct {
	kind uint32
	crc  uint32
	off  uint64
	n    uint64
}

// objectWriter builds an object, or the end of one, in memory.
type objectWriter struct {
	buf      []byte
	start    uint64 // where in the object buf begins
	sections []section
}

// skip declares a section that is not in buf but before all that is.
func (w *objectWriter) skip(kind uint32, n uint64, crc uint32) {
	w.sections = append(w.sections, section{kind: kind, crc: crc, off: w.start, n: n})
	w.start += n
}

// add appends a section.
func (w *objectWriter) add(kind uint32, b []byte) section {
	s := section{kind: kind, crc: record.CRC(b), off: w.start + uint64(len(w.buf)), n: uint64(len(b))}
	w.sections = append(w.sections, s)
	w.buf = append(w.buf, b...)
	return s
}

// finish appends the footer.
func (w *objectWriter) finish(magic string) []byte {
	at := len(w.buf)
	be := binary.BigEndian
	for _, s := range w.sections {
		w.buf = be.AppendUint32(w.buf, s.kind)
		w.buf = be.AppendUint32(w.buf, s.crc)
		w.buf = be.AppendUint64(w.buf, s.off)
		w.buf = be.AppendUint64(w.buf, s.n)
	}
	w.buf = append(w.buf, magic...)
	w.buf = be.AppendUint16(w.buf, FormatVersion)
	w.buf = be.AppendUint16(w.buf, 0)
	w.buf = be.AppendUint32(w.buf, uint32(len(w.sections)))
	w.buf = be.AppendUint64(w.buf, w.start+uint64(len(w.buf))+12)
	w.buf = be.AppendUint32(w.buf, record.CRC(w.buf[at:]))
	return w.buf
}

// footerLen reads from the last bytes of an object of size bytes how long its footer is.
func footerLen(part Part, magic string, trailer []byte, size int64) (int, error) {
	if len(trailer) < trailerLen {
		return 0, corrupt(part, "%d bytes are too short for a trailer of %d", len(trailer), trailerLen)
	}
	t := trailer[len(trailer)-trailerLen:]
	if got := string(t[:len(magic)]); got != magic {
		return 0, corrupt(part, "magic is %q, want %q", got, magic)
	}
	if got := binary.BigEndian.Uint64(t[16:]); got != uint64(size) {
		return 0, corrupt(part, "object has %d bytes, its trailer says %d", size, got)
	}
	count := int64(binary.BigEndian.Uint32(t[12:]))
	if count > (size-trailerLen)/sectionLen {
		return 0, corrupt(part, "%d sections cannot be in %d bytes", count, size)
	}
	return int(count)*sectionLen + trailerLen, nil
}

// readFooter checks the footer at the end of b, which is the end of an object of size bytes,
// and gives the sections. They tile the object up to the footer.
func readFooter(part Part, magic string, b []byte, size int64) ([]section, error) {
	n, err := footerLen(part, magic, b, size)
	if err != nil {
		return nil, err
	}
	if n > len(b) {
		return nil, corrupt(part, "%d bytes of footer, only %d are there", n, len(b))
	}
	f := b[len(b)-n:]
	be := binary.BigEndian
	if got, want := record.CRC(f[:n-4]), be.Uint32(f[n-4:]); got != want {
		return nil, corrupt(part, "CRC is %08x, trailer says %08x", got, want)
	}
	if v := be.Uint16(f[n-trailerLen+8:]); v > FormatVersion {
		return nil, newer(part, uint64(v))
	} else if v == 0 {
		return nil, corrupt(part, "format version 0")
	}
	sections := make([]section, (n-trailerLen)/sectionLen)
	next := uint64(0)
	for i := range sections {
		row := f[i*sectionLen:]
		s := section{kind: be.Uint32(row), crc: be.Uint32(row[4:]), off: be.Uint64(row[8:]), n: be.Uint64(row[16:])}
		if s.off != next || s.n > uint64(size-int64(n))-next {
			return nil, corrupt(part, "section %d is [%d, +%d), the last ended at %d", i, s.off, s.n, next)
		}
		next += s.n
		sections[i] = s
	}
	if next != uint64(size-int64(n)) {
		return nil, corrupt(part, "sections end at %d, footer begins at %d", next, size-int64(n))
	}
	return sections, nil
}

// bytesOf gives a section's bytes out of b, which begins at byte start of the object, after
// checking their CRC.
func (s section) bytesOf(part Part, b []byte, start uint64) ([]byte, error) {
	if s.off < start || s.off-start > uint64(len(b)) || s.n > uint64(len(b))-(s.off-start) {
		return nil, corrupt(part, "%v is outside the %d bytes from %d", s, len(b), start)
	}
	out := b[s.off-start:][:s.n:s.n]
	if got := record.CRC(out); got != s.crc {
		return nil, corrupt(part, "CRC of %v is %08x, want %08x", s, got, s.crc)
	}
	return out, nil
}

// String gives "section <kind> [<from>, <to>)".
func (s section) String() string {
	return fmt.Sprintf("section %d [%d, %d)", s.kind, s.off, s.off+s.n)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// extendCRC is the CRC32C of the bytes that crc covers, followed by b.
func extendCRC(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }
