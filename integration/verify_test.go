package integration_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stratabroker/strata/integration/harness"
	"github.com/stratabroker/strata/tiering/format"
	"github.com/stratabroker/strata/tiering/recovery"
)

// patient is a bucket that damage is done to, and what it held when it was sound.
type patient struct {
	*harness.Bucket
	sound     map[string][]byte
	segments  []recovery.SegmentInfo
	manifests []string
	roots     []string
}

// damage changes the patient and tells which objects verify must name.
type damage struct {
	name string
	do   func(p *patient) (named []string)
}

func TestVerifyNamesEachDamage(t *testing.T) {
	for name, open := range harness.EachStore {
		t.Run(name, func(t *testing.T) {
			bucket := open(t)
			broker := harness.Start(t, harness.Options{Bucket: bucket.URL, Env: bucket.Env, Set: quickSweeps()})
			fill(t, broker, "damaged", 2, 6<<20)
			p := &patient{Bucket: bucket}
			p.segments, _ = settle(t, broker, bucket, "damaged", 2)
			broker.Stop()
			p.sound = map[string][]byte{}
			for _, info := range bucket.List("") {
				p.sound[info.Key] = bucket.Read(info.Key)
			}
			p.manifests, p.roots = bucket.Keys(format.ManifestObject), bucket.Keys(format.RootObject)
			if len(p.segments) < 4 || len(p.manifests) != 2 {
				t.Fatalf("%d segments and %d manifests are too few to damage", len(p.segments), len(p.manifests))
			}
			bucket.VerifyClean()
			for _, d := range damages(p) {
				t.Run(d.name, func(t *testing.T) {
					named := d.do(p)
					p.mustName(t, named)
					for _, key := range named {
						p.Write(key, p.sound[key])
					}
				})
			}
			bucket.VerifyClean()
		})
	}
}

// mustName runs verify: it must fail, name each of the objects in a line of its
// own, and no other.
func (p *patient) mustName(t *testing.T, named []string) {
	t.Helper()
	r := p.Verify()
	if r.Code != 1 {
		t.Errorf("exit status %d, want 1", r.Code)
	}
	lines := strings.Split(strings.TrimSuffix(r.Stdout, "\n"), "\n")
	mentions := func(line string) bool {
		return slices.ContainsFunc(named, func(key string) bool {
			noRoot := strings.HasPrefix(key, format.RootPrefix) && strings.Contains(line, "object="+format.RootPrefix+":")
			return strings.Contains(line, key) || noRoot
		})
	}
	for _, line := range lines {
		if !mentions(line) {
			t.Errorf("a line names nothing that is damaged: %s", line)
		}
	}
	for _, key := range named {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "object="+key) }) {
			t.Errorf("no line names %s", key)
		}
	}
	if t.Failed() {
		t.Logf("damaged: %q\n%s%s", named, r.Stdout, r.Stderr)
	}
}

func damages(p *patient) []damage {
	one, other := p.segments[1], p.segments[len(p.segments)-1]
	out := []damage{
		{"a segment object deleted", func(p *patient) []string {
			p.Delete(one.ObjectKey)
			return []string{one.ObjectKey}
		}},
		{"a segment object shortened by a byte", func(p *patient) []string { return p.shorten(one.ObjectKey, 1) }},
		{"a segment object shortened to its batches", func(p *patient) []string { return p.shorten(one.ObjectKey, one.ObjectSize-one.DataBytes) }},
		{"a segment object shortened to half", func(p *patient) []string { return p.shorten(one.ObjectKey, one.ObjectSize/2) }},
		{"a segment object emptied", func(p *patient) []string { return p.shorten(one.ObjectKey, one.ObjectSize) }},
		{"a segment object with bytes behind it", func(p *patient) []string {
			p.Write(one.ObjectKey, append(bytes.Clone(p.sound[one.ObjectKey]), 0))
			return []string{one.ObjectKey}
		}},
		{"two segment objects of a partition swapped", func(p *patient) []string { return p.swap(p.segments[0].ObjectKey, one.ObjectKey) }},
		{"two segment objects of two partitions swapped", func(p *patient) []string { return p.swap(one.ObjectKey, other.ObjectKey) }},
		{"a manifest page missing", func(p *patient) []string {
			p.Delete(p.manifests[0])
			return p.manifests[:1]
		}},
		{"all manifest pages missing", func(p *patient) []string {
			for _, key := range p.manifests {
				p.Delete(key)
			}
			return p.manifests
		}},
		{"a byte of a manifest page flipped", func(p *patient) []string { return p.flip(p.manifests[1], 20) }},
		{"a byte of each root flipped", func(p *patient) []string {
			for _, key := range p.roots {
				p.flip(key, 100)
			}
			return p.roots
		}},
		{"OWNER missing", func(p *patient) []string {
			p.Delete(format.OwnerKey)
			return []string{format.OwnerKey}
		}},
		{"cluster.json missing", func(p *patient) []string {
			p.Delete(format.ClusterKey)
			return []string{format.ClusterKey}
		}},
	}
	tail := one.ObjectSize - one.DataBytes
	for _, at := range []int64{0, 16, 21, 70, one.DataBytes / 3, one.DataBytes - 1, one.DataBytes, one.DataBytes + tail/2, one.ObjectSize - 1} {
		out = append(out, damage{fmt.Sprintf("byte %d of %d flipped", at, one.ObjectSize), func(p *patient) []string {
			return p.flip(one.ObjectKey, at)
		}})
	}
	return out
}

func (p *patient) shorten(key string, by int64) []string {
	body := p.sound[key]
	p.Write(key, body[:int64(len(body))-by])
	return []string{key}
}

// flip changes one bit of the byte.
func (p *patient) flip(key string, at int64) []string {
	body := bytes.Clone(p.sound[key])
	body[at] ^= 0x10
	p.Write(key, body)
	return []string{key}
}

func (p *patient) swap(a, b string) []string {
	p.Write(a, p.sound[b])
	p.Write(b, p.sound[a])
	return []string{a, b}
}
