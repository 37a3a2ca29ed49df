package quorum_test

import (
	"errors"
	"testing"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
	"github.com/stratabroker/strata/metadata/quorum"
)

func TestASeededClusterGoesOnWhereTheImageEnds(t *testing.T) {
	first := founded(t, config(t.TempDir()))
	img := first.Image()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	dir, asked := t.TempDir(), 0
	broken := errors.New("no image yet")
	c := config(dir)
	c.Seed = func() (*metadata.Image, error) { asked++; return nil, broken }
	if _, err := quorum.Open(t.Context(), c); !errors.Is(err, broken) {
		t.Fatalf("opened without its image: %v", err)
	}
	c.Seed = func() (*metadata.Image, error) { asked++; return img, nil }
	n := open(t, c)
	if got := n.Image(); got.ClusterID() != img.ClusterID() || got.Index() < img.Index() {
		t.Errorf("cluster %q at %d, seeded with %q at %d", got.ClusterID(), got.Index(), img.ClusterID(), img.Index())
	}
	bind := &metadata.Command{Kind: &metadatapb.Command_BindBucket{BindBucket: &metadatapb.BindBucket{Url: "mem://x", Generation: 1}}}
	if r := propose(t, n, bind); r.Index <= img.Index() {
		t.Errorf("the first command is at %d, the image at %d", r.Index, img.Index())
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = open(t, c)
	defer func() { _ = n.Close() }()
	if asked != 2 || n.Image().Bucket().Generation != 1 {
		t.Errorf("asked %d times for the image, bucket %+v", asked, n.Image().Bucket())
	}
}
