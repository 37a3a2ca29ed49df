package format

import (
	"fmt"
	"math"
	"slices"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
	"github.com/stratabroker/strata/tiering/format/formatpb"
)

// Edit is the change from one version to the next, in this order.
type Edit struct {
	DropBelow protocol.Offset // entries wholly below it go; one that straddles it stays as it is
	Replace   []Replacement
	Append    []Entry // must continue at the end; where nothing is left, at or above where it ended
}

// Replacement swaps the whole entries that tile [Base, End) for others that tile it too.
type Replacement struct {
	Base, End protocol.Offset
	Entries   []Entry
}

// Version is a new manifest version, to be written to its object key as it is.
type Version struct {
	Object  []byte // head, the pages that changed with the root page last, footer
	Root    metadata.PagePlace
	Summary Summary
	Version uint64
	// Attempt is the lowest attempt of any object that this version names and its parent
	// does not, the manifest object included (D14).
	Attempt metadata.Attempt
}

// Section kinds of a manifest object.
const (
	manifestHeadSection uint32 = iota + 1
	pageSection
)

// Apply makes the next version. objectKey must be a ManifestKey of the partition and version whose
// attempt is the caller's; every entry's ObjectKey a SegmentKey of that partition.
// Only pages on the paths to what changes are loaded and rewritten. A tree
// that becomes empty has a root page too. Errors: ErrInvalid for
// gaps, overlaps, descending entries and a compacted entry above one that is not; ErrCorrupt, ErrNewerFormat; those of load.
func (m Manifest) Apply(load Load, e Edit, objectKey string, version uint64) (Version, error) {
	name, err := ParseKey(objectKey)
	if err != nil || name.Kind != ManifestObject || name.Version != version || version <= m.Version {
		return Version{}, fmt.Errorf("%w: version %d after %d as %q", ErrInvalid, version, m.Version, objectKey)
	}
	t := &editor{load: load, fanout: m.Fanout, names: namesOf(name.Key), attempt: name.Attempt}
	if t.fanout == 0 {
		t.fanout = DefaultFanout
	}
	if t.fanout < minFanout || t.fanout > maxFanout {
		return Version{}, fmt.Errorf("%w: fan-out %d", ErrInvalid, m.Fanout)
	}
	if t.root, err = m.root(load); err != nil {
		return Version{}, err
	}
	if m.Root == (metadata.PagePlace{}) {
		t.root.names = t.names
	} else if t.root.names != t.names {
		return Version{}, fmt.Errorf("%w: manifest of %s edited as one of %s", ErrInvalid, t.root.names.key, name.Key)
	}
	err = t.apply(e)
	if err == nil {
		err = t.root.checkCompacted()
	}
	if err != nil {
		return Version{}, fmt.Errorf("edit manifest %d of %s: %w", m.Version, name.Key, err)
	}
	return t.write(name, objectKey, m.Version), nil
}

// editor is a tree in the making: pages that changed are nodes in memory, the others references.
type editor struct {
	load    Load
	fanout  int
	names   names
	root    *node
	attempt metadata.Attempt // lowest of what is named anew
}

func (t *editor) apply(e Edit) error {
	if e.DropBelow > t.root.base {
		if _, err := t.splice(math.MinInt64, e.DropBelow, nil); err != nil {
			return err
		}
	}
	for _, r := range e.Replace {
		if err := t.replace(r); err != nil {
			return err
		}
	}
	if len(e.Append) == 0 {
		return nil
	}
	sum := t.root.summary()
	if first := e.Append[0].Base; first < sum.End || first > sum.End && sum.Segments > 0 {
		return fmt.Errorf("%w: append at %d to a manifest that ends at %d", ErrInvalid, first, sum.End)
	}
	items, err := t.items(e.Append)
	if err != nil {
		return err
	}
	for _, it := range items {
		t.named(it)
	}
	_, err = t.splice(sum.End, sum.End, items)
	return err
}

