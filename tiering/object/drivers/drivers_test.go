package drivers_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/drivers"
	"github.com/stratabroker/strata/tiering/object/objecttest"
)

func TestOpen(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "bucket")
	for _, in := range []string{"dir://" + folder, "mem://x"} {
		s := open(t, in)
		objecttest.Put(t, s, "a", []byte("x"))
		if err := drivers.Probe(t.Context(), s); err != nil {
			t.Errorf("%s: %v", in, err)
		}
	}
	if keys := objecttest.List(t, open(t, "dir://"+folder), "", ""); len(keys) != 1 {
		t.Errorf("opened again: %q", keys)
	}
	open(t, "s3://bucket/prefix?endpoint=http://127.0.0.1:1&region=x")
	open(t, "minio://bucket/prefix?endpoint=127.0.0.1:1&secure=false")
}

func open(t *testing.T, in string) object.Store {
	t.Helper()
	u, err := object.ParseURL(in)
	if err != nil {
		t.Fatal(err)
	}
	s, err := drivers.Open(t.Context(), u, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestOpenWithoutARegionSaysSo(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	u, err := object.ParseURL("s3://bucket")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := drivers.Open(t.Context(), u, nil); s != nil || err == nil || !strings.Contains(err.Error(), "region=") {
		t.Errorf("%v, %v", s, err)
	}
}
