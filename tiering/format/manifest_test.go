package format_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
)

// bucket holds manifest objects and counts what is read of them.
type bucket struct {
	objects map[string][]byte
	loads   int
}

func newBucket() *bucket { return &bucket{objects: map[string][]byte{}} }

var errMissing = errors.New("object does not exist")

func (b *bucket) load(p metadata.PagePlace) ([]byte, error) {
	b.loads++
	o, ok := b.objects[p.Key]
	if !ok {
		return nil, errMissing
	}
	if p.Offset+uint64(p.Length) > uint64(len(o)) {
		return nil, fmt.Errorf("range outside the object")
	}
	return o[p.Offset:][:p.Length], nil
}

// tree is a manifest with the list that it should equal.
type tree struct {
	*bucket
	format.Manifest
	model []format.Entry
	ended protocol.Offset
}

func newTree(fanout int) *tree {
	return &tree{bucket: newBucket(), Manifest: format.Manifest{Fanout: fanout}}
}

func (tr *tree) edit(tb testing.TB, e format.Edit) format.Version {
	tb.Helper()
	version := tr.Version + 1
	key := format.ManifestKey(testKey(0), version, metadata.Attempt{Generation: 1, Index: 1000 + version}, version*7)
	v, err := tr.Apply(tr.load, e, key, version)
	if err != nil {
		tb.Fatal(err)
	}
	tr.objects[key] = v.Object
	tr.Version, tr.Root = version, v.Root
	tr.model = editModel(tr.model, e)
	if n := len(tr.model); n > 0 {
		tr.ended = tr.model[n-1].End
	}
	return v
}

func editModel(m []format.Entry, e format.Edit) []format.Entry {
	m = slices.DeleteFunc(slices.Clone(m), func(x format.Entry) bool { return x.End <= e.DropBelow })
	for _, r := range e.Replace {
		i := slices.IndexFunc(m, func(x format.Entry) bool { return x.Base == r.Base })
		j := slices.IndexFunc(m, func(x format.Entry) bool { return x.End == r.End })
		m = slices.Replace(m, i, j+1, r.Entries...)
	}
	return append(m, e.Append...)
}

// entryAt makes an entry, sometimes narrower than its object.
func entryAt(r *rand.Rand, base protocol.Offset, span int64, attempt uint64) format.Entry {
	end := base + protocol.Offset(span)
	e := format.Entry{
		Base: base, End: end, Epoch: protocol.Epoch(r.IntN(5)), MaxTimestamp: protocol.Timestamp(r.IntN(10_000)) - 1,
		DataBytes: int64(r.IntN(1 << 30)), IndexLength: 100 + uint32(r.IntN(10_000)), IndexCRC: r.Uint32(),
		ChunkSize: 128 << 10, Records: span, SealedMs: protocol.Timestamp(attempt), Attempt: metadata.Attempt{Generation: 1, Index: attempt},
	}
	e.IndexOffset = e.DataBytes
	e.ObjectSize = e.DataBytes + int64(e.IndexLength)
	objectBase, objectEnd := base, end
	if r.IntN(4) == 0 {
		objectBase, objectEnd = max(0, base-3), end+5
	}
	e.ObjectKey = format.SegmentKey(testKey(0), objectBase, objectEnd, e.Epoch, e.Attempt, r.Uint64())
	return e
}

func entriesFrom(r *rand.Rand, base protocol.Offset, n int, attempt uint64) []format.Entry {
	out := make([]format.Entry, 0, n)
	for range n {
		out = append(out, entryAt(r, base, 1+r.Int64N(50), attempt))
		base = out[len(out)-1].End
	}
	return out
}

