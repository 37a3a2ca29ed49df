package format

import (
	"fmt"
	"iter"
	"sort"

	"google.golang.org/protobuf/proto"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format/formatpb"
)

// Bounds of a page's entries or children. DefaultFanout makes pages of some 16 KiB.
const (
	DefaultFanout = 256
	minFanout     = 2
	maxFanout     = 4096
)

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

// Summary is what a page or tree holds in all. Where it holds nothing, Base and End are the
// offset at which it ended, and MaxTimestamp is NoTimestamp.
type Summary struct {
	Base, End    protocol.Offset
	MaxTimestamp protocol.Timestamp
	Bytes        int64 // of batches (DataBytes)
	ObjectBytes  int64 // of objects (ObjectSize); an object with two entries counts twice
	Segments     int64 // entries
	Records      int64

	CompactedSegments int64              // of Segments, those that have been through a cold compaction; they come first
	CompactedBytes    int64              // of Bytes, those of them
	DeleteHorizon     protocol.Timestamp // the earliest of the entries; 0: none
}

// Compacted tells whether all of it has been through a cold compaction.
func (s Summary) Compacted() bool { return s.CompactedSegments == s.Segments }

// add extends a summary by what follows it.
func (s *Summary) add(o Summary) {
	s.End = o.End
	s.MaxTimestamp = max(s.MaxTimestamp, o.MaxTimestamp)
	s.Bytes += o.Bytes
	s.ObjectBytes += o.ObjectBytes
	s.Segments += o.Segments
	s.Records += o.Records
	s.CompactedSegments += o.CompactedSegments
	s.CompactedBytes += o.CompactedBytes
	if s.DeleteHorizon == 0 || o.DeleteHorizon != 0 && o.DeleteHorizon < s.DeleteHorizon {
		s.DeleteHorizon = o.DeleteHorizon
	}
}

// Summary reads the root page.
func (m Manifest) Summary(load Load) (Summary, error) {
	n, err := m.root(load)
	if err != nil {
		return Summary{}, err
	}
	return n.summary(), nil
}

// Find gives the entry that covers o; false where none does.
func (m Manifest) Find(load Load, o protocol.Offset) (Entry, bool, error) {
	n, err := m.root(load)
	for err == nil {
		if n.level == 0 {
			i := sort.Search(len(n.items), func(i int) bool { return n.items[i].end > o })
			if i == len(n.items) || n.items[i].base > o {
				return Entry{}, false, nil
			}
			return n.entry(i), true, nil
		}
		i := sort.Search(len(n.kids), func(i int) bool { return n.kids[i].sum.End > o })
		if i == len(n.kids) || n.kids[i].sum.Base > o {
			return Entry{}, false, nil
		}
		n, err = n.open(load, i)
	}
	return Entry{}, false, err
}

// FindTime gives the first entry with End > from and MaxTimestamp >= ts. The record asked
// for may lie outside a narrowed entry or below from: then go on from the entry's End.
func (m Manifest) FindTime(load Load, ts protocol.Timestamp, from protocol.Offset) (Entry, bool, error) {
	return m.first(load, func(s Summary) bool { return s.End > from && s.MaxTimestamp >= ts })
}

// FindMaxTimestamp gives the first of the entries with the greatest max timestamp (ListOffsets -3, KIP-734).
func (m Manifest) FindMaxTimestamp(load Load) (Entry, bool, error) {
	sum, err := m.Summary(load)
	if err != nil {
		return Entry{}, false, err
	}
	return m.first(load, func(s Summary) bool { return s.MaxTimestamp == sum.MaxTimestamp })
}

// FindUncompacted gives the first entry that has not been through a cold compaction.
func (m Manifest) FindUncompacted(load Load) (Entry, bool, error) {
	return m.first(load, func(s Summary) bool { return !s.Compacted() })
}

