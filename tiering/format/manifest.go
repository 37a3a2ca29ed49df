package format

import (
	"iter"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// DefaultFanout is how many entries or children a page holds at most.
const DefaultFanout = 256

// Load gets the bytes of one page: one ranged GET of p.Length bytes. It need not
// check them; its errors come back wrapped.
type Load func(p metadata.PagePlace) ([]byte, error)

// Manifest is one version of a partition's list of segment objects: an immutable
// copy-on-write B+tree that may share pages with other versions. A zero Root is the empty manifest.
type Manifest struct {
	Version uint64
	Root    metadata.PagePlace
	Fanout  int // of pages to write; 0 means DefaultFanout. Reading takes any.
}

// Summary is what a page or tree holds in all. Of nothing it is zero with MaxTimestamp NoTimestamp.
type Summary struct {
	Base, End    protocol.Offset
	MaxTimestamp protocol.Timestamp
	Bytes        int64 // of batches (DataBytes)
	ObjectBytes  int64 // of objects (ObjectSize)
	Segments     int64 // entries
	Records      int64
}

// Edit is the change from one version to the next, in this order.
type Edit struct {
	DropBelow protocol.Offset // entries wholly below it go; one that straddles it stays as it is
	Replace   []Replacement
	Append    []Entry // must continue at the end, unless nothing is left
}

// Replacement swaps the whole entries that tile [Base, End) for others that tile it too.
type Replacement struct {
	Base, End protocol.Offset
	Entries   []Entry
}

// Version is a new manifest version, to be written to its object key as it is.
type Version struct {
	Object  []byte // the pages that changed, the root page last, then the footer
	Root    metadata.PagePlace
	Summary Summary
	Version uint64
	// Attempt is the lowest attempt of any object that this version names and its parent
	// does not, the manifest object included (D14).
	Attempt metadata.Attempt
}

// Apply makes the next version. objectKey must be a ManifestKey of the partition and version whose
// attempt is the caller's; every entry's ObjectKey a SegmentKey of that partition.
// Only pages on the paths to what changed are loaded and rewritten. A tree
// that becomes empty has a root page too. Errors: ErrEdit for
// gaps, overlaps and descending entries, ErrCorrupt, those of load.
func (m Manifest) Apply(load Load, e Edit, objectKey string, version uint64) (Version, error) {
	panic("body follows")
}

// Summary reads the root page.
func (m Manifest) Summary(load Load) (Summary, error) { panic("body follows") }

// Find gives the entry that covers o; false where none does.
func (m Manifest) Find(load Load, o protocol.Offset) (Entry, bool, error) { panic("body follows") }

// FindTime gives the first entry with End > from and MaxTimestamp >= ts. The record asked
// for may lie below a narrowed entry or below from: then go on from the entry's End.
func (m Manifest) FindTime(load Load, ts protocol.Timestamp, from protocol.Offset) (Entry, bool, error) {
	panic("body follows")
}

// FindMaxTimestamp gives the first of the entries with the greatest max timestamp (ListOffsets -3, KIP-734).
func (m Manifest) FindMaxTimestamp(load Load) (Entry, bool, error) { panic("body follows") }

// Scan yields the entries with End > from in order. An error ends it.
func (m Manifest) Scan(load Load, from protocol.Offset) iter.Seq2[Entry, error] {
	panic("body follows")
}

// Pages yields every page of the tree, parents first, loading inner pages only. With the
// keys of Scan these are all the objects that the version reaches. An error ends it.
func (m Manifest) Pages(load Load) iter.Seq2[metadata.PagePlace, error] { panic("body follows") }

// Page is one decoded page, for tools that walk a tree on their own.
type Page struct {
	Level    int     // 0: a leaf
	Entries  []Entry // of a leaf
	Children []Child // of an inner page
}

// Child is a reference to a page one level below, with what that page holds.
type Child struct {
	Place   metadata.PagePlace
	Summary Summary
	Count   int // entries or children of that page
}

// DecodePage checks the bytes of the page at p (length, CRC, version, order, tiling) and
// decodes them. Errors: ErrNewerFormat, ErrCorrupt.
func DecodePage(b []byte, p metadata.PagePlace) (*Page, error) { panic("body follows") }

// Summary sums up the page.
func (p *Page) Summary() Summary { panic("body follows") }