// randomEdit drops, replaces and appends a little.
func (tr *tree) randomEdit(r *rand.Rand, attempt uint64) (e format.Edit) {
	left := tr.model
	if r.IntN(5) == 0 && len(left) > 0 {
		e.DropBelow = left[min(len(left)-1, r.IntN(1+len(left)/3))].Base + protocol.Offset(r.IntN(3))
		if r.IntN(60) == 0 {
			e.DropBelow = tr.ended
		}
		left = slices.DeleteFunc(slices.Clone(left), func(x format.Entry) bool { return x.End <= e.DropBelow })
	}
	if r.IntN(4) == 0 && len(left) > 2 {
		i := r.IntN(len(left) - 1)
		j := min(len(left), i+1+r.IntN(12))
		base, end := left[i].Base, left[j-1].End
		rep := format.Replacement{Base: base, End: end}
		for base < end {
			span := min(int64(end-base), 1+r.Int64N(80))
			rep.Entries = append(rep.Entries, entryAt(r, base, span, attempt))
			base += protocol.Offset(span)
		}
		// Compacted entries come first, whatever is replaced.
		may, must := i == 0 || left[i-1].Compactions > 0, j < len(left) && left[j].Compactions > 0
		if must || may && r.IntN(3) > 0 {
			for n := range rep.Entries {
				rep.Entries[n].Compactions = 1 + r.Uint32N(3)
				rep.Entries[n].DeleteHorizon = protocol.Timestamp(r.IntN(2) * r.IntN(1000))
			}
		}
		e.Replace = append(e.Replace, rep)
	}
	if r.IntN(3) > 0 || len(left) == 0 {
		base := tr.ended
		if len(left) == 0 {
			base += protocol.Offset(r.IntN(2) * r.IntN(100))
		}
		e.Append = entriesFrom(r, base, 1+r.IntN(4), attempt)
	}
	return e
}

// check compares all that can be asked with the model.
func (tr *tree) check(t *testing.T, r *rand.Rand) {
	t.Helper()
	want := summaryOf(tr.model, tr.ended)
	sum, err := tr.Summary(tr.load)
	if err != nil || sum != want {
		t.Fatalf("summary %+v, %v; want %+v", sum, err, want)
	}
	checkScan(t, tr, 0, tr.model)
	for range 2 {
		o := protocol.Offset(r.Int64N(int64(tr.ended) + 10))
		checkScan(t, tr, o, slices.DeleteFunc(slices.Clone(tr.model), func(e format.Entry) bool { return e.End <= o }))
		i := slices.IndexFunc(tr.model, func(e format.Entry) bool { return e.Base <= o && o < e.End })
		compare(t, tr.model, i)(tr.Find(tr.load, o))
		ts := protocol.Timestamp(r.IntN(10_100))
		i = slices.IndexFunc(tr.model, func(e format.Entry) bool { return e.End > o && e.MaxTimestamp >= ts })
		compare(t, tr.model, i)(tr.FindTime(tr.load, ts, o))
	}
	i := slices.IndexFunc(tr.model, func(e format.Entry) bool { return e.MaxTimestamp == want.MaxTimestamp })
	compare(t, tr.model, i)(tr.FindMaxTimestamp(tr.load))
	i = slices.IndexFunc(tr.model, func(e format.Entry) bool { return e.Compactions == 0 })
	compare(t, tr.model, i)(tr.FindUncompacted(tr.load))
}

func summaryOf(model []format.Entry, ended protocol.Offset) format.Summary {
	s := format.Summary{Base: ended, End: ended, MaxTimestamp: protocol.NoTimestamp}
	for i, e := range model {
		if i == 0 {
			s.Base = e.Base
		}
		s.End = e.End
		s.MaxTimestamp = max(s.MaxTimestamp, e.MaxTimestamp)
		s.Bytes += e.DataBytes
		s.ObjectBytes += e.ObjectSize
		s.Segments++
		s.Records += e.Records
		if e.Compactions > 0 {
			s.CompactedSegments++
			s.CompactedBytes += e.DataBytes
		}
		if h := e.DeleteHorizon; h > 0 && (s.DeleteHorizon == 0 || h < s.DeleteHorizon) {
			s.DeleteHorizon = h
		}
	}
	return s
}

func compare(t *testing.T, model []format.Entry, want int) func(format.Entry, bool, error) {
	t.Helper()
	return func(got format.Entry, ok bool, err error) {
		t.Helper()
		if err != nil || ok != (want >= 0) || ok && got != model[want] {
			t.Fatalf("got %+v, %v, %v; want entry %d", got, ok, err, want)
		}
	}
}

func checkScan(t *testing.T, tr *tree, from protocol.Offset, want []format.Entry) {
	t.Helper()
	i := 0
	for e, err := range tr.Scan(tr.load, from) {
		if err != nil || i >= len(want) || e != want[i] {
			t.Fatalf("scan from %d: entry %d is %+v, %v", from, i, e, err)
		}
		i++
	}
	if i != len(want) {
		t.Fatalf("scan from %d gives %d entries, want %d", from, i, len(want))
	}
}