// first gives the first entry whose summary is wanted. A page whose summary is not
// wanted must have no entry that is.
func (m Manifest) first(load Load, wanted func(Summary) bool) (found Entry, ok bool, err error) {
	n, err := m.root(load)
	if err != nil {
		return Entry{}, false, err
	}
	err = n.visit(load, wanted, func(e Entry) bool {
		found, ok = e, true
		return false
	})
	return found, ok, err
}

// Scan yields the entries with End > from in order. An error ends it.
func (m Manifest) Scan(load Load, from protocol.Offset) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		n, err := m.root(load)
		stopped := false
		if err == nil {
			err = n.visit(load, func(s Summary) bool { return s.End > from }, func(e Entry) bool {
				stopped = !yield(e, nil)
				return !stopped
			})
		}
		if err != nil && !stopped {
			yield(Entry{}, err)
		}
	}
}

// Pages yields every page of the tree, parents first, loading inner pages only. With the
// keys of Scan these are all the objects that the version reaches. An error ends it.
func (m Manifest) Pages(load Load) iter.Seq2[metadata.PagePlace, error] {
	return func(yield func(metadata.PagePlace, error) bool) {
		if m.Root == (metadata.PagePlace{}) || !yield(m.Root, nil) {
			return
		}
		n, err := m.root(load)
		if err != nil {
			yield(metadata.PagePlace{}, err)
			return
		}
		n.pages(load, yield)
	}
}

// root loads the root page; of the empty manifest it makes one.
func (m Manifest) root(load Load) (*node, error) {
	if m.Root == (metadata.PagePlace{}) {
		return &node{}, nil
	}
	return loadNode(load, m.Root)
}

func loadNode(load Load, p metadata.PagePlace) (*node, error) {
	b, err := load(p)
	if err != nil {
		return nil, fmt.Errorf("load page [%d, +%d) of %s: %w", p.Offset, p.Length, p.Key, err)
	}
	return decodeNode(b, p)
}

// open gives child i of an inner page, and checks that it is what this page says.
func (n *node) open(load Load, i int) (*node, error) {
	k := n.kids[i]
	if k.node != nil {
		return k.node, nil
	}
	p := n.names.place(k.ref)
	child, err := loadNode(load, p)
	if err != nil {
		return nil, err
	}
	if got := child.summary(); child.level != n.level-1 || child.count() != k.count || got != k.sum || child.names != n.names {
		return nil, corrupt(PagePart, "[%d, +%d) of %s has level %d, %d items, %+v; its parent says %d, %d, %+v",
			p.Offset, p.Length, p.Key, child.level, child.count(), got, n.level-1, k.count, k.sum)
	}
	return child, nil
}

// visit calls do for each wanted entry in order until it returns false. It loads only wanted pages.
func (n *node) visit(load Load, wanted func(Summary) bool, do func(Entry) bool) error {
	_, err := n.visitSome(load, wanted, do)
	return err
}

func (n *node) visitSome(load Load, wanted func(Summary) bool, do func(Entry) bool) (more bool, err error) {
	for i, it := range n.items {
		if wanted(it.summary()) && !do(n.entry(i)) {
			return false, nil
		}
	}
	for i, k := range n.kids {
		if !wanted(k.sum) {
			continue
		}
		child, err := n.open(load, i)
		if err != nil {
			return false, err
		}
		if more, err := child.visitSome(load, wanted, do); !more {
			return false, err
		}
	}
	return true, nil
}

func (n *node) pages(load Load, yield func(metadata.PagePlace, error) bool) (more bool) {
	for i, k := range n.kids {
		if !yield(n.names.place(k.ref), nil) {
			return false
		}
		if n.level == 1 {
			continue
		}
		child, err := n.open(load, i)
		if err != nil {
			yield(metadata.PagePlace{}, err)
			return false
		}
		if !child.pages(load, yield) {
			return false
		}
	}
	return true
}

