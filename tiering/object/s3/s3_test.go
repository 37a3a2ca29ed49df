package s3_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/objecttest"
	"github.com/stratabroker/strata/tiering/object/objecttest/minio"
)

var server *minio.Server

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if server, err = minio.Start(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	fmt.Fprintf(os.Stderr, "MinIO as a %s at %s\n", server.Kind, server.Endpoint)
	return m.Run()
}

func TestConformance(t *testing.T) {
	objecttest.Run(t, func(t *testing.T) object.Store {
		t.Helper()
		s, err := server.Open(t.Context(), server.Bucket(t))
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestProbeTellsWhatIsWrong(t *testing.T) {
	u := server.Bucket(t)
	probe := func(u object.URL, s minio.Server) error {
		store, err := s.Open(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = store.Close() }()
		return store.Probe(t.Context())
	}
	if err := probe(u, *server); err != nil {
		t.Errorf("a good bucket: %v", err)
	}
	missing := u
	missing.Bucket = "there-is-none"
	if err := probe(missing, *server); !errors.Is(err, object.ErrNoBucket) {
		t.Errorf("a missing bucket: %v", err)
	}
	wrong := *server
	wrong.SecretKey = "not-the-secret"
	if err := probe(u, wrong); !errors.Is(err, object.ErrDenied) {
		t.Errorf("a wrong secret: %v", err)
	}
	store, err := server.Open(t.Context(), missing)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	if _, _, err := store.GetAll(t.Context(), "cluster.json", 100); !errors.Is(err, object.ErrNoBucket) || errors.Is(err, object.ErrNotFound) {
		t.Errorf("an object of a missing bucket: %v", err)
	}
}