// pages walks the tree on its own and checks its shape; it gives the pages and the depth.
func (tr *tree) pages(t *testing.T, fanout int) (places []metadata.PagePlace, depth int) {
	t.Helper()
	var walk func(p metadata.PagePlace, level int) *format.Page
	walk = func(p metadata.PagePlace, level int) *format.Page {
		places = append(places, p)
		b, err := tr.load(p)
		if err != nil {
			t.Fatal(err)
		}
		page, err := format.DecodePage(b, p)
		if err != nil || level >= 0 && page.Level != level {
			t.Fatalf("page %+v: level %d, want %d, %v", p, page.Level, level, err)
		}
		if len(page.Children) > fanout || len(page.Entries) > fanout {
			t.Fatalf("page of %d children, %d entries", len(page.Children), len(page.Entries))
		}
		for i, c := range page.Children {
			if i > 0 && page.Children[i-1].Count+c.Count <= fanout {
				t.Fatalf("neighbours of %d and %d items have room for each other", page.Children[i-1].Count, c.Count)
			}
			if child := walk(c.Place, page.Level-1); child.Summary != c.Summary {
				t.Fatalf("child has %+v, parent says %+v", child.Summary, c.Summary)
			}
		}
		depth = max(depth, page.Level+1)
		return page
	}
	walk(tr.Root, -1)
	return places, depth
}

func TestRandomEditsEqualTheListTheyStandFor(t *testing.T) {
	for fanout, edits := range map[int]int{2: 300, 4: 2000, 7: 300, 256: 300} {
		t.Run(fmt.Sprint(fanout), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(fanout), 2))
			tr := newTree(fanout)
			old := map[uint64]tree{}
			var had []metadata.PagePlace
			for i := range edits {
				before := *tr
				attempt := uint64(r.IntN(3000))
				e := tr.randomEdit(r, attempt)
				v := tr.edit(t, e)
				if i%4 == 0 {
					tr.check(t, r)
				}
				has, depth := tr.pages(t, fanout)
				checkPages(t, tr, has)
				checkRewritten(t, v, e, had, has, depth, fanout)
				had = has
				wantAttempt := metadata.Attempt{Generation: 1, Index: 1000 + tr.Version}
				if len(e.Append)+len(e.Replace) > 0 && attempt < wantAttempt.Index {
					wantAttempt.Index = attempt
				}
				if v.Attempt != wantAttempt || v.Summary != summaryOf(tr.model, tr.ended) {
					t.Fatalf("version says attempt %s, %+v; want %s", v.Attempt, v.Summary, wantAttempt)
				}
				if m, k, err := format.OpenManifest(v.Object, v.Root.Key); err != nil || k != testKey(0) || m.Root != v.Root || m.Version != v.Version {
					t.Fatalf("object opens as %+v of %s: %v", m, k, err)
				}
				if i%100 == 0 {
					old[tr.Version] = *tr
				}
				if before.Version%40 == 1 {
					before.check(t, r)
				}
			}
			for _, o := range old {
				o.check(t, r)
			}
		})
	}
}

func checkPages(t *testing.T, tr *tree, want []metadata.PagePlace) {
	t.Helper()
	got := map[metadata.PagePlace]bool{}
	for p, err := range tr.Pages(tr.load) {
		if err != nil || got[p] {
			t.Fatalf("page %+v, %v", p, err)
		}
		got[p] = true
	}
	if len(got) != len(want) {
		t.Fatalf("%d pages, want %d", len(got), len(want))
	}
	for _, p := range want {
		if !got[p] {
			t.Fatalf("page %+v is not given", p)
		}
	}
}

// checkRewritten wants few new pages for a small edit, and all others where they were.
func checkRewritten(t *testing.T, v format.Version, e format.Edit, had, has []metadata.PagePlace, depth, fanout int) {
	t.Helper()
	before := map[metadata.PagePlace]bool{}
	for _, p := range had {
		before[p] = true
	}
	fresh := 0
	for _, p := range has {
		if p.Key == v.Root.Key {
			fresh++
		} else if !before[p] {
			t.Fatalf("page %+v is neither new nor of the parent", p)
		}
	}
	touched := 2 + len(e.Append)
	for _, r := range e.Replace {
		touched += 12 + len(r.Entries)
	}
	if fresh > depth*(2+touched/fanout*2+touched) {
		t.Fatalf("%d of %d pages are new at depth %d after an edit of %d entries", fresh, len(has), depth, touched)
	}
}