// checkCompacted refuses a tree in which an entry is compacted above one that is not: what a compaction has
// dropped from it might be superseded by nothing that is left. Pages that did not change were good.
func (n *node) checkCompacted() error {
	dirty := protocol.NoOffset // where the first that is not compacted begins
	check := func(s Summary) error {
		switch {
		case dirty != protocol.NoOffset && s.CompactedSegments > 0:
			return fmt.Errorf("%w: compacted entries in [%d, %d), and one at %d that is not", ErrInvalid, s.Base, s.End, dirty)
		case dirty == protocol.NoOffset && !s.Compacted():
			dirty = s.Base
		}
		return nil
	}
	for _, it := range n.items {
		if err := check(it.summary()); err != nil {
			return err
		}
	}
	for _, k := range n.kids {
		if err := check(k.sum); err != nil {
			return err
		}
		if k.node != nil {
			if err := k.node.checkCompacted(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *editor) replace(r Replacement) error {
	items, err := t.items(r.Entries)
	if err != nil {
		return err
	}
	if len(items) == 0 || items[0].base != r.Base || items[len(items)-1].end != r.End {
		return fmt.Errorf("%w: entries for [%d, %d) do not tile it", ErrInvalid, r.Base, r.End)
	}
	removed, err := t.splice(r.Base, r.End, items)
	if err != nil {
		return err
	}
	span, before := protocol.Offset(0), map[objectID]bool{}
	for _, it := range removed {
		span += it.end - it.base
		before[it.object()] = true
	}
	if span != r.End-r.Base {
		return fmt.Errorf("%w: [%d, %d) to replace is not a run of whole entries", ErrInvalid, r.Base, r.End)
	}
	for _, it := range items {
		if !before[it.object()] {
			t.named(it)
		}
	}
	return nil
}

// objectID tells objects of one partition apart.
type objectID struct {
	base, end protocol.Offset
	attempt   metadata.Attempt
	rand      uint64
}

func (it item) attempt() metadata.Attempt {
	return metadata.Attempt{Generation: it.pb.GetAttemptGeneration(), Index: it.pb.GetAttemptIndex()}
}

func (it item) object() objectID {
	return objectID{
		base: it.base - protocol.Offset(it.pb.GetLead()), end: it.end + protocol.Offset(it.pb.GetTrail()),
		attempt: it.attempt(), rand: it.pb.GetRand(),
	}
}

// named notes that the version names an object anew.
func (t *editor) named(it item) {
	if a := it.attempt(); a.Compare(t.attempt) < 0 {
		t.attempt = a
	}
}

// items turns entries into items and refuses those that do not follow each other.
func (t *editor) items(entries []Entry) ([]item, error) {
	out := make([]item, 0, len(entries))
	for i, e := range entries {
		it, err := newItem(t.names.key, e)
		if err != nil {
			return nil, fmt.Errorf("%w entry %d: %w", ErrInvalid, i, err)
		}
		if i > 0 && it.base != out[i-1].end {
			return nil, fmt.Errorf("%w: entry [%d, %d) after one that ends at %d", ErrInvalid, it.base, it.end, out[i-1].end)
		}
		out = append(out, it)
	}
	return out, nil
}

// splice takes out the entries that lie wholly in [lo, hi) and puts items in their place. It
// returns what it took out, but for a pure removal, whose pages it does not load.
func (t *editor) splice(lo, hi protocol.Offset, items []item) (removed []item, err error) {
	end := t.root.summary().End
	s := splicer{editor: t, lo: lo, hi: hi, collect: len(items) > 0}
	kids, err := s.splice(kid{sum: t.root.summary(), count: t.root.count(), node: t.root}, items)
	if err != nil {
		return nil, err
	}
	if len(kids) == 0 {
		t.root = &node{names: t.names, base: end}
		return s.removed, nil
	}
	level := t.root.level
	for len(kids) > 1 {
		level++
		if kids, err = t.packKids(level, kids); err != nil {
			return nil, err
		}
	}
	t.root = kids[0].node
	for len(t.root.kids) == 1 {
		if t.root, err = t.root.open(t.load, 0); err != nil {
			return nil, err
		}
	}
	return s.removed, nil
}

type splicer struct {
	*editor
	lo, hi  protocol.Offset
	collect bool // what is taken out, in removed; else pages wholly taken out are not loaded
	removed []item
}

// splice gives the pages that take the place of k, which is open: k itself where nothing changes.
func (s *splicer) splice(k kid, items []item) ([]kid, error) {
	n := k.node
	if n.level == 0 {
		return s.spliceLeaf(k, items), nil
	}
	target := -1
	if len(items) > 0 {
		target = s.taker(n)
	}
	out, changed := make([]kid, 0, len(n.kids)+1), false
	for i, child := range n.kids {
		parts := []kid{child}
		var err error
		switch {
		case i == target:
			parts, err = s.spliceChild(n, i, items)
		case child.sum.End <= s.lo || child.sum.Base >= s.hi: // apart
		case s.lo <= child.sum.Base && child.sum.End <= s.hi && !s.collect:
			parts = nil
		default:
			parts, err = s.spliceChild(n, i, nil)
		}
		if err != nil {
			return nil, err
		}
		changed = changed || len(parts) != 1 || parts[0].node != child.node
		out = append(out, parts...)
	}
	if !changed {
		return []kid{k}, nil
	}
	return s.packKids(n.level, out)
}

// taker is the child that takes the items: the one at lo, or the last.
func (s *splicer) taker(n *node) int {
	i := slices.IndexFunc(n.kids, func(k kid) bool { return k.sum.End > s.lo })
	if i < 0 {
		return len(n.kids) - 1
	}
	return i
}

// spliceChild opens child i of n and splices it. It gives the child as it was, not opened, where nothing changes.
func (s *splicer) spliceChild(n *node, i int, items []item) ([]kid, error) {
	child, err := n.open(s.load, i)
	if err != nil {
		return nil, err
	}
	k := n.kids[i]
	k.node = child
	parts, err := s.splice(k, items)
	if len(parts) == 1 && parts[0].node == child {
		return n.kids[i : i+1 : i+1], err
	}
	return parts, err
}

func (s *splicer) spliceLeaf(k kid, items []item) []kid {
	kept, at := make([]item, 0, len(k.node.items)+len(items)), 0
	for _, it := range k.node.items {
		if s.lo <= it.base && it.end <= s.hi {
			s.removed = append(s.removed, it)
			continue
		}
		kept = append(kept, it)
		if it.end <= s.lo {
			at = len(kept)
		}
	}
	if len(kept) == len(k.node.items) && len(items) == 0 {
		return []kid{k}
	}
	return s.packItems(slices.Concat(kept[:at], items, kept[at:]))
}

// packItems makes full leaves of items in order: appends leave full pages behind.
func (t *editor) packItems(items []item) (out []kid) {
	for len(items) > 0 {
		n := min(t.fanout, len(items))
		out = append(out, newKid(&node{names: t.names, base: items[0].base, items: items[:n:n]}))
		items = items[n:]
	}
	return out
}

// packKids makes pages of a level of kids in order, after joining neighbours.
func (t *editor) packKids(level int, kids []kid) (out []kid, err error) {
	if kids, err = t.joinNeighbours(level, kids, 0); err != nil {
		return nil, err
	}
	for len(kids) > 0 {
		n := min(t.fanout, len(kids))
		out = append(out, newKid(&node{names: t.names, level: level, base: kids[0].sum.Base, kids: kids[:n:n]}))
		kids = kids[n:]
	}
	return out, nil
}

// joinNeighbours joins kids of a page of the given level that have room for each other, so
// that of two neighbours one is more than half full and the depth stays logarithmic. Only
// what changed needs a look, and the two that met at seam.
func (t *editor) joinNeighbours(level int, kids []kid, seam int) (out []kid, err error) {
	for i, k := range kids {
		n := len(out)
		if n == 0 || out[n-1].count+k.count > t.fanout || k.node == nil && out[n-1].node == nil && i != seam {
			out = append(out, k)
			continue
		}
		if out[n-1], err = t.join(level, out[n-1], k); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// join makes one page of two kids of a page of the given level.
func (t *editor) join(level int, a, b kid) (kid, error) {
	pair := &node{names: t.names, level: level, kids: []kid{a, b}}
	left, err := pair.open(t.load, 0)
	if err != nil {
		return kid{}, err
	}
	right, err := pair.open(t.load, 1)
	if err != nil {
		return kid{}, err
	}
	both := &node{names: t.names, level: left.level, base: left.base, items: slices.Concat(left.items, right.items)}
	both.kids, err = t.joinNeighbours(left.level, slices.Concat(left.kids, right.kids), len(left.kids))
	return newKid(both), err
}

func newKid(n *node) kid { return kid{sum: n.summary(), count: n.count(), node: n} }

// write encodes the pages that are nodes, children first.
func (t *editor) write(name Name, objectKey string, parent uint64) Version {
	var w objectWriter
	w.add(manifestHeadSection, mustAppend(nil, &formatpb.ManifestHead{
		TopicId: name.Key.Topic[:], Partition: name.Key.Partition, Version: name.Version, ParentVersion: parent,
		AttemptGeneration: name.Attempt.Generation, AttemptIndex: name.Attempt.Index, Rand: name.Rand,
	}))
	ref := writePages(&w, name, t.root)
	return Version{
		Object: w.finish(manifestMagic), Version: name.Version, Summary: t.root.summary(), Attempt: t.attempt,
		Root: metadata.PagePlace{Key: objectKey, Offset: ref.offset, Length: ref.length, CRC: ref.crc},
	}
}

func writePages(w *objectWriter, name Name, n *node) pageRef {
	written := *n
	written.kids = make([]kid, len(n.kids))
	for i, k := range n.kids {
		if k.node != nil {
			k.ref, k.node = writePages(w, name, k.node), nil
		}
		written.kids[i] = k
	}
	b := written.encode()
	s := w.add(pageSection, b)
	return pageRef{
		version: name.Version, attempt: name.Attempt, rand: name.Rand,
		offset: s.off, length: uint32(s.n), crc: record.CRC(b),
	}
}
