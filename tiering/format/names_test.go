package format_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering/format"
)

var testTopic = protocol.TopicID{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10}

func testKey(partition int32) protocol.PartitionKey {
	return protocol.PartitionKey{Topic: testTopic, Partition: partition}
}

func TestKeysAreTheDocumentedOnes(t *testing.T) {
	k, a := testKey(7), metadata.Attempt{Generation: 2, Index: 345}
	for want, got := range map[string]string{
		"data/78/0123456789abcdeffedcba9876543210/0000000007/00000000000000001000-00000000000000002000-0000000003-00000000000000000002.00000000000000000345-00000000deadbeef.seg": format.SegmentKey(k, 1000, 2000, 3, a, 0xdeadbeef),
		"data/78/0123456789abcdeffedcba9876543210/0000000007/manifest/00000000000000000009-00000000000000000002.00000000000000000345-ffffffffffffffff.page":                       format.ManifestKey(k, 9, a, 1<<64-1),
		"root/00000000000000000002/00000000000000000012-000000000000000a.page":                                                                                                    format.RootKey(2, 12, 10),
	} {
		if got != want {
			t.Errorf("key is\n%s, want\n%s", got, want)
		}
	}
}

func TestParseKeyGivesBackWhatWasNamed(t *testing.T) {
	k, a := testKey(7), metadata.Attempt{Generation: 2, Index: 345}
	for key, want := range map[string]format.Name{
		format.SegmentKey(k, 1000, 2000, 3, a, 5): {Kind: format.SegmentObject, Key: k, Base: 1000, End: 2000, Epoch: 3, Attempt: a, Rand: 5},
		format.ManifestKey(k, 9, a, 6):            {Kind: format.ManifestObject, Key: k, Version: 9, Attempt: a, Rand: 6},
		format.RootKey(2, 12, 10):                 {Kind: format.RootObject, Generation: 2, Seq: 12, Rand: 10},
		format.ClusterKey:                         {Kind: format.ClusterObject},
		format.OwnerKey:                           {Kind: format.OwnerObject},
		"tail/1/2-3/0/4-5.tail":                   {Kind: format.TailObject},
		"rescued/x":                               {Kind: format.RescuedObject},
	} {
		if got, err := format.ParseKey(key); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", key, got, err, want)
		}
	}
}

func TestParseKeyRefusesAnyOtherForm(t *testing.T) {
	good := format.SegmentKey(testKey(7), 1000, 2000, 3, metadata.Attempt{Generation: 1, Index: 1}, 5)
	bad := []string{
		"", "x", "data/", "root/1/2-3.page", "owner", good + "x", "x" + good, strings.ToUpper(good),
		strings.Replace(good, "/0000000007/", "/7/", 1), strings.Replace(good, "data/78", "data/79", 1),
		strings.Replace(good, "1000-", "9000-", 1), strings.Replace(good, ".seg", ".page", 1),
		strings.Replace(good, "0000000003", "-000000003", 1), strings.Replace(good, "00000000000000001000", "99999999999999999999", 1),
	}
	for _, key := range bad {
		if n, err := format.ParseKey(key); !errors.Is(err, format.ErrForeign) || n.Kind != format.Foreign {
			t.Errorf("%q: %+v, %v", key, n, err)
		}
	}
}

func TestListingIsOrdering(t *testing.T) {
	var keys []string
	for _, base := range []protocol.Offset{0, 9, 10, 99, 1 << 40} {
		keys = append(keys, format.SegmentKey(testKey(0), base, base+1, 0, metadata.Attempt{}, 0))
	}
	if !slices.IsSorted(keys) {
		t.Errorf("keys do not sort by offset: %q", keys)
	}
}

func TestPartitionsSpreadOverPrefixes(t *testing.T) {
	seen := map[string]bool{}
	for p := range int32(1000) {
		seen[format.PartitionPrefix(testKey(p))[:len("data/00")]] = true
	}
	if len(seen) < 240 {
		t.Errorf("1,000 partitions use %d of 256 prefixes", len(seen))
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(format.SegmentKey(testKey(7), 1000, 2000, 3, metadata.Attempt{Generation: 1, Index: 2}, 5))
	f.Add(format.ManifestKey(testKey(7), 3, metadata.Attempt{Generation: 1, Index: 2}, 5))
	f.Add(format.RootKey(1, 2, 3))
	f.Fuzz(func(t *testing.T, key string) {
		n, err := format.ParseKey(key)
		if err != nil {
			return
		}
		again := key
		switch n.Kind {
		case format.SegmentObject:
			again = format.SegmentKey(n.Key, n.Base, n.End, n.Epoch, n.Attempt, n.Rand)
		case format.ManifestObject:
			again = format.ManifestKey(n.Key, n.Version, n.Attempt, n.Rand)
		case format.RootObject:
			again = format.RootKey(n.Generation, n.Seq, n.Rand)
		default: // told by prefix alone
		}
		if again != key {
			t.Fatalf("%q parses as %+v, which is %q", key, n, again)
		}
	})
}