func TestAppendToAHundredThousandEntriesRewritesItsPathOnly(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	tr := newTree(0)
	tr.edit(t, format.Edit{Append: entriesFrom(r, 0, 100_000, 5000)})
	bulk := len(tr.objects[tr.Root.Key])
	most := 0
	for range 40 {
		tr.loads = 0
		v := tr.edit(t, format.Edit{Append: entriesFrom(r, tr.ended, 1, 5000)})
		most = max(most, len(v.Object))
		if tr.loads > 3 {
			t.Fatalf("an append loads %d pages", tr.loads)
		}
	}
	_, depth := tr.pages(t, format.DefaultFanout)
	if limit := depth * format.DefaultFanout * 80; depth > 3 || most > limit {
		t.Errorf("an append at depth %d writes up to %d bytes, want at most %d", depth, most, limit)
	}
	t.Logf("100,000 entries: %d bytes, depth %d; an append writes at most %d bytes", bulk, depth, most)
	tr.edit(t, format.Edit{DropBelow: tr.ended - 2000})
	tr.check(t, r)
}

func TestAFindLoadsOnePageALevel(t *testing.T) {
	tr := newTree(4)
	tr.edit(t, format.Edit{Append: entriesFrom(rand.New(rand.NewPCG(1, 4)), 0, 500, 1)})
	_, depth := tr.pages(t, 4)
	tr.loads = 0
	if _, ok, err := tr.Find(tr.load, tr.ended/2); !ok || err != nil || tr.loads != depth {
		t.Errorf("%v, %v after %d loads at depth %d", ok, err, tr.loads, depth)
	}
}

func TestDropThatEmptiesTheTreeKeepsWhereItEnded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	tr := newTree(4)
	tr.edit(t, format.Edit{Append: entriesFrom(r, 0, 100, 1)})
	v := tr.edit(t, format.Edit{DropBelow: tr.ended + 1000})
	tr.check(t, r)
	if v.Root == (metadata.PagePlace{}) || v.Summary.End != tr.ended {
		t.Errorf("emptied manifest %+v", v)
	}
	if _, err := tr.Apply(tr.load, format.Edit{Append: entriesFrom(r, tr.ended-1, 1, 1)}, format.ManifestKey(testKey(0), 9, metadata.Attempt{}, 1), 9); !errors.Is(err, format.ErrInvalid) {
		t.Errorf("append below the end of an emptied manifest: %v", err)
	}
	tr.edit(t, format.Edit{Append: entriesFrom(r, tr.ended+1000, 3, 1)})
	tr.check(t, r)
}

func TestEmptyManifestFindsNothing(t *testing.T) {
	newTree(4).check(t, rand.New(rand.NewPCG(1, 6)))
	for range (format.Manifest{}).Pages(newBucket().load) {
		t.Error("the empty manifest has a page")
	}
}