// Page is one decoded page, for tools that walk a tree on their own.
type Page struct {
	Level    int     // 0: a leaf
	Entries  []Entry // of a leaf
	Children []Child // of an inner page
	Summary  Summary
}

// Child is a reference to a page one level below, with what that page holds.
type Child struct {
	Place   metadata.PagePlace
	Summary Summary
	Count   int // entries or children of that page
}

// Check tells whether a decoded page is what its parent, a page of that level, says of it. Error: ErrCorrupt.
func (c Child) Check(page *Page, parentLevel int) error {
	if got := len(page.Entries) + len(page.Children); page.Level != parentLevel-1 || got != c.Count || page.Summary != c.Summary {
		return corrupt(PagePart, "[%d, +%d) of %s has level %d, %d items, %+v; its parent, of level %d, says %d, %+v",
			c.Place.Offset, c.Place.Length, c.Place.Key, page.Level, got, page.Summary, parentLevel, c.Count, c.Summary)
	}
	return nil
}

// DecodePage checks the bytes of the page at p (length, CRC, version, order, tiling) and
// decodes them. Errors: ErrNewerFormat, ErrCorrupt.
func DecodePage(b []byte, p metadata.PagePlace) (*Page, error) {
	n, err := decodeNode(b, p)
	if err != nil {
		return nil, err
	}
	page := &Page{Level: n.level, Summary: n.summary()}
	for i := range n.items {
		page.Entries = append(page.Entries, n.entry(i))
	}
	for _, k := range n.kids {
		page.Children = append(page.Children, Child{Place: n.names.place(k.ref), Summary: k.sum, Count: k.count})
	}
	return page, nil
}

// OpenManifest reads a whole manifest object without the row that names it: which manifest it
// is, and of which partition. It checks the footer and every page in the object, not those in older ones.
// Errors: ErrNewerFormat, ErrCorrupt (IdentityPart where the object is not the one of that key).
func OpenManifest(object []byte, key string) (Manifest, protocol.PartitionKey, error) {
	fail := func(err error) (Manifest, protocol.PartitionKey, error) {
		return Manifest{}, protocol.PartitionKey{}, err
	}
	sections, err := readFooter(FooterPart, manifestMagic, object, int64(len(object)))
	if err != nil {
		return fail(err)
	}
	if len(sections) < 2 || sections[0].kind != manifestHeadSection {
		return fail(corrupt(FooterPart, "%d sections in a manifest", len(sections)))
	}
	head, err := sections[0].bytesOf(FooterPart, object, 0)
	if err != nil {
		return fail(err)
	}
	var pb formatpb.ManifestHead
	if err := proto.Unmarshal(head, &pb); err != nil || len(pb.GetTopicId()) != len(protocol.TopicID{}) {
		return fail(corrupt(FooterPart, "head of %d bytes: %v", len(head), err))
	}
	k := protocol.PartitionKey{Topic: protocol.TopicID(pb.GetTopicId()), Partition: pb.GetPartition()}
	attempt := metadata.Attempt{Generation: pb.GetAttemptGeneration(), Index: pb.GetAttemptIndex()}
	if is := ManifestKey(k, pb.GetVersion(), attempt, pb.GetRand()); is != key {
		return fail(corrupt(IdentityPart, "object %s says that it is %s", key, is))
	}
	m := Manifest{Version: pb.GetVersion()}
	for _, s := range sections[1:] {
		if s.kind != pageSection {
			continue
		}
		b, err := s.bytesOf(PagePart, object, 0)
		if err != nil {
			return fail(err)
		}
		m.Root = metadata.PagePlace{Key: key, Offset: s.off, Length: uint32(s.n), CRC: s.crc}
		if _, err := decodeNode(b, m.Root); err != nil {
			return fail(err)
		}
	}
	if m.Root == (metadata.PagePlace{}) {
		return fail(corrupt(FooterPart, "no page in a manifest"))
	}
	return m, k, nil
}
