package format_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stratabroker/strata/tiering/format"
)

var (
	testCluster = format.Cluster{FormatVersion: 1, ClusterID: "c1", CreatedMs: 1700000000000}
	testOwner   = format.Owner{Generation: 3, ClusterID: "c1", Region: "eu-west-1", SinceMs: 1700000000001}
)

func TestIdentityGoldenBytes(t *testing.T) {
	for want, got := range map[string][]byte{
		`{"format_version":1,"cluster_id":"c1","created_ms":1700000000000,"crc32c":"ed8cea5f"}` + "\n":                                   testCluster.Encode(),
		`{"format_version":1,"generation":3,"cluster_id":"c1","region":"eu-west-1","since_ms":1700000000001,"crc32c":"e654e3ce"}` + "\n": testOwner.Encode(),
	} {
		if string(got) != want {
			t.Errorf("encoded as\n%swant\n%s", got, want)
		}
	}
}

func TestIdentityComesBack(t *testing.T) {
	if got, err := format.DecodeCluster(testCluster.Encode()); err != nil || got != testCluster {
		t.Errorf("cluster.json: %+v, %v", got, err)
	}
	if got, err := format.DecodeOwner(testOwner.Encode()); err != nil || got != testOwner {
		t.Errorf("OWNER: %+v, %v", got, err)
	}
}

func TestDamagedIdentityIsCorruptAndANewerOneIsNot(t *testing.T) {
	whole := testOwner.Encode()
	damaged := [][]byte{
		nil, []byte(""), []byte("{}"), whole[:len(whole)-3], bytes.Replace(whole, []byte(":3,"), []byte(":4,"), 1),
		bytes.Replace(whole, []byte("eu-west"), []byte("eu-east"), 1), bytes.Repeat([]byte(" "), format.MaxIdentityBytes+1),
	}
	for _, b := range damaged {
		if _, err := format.DecodeOwner(b); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%.40q: %v", b, err)
		}
	}
	if _, err := format.DecodeCluster(bytes.Replace(testCluster.Encode(), []byte("c1"), []byte("c2"), 1)); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("cluster.json of another id: %v", err)
	}
	later := []byte(`{"format_version":2,"generation":"of another type"}`)
	if _, err := format.DecodeOwner(later); !errors.Is(err, format.ErrNewerFormat) {
		t.Errorf("OWNER of version 2: %v", err)
	}
	if _, err := format.DecodeCluster(later); !errors.Is(err, format.ErrNewerFormat) {
		t.Errorf("cluster.json of version 2: %v", err)
	}
}

func FuzzDecodeIdentity(f *testing.F) {
	f.Add(testCluster.Encode())
	f.Add(testOwner.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := format.DecodeCluster(b); err == nil {
			if again, err := format.DecodeCluster(c.Encode()); err != nil || again != c {
				t.Fatalf("%+v comes back as %+v, %v", c, again, err)
			}
		}
		if o, err := format.DecodeOwner(b); err == nil {
			if again, err := format.DecodeOwner(o.Encode()); err != nil || again != o {
				t.Fatalf("%+v comes back as %+v, %v", o, again, err)
			}
		}
	})
}