func TestEditsThatBreakTheTilingAreRefused(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 7))
	tr := newTree(4)
	tr.edit(t, format.Edit{Append: entriesFrom(r, 100, 50, 1)})
	m, key := tr.model, format.ManifestKey(testKey(0), 2, metadata.Attempt{}, 1)
	other := m[0]
	other.ObjectKey = format.SegmentKey(testKey(1), m[0].Base, m[0].End, m[0].Epoch, m[0].Attempt, 1)
	wide := entryAt(r, tr.ended, 10, 1)
	wide.End += 100
	one := func(e format.Entry) []format.Entry { return []format.Entry{e} }
	for name, e := range map[string]format.Edit{
		"gap":                   {Append: entriesFrom(r, tr.ended+1, 1, 1)},
		"overlap":               {Append: entriesFrom(r, tr.ended-1, 1, 1)},
		"gap inside":            {Append: []format.Entry{entryAt(r, tr.ended, 10, 1), entryAt(r, tr.ended+11, 10, 1)}},
		"descending":            {Append: []format.Entry{entryAt(r, tr.ended, 10, 1), entryAt(r, tr.ended, 10, 1)}},
		"empty range":           {Append: one(entryAt(r, tr.ended, 0, 1))},
		"wider than its object": {Append: one(wide)},
		"no key":                {Append: one(format.Entry{Base: tr.ended, End: tr.ended + 1})},
		"replace by nothing":    {Replace: []format.Replacement{{Base: m[3].Base, End: m[3].End}}},
		"replace half an entry": {Replace: []format.Replacement{{Base: m[3].Base, End: m[4].End + 1, Entries: one(entryAt(r, m[3].Base, int64(m[4].End+1-m[3].Base), 1))}}},
		"replace too little":    {Replace: []format.Replacement{{Base: m[3].Base, End: m[4].End, Entries: one(entryAt(r, m[3].Base, int64(m[3].End-m[3].Base), 1))}}},
		"replace beyond the end": {Replace: []format.Replacement{{
			Base: m[49].Base, End: m[49].End + 10, Entries: one(entryAt(r, m[49].Base, int64(m[49].End+10-m[49].Base), 1)),
		}}},
		"replace what is dropped": {DropBelow: m[5].Base, Replace: []format.Replacement{{Base: m[3].Base, End: m[3].End, Entries: one(m[3])}}},
		"another partition":       {Replace: []format.Replacement{{Base: m[0].Base, End: m[0].End, Entries: one(other)}}},
	} {
		if _, err := tr.Apply(tr.load, e, key, 2); !errors.Is(err, format.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, key := range map[string]string{
		"another version": format.ManifestKey(testKey(0), 3, metadata.Attempt{}, 1), "no manifest": "x",
		"another partition": format.ManifestKey(testKey(1), 2, metadata.Attempt{}, 1),
	} {
		if _, err := tr.Apply(tr.load, format.Edit{}, key, 2); !errors.Is(err, format.ErrInvalid) {
			t.Errorf("key of %s: %v", name, err)
		}
	}
	if _, err := tr.Apply(tr.load, format.Edit{}, format.ManifestKey(testKey(0), 1, metadata.Attempt{}, 1), 1); !errors.Is(err, format.ErrInvalid) {
		t.Errorf("version that does not ascend: %v", err)
	}
}

func TestAttemptCountsOnlyWhatIsNamedAnew(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 8))
	tr := newTree(4)
	tr.edit(t, format.Edit{Append: entriesFrom(r, 0, 10, 3)})
	again := tr.model[4]
	v := tr.edit(t, format.Edit{Replace: []format.Replacement{{Base: again.Base, End: again.End, Entries: []format.Entry{again}}}})
	if want := (metadata.Attempt{Generation: 1, Index: 1002}); v.Attempt != want {
		t.Errorf("attempt %s for an object that the parent names, want %s", v.Attempt, want)
	}
	v = tr.edit(t, format.Edit{Replace: []format.Replacement{{Base: again.Base, End: again.End, Entries: []format.Entry{entryAt(r, again.Base, int64(again.End-again.Base), 2)}}}})
	if want := (metadata.Attempt{Generation: 1, Index: 2}); v.Attempt != want {
		t.Errorf("attempt %s, want %s", v.Attempt, want)
	}
}

// TestDamagedPagesAreFound flips, cuts and swaps pages and takes their objects away.
func TestDamagedPagesAreFound(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	tr := newTree(4)
	for range 30 {
		tr.edit(t, format.Edit{Append: entriesFrom(r, tr.ended, 3, 3)})
	}
	scan := func() error {
		for _, err := range tr.Scan(tr.load, 0) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	places, _ := tr.pages(t, 4)
	for _, p := range places {
		good := tr.objects[p.Key]
		bad := slices.Clone(good)
		bad[p.Offset+uint64(r.IntN(int(p.Length)))] ^= 4
		tr.objects[p.Key] = bad
		if err := scan(); !errors.Is(err, format.ErrCorrupt) {
			t.Fatalf("flipped bit in %+v: %v", p, err)
		}
		tr.objects[p.Key] = good[:p.Offset+uint64(p.Length)-1]
		if err := scan(); err == nil {
			t.Fatalf("cut in %+v: %v", p, err)
		}
		delete(tr.objects, p.Key)
		if err := scan(); !errors.Is(err, errMissing) {
			t.Fatalf("missing %s: %v", p.Key, err)
		}
		tr.objects[p.Key] = good
	}
	keys := slices.Sorted(maps.Keys(tr.objects))
	a, b := places[0].Key, ""
	for _, k := range keys {
		if k != a && len(tr.objects[k]) == len(tr.objects[a]) {
			b = k
		}
	}
	if b == "" {
		b = keys[0]
	}
	tr.objects[a], tr.objects[b] = tr.objects[b], tr.objects[a]
	if err := scan(); err == nil {
		t.Error("swapped manifest objects are not found")
	}
	var bad *format.CorruptError
	if _, _, err := format.OpenManifest(tr.objects[a], a); !errors.As(err, &bad) || bad.Part != format.IdentityPart {
		t.Errorf("swapped manifest object opens: %v", err)
	}
}

func BenchmarkFind(b *testing.B) {
	tr := newTree(0)
	tr.edit(b, format.Edit{Append: entriesFrom(rand.New(rand.NewPCG(1, 10)), 0, 100_000, 1)})
	o := protocol.Offset(0)
	for b.Loop() {
		if _, ok, err := tr.Find(tr.load, o); !ok || err != nil {
			b.Fatal(err)
		}
		o = (o + 7919) % tr.ended
	}
}
