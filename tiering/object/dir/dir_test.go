package dir_test

import (
	"path/filepath"
	"testing"

	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/dir"
	"github.com/stratabroker/strata/tiering/object/objecttest"
)

func open(t *testing.T, root string) *dir.Store {
	t.Helper()
	s, err := dir.New(root)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	objecttest.Run(t, func(t *testing.T) object.Store { return open(t, filepath.Join(t.TempDir(), "made", "here")) })
}
