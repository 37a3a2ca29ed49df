package minio_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stratabroker/strata/tiering/object"
	driver "github.com/stratabroker/strata/tiering/object/minio"
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
		return open(t, bucket(t), server.SecretKey)
	})
}

// bucket is a new bucket's URL.
func bucket(t *testing.T) object.URL {
	t.Helper()
	u := server.Bucket(t)
	return object.URL{Scheme: object.SchemeMinIO, Bucket: u.Bucket, Prefix: u.Prefix, Endpoint: strings.TrimPrefix(u.Endpoint, "http://"), Insecure: true}
}

func open(t *testing.T, u object.URL, secret string) *driver.Store {
	t.Helper()
	s, err := driver.New(u, driver.Options{AccessKey: server.AccessKey, SecretKey: secret})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnswersOfTheWireMeanWhatTheyShould(t *testing.T) {
	objecttest.RunWire(t, func(t *testing.T, endpoint string) object.Store {
		t.Helper()
		u := object.URL{Scheme: object.SchemeMinIO, Bucket: "bucket", Prefix: "p", Endpoint: strings.TrimPrefix(endpoint, "http://"), Insecure: true}
		return open(t, u, "secret")
	})
}

func TestProbeTellsWhatIsWrong(t *testing.T) {
	u := bucket(t)
	probe := func(u object.URL, secret string) error {
		store := open(t, u, secret)
		defer func() { _ = store.Close() }()
		return store.Probe(t.Context())
	}
	if err := probe(u, server.SecretKey); err != nil {
		t.Errorf("a good bucket: %v", err)
	}
	missing := u
	missing.Bucket = "there-is-none"
	if err := probe(missing, server.SecretKey); !errors.Is(err, object.ErrNoBucket) {
		t.Errorf("a missing bucket: %v", err)
	}
	if err := probe(u, "not-the-secret"); !errors.Is(err, object.ErrDenied) {
		t.Errorf("a wrong secret: %v", err)
	}
	tls := u
	tls.Insecure = false
	if err := probe(tls, server.SecretKey); err == nil || !strings.Contains(err.Error(), "no answer: ") {
		t.Errorf("TLS with a server of plain HTTP: %v", err)
	}
	store := open(t, missing, server.SecretKey)
	defer func() { _ = store.Close() }()
	if _, _, err := store.GetAll(t.Context(), "cluster.json", 100); !errors.Is(err, object.ErrNoBucket) || errors.Is(err, object.ErrNotFound) || !strings.Contains(err.Error(), "there-is-none") {
		t.Errorf("an object of a missing bucket: %v", err)
	}
}

func TestAnOutageIsToldInPlainWords(t *testing.T) {
	u := object.URL{Scheme: object.SchemeMinIO, Bucket: "bucket", Endpoint: "127.0.0.1:1", Insecure: true}
	store := open(t, u, "secret")
	if err := store.Probe(t.Context()); err == nil || err.Error() != "no answer: dial tcp 127.0.0.1:1: connect: connection refused" {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestCredentialsComeFromTheEnvironment(t *testing.T) {
	noCredentials(t)
	for name, keys := range map[string][2]string{"MinIO's": {"MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"}, "AWS's": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(keys[0], server.AccessKey)
			t.Setenv(keys[1], server.SecretKey)
			store, err := driver.New(bucket(t), driver.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = store.Close() }()
			if err := store.Probe(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// noCredentials empties all places; the machine's service must not be asked in a test.
func noCredentials(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"MINIO_ACCESS_KEY", "MINIO_ROOT_USER", "MINIO_ALIAS", "AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_SHARED_CREDENTIALS_FILE", "MINIO_SHARED_CREDENTIALS_FILE",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
}

func TestCredentialsThatCannotBeHadSayWhy(t *testing.T) {
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	defer broken.Close()
	none := filepath.Join(t.TempDir(), "none")
	for name, c := range map[string]struct {
		set  map[string]string
		want []string
	}{
		"a container's service":    {map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": broken.URL}, []string{"credentials cannot be had: AWS_CONTAINER_CREDENTIALS_FULL_URI is set", "500"}},
		"a profile without a file": {map[string]string{"AWS_PROFILE": "mine"}, []string{"credentials cannot be had: AWS_PROFILE is set", "no such file"}},
		"a file that is not there": {map[string]string{"AWS_SHARED_CREDENTIALS_FILE": none}, []string{"credentials cannot be had: AWS_SHARED_CREDENTIALS_FILE is set", "no such file"}},
		"an alias without a file":  {map[string]string{"MINIO_ALIAS": "mine"}, []string{"credentials cannot be had: MINIO_ALIAS is set", "no such file"}},
		"a key without its secret": {map[string]string{"AWS_ACCESS_KEY_ID": "mine"}, []string{"credentials cannot be had: AWS_ACCESS_KEY_ID is set", "no key with a secret"}},
	} {
		t.Run(name, func(t *testing.T) {
			noCredentials(t)
			for k, v := range c.set {
				t.Setenv(k, v)
			}
			store, err := driver.New(object.URL{Scheme: object.SchemeMinIO, Bucket: "bucket", Endpoint: "127.0.0.1:1", Insecure: true}, driver.Options{})
			if err != nil {
				t.Fatal(err)
			}
			err = store.Probe(t.Context())
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not tell %q", err, want)
				}
			}
			if errors.Is(err, object.ErrDenied) {
				t.Errorf("%v is called a refusal", err)
			}
		})
	}
}

func TestWithoutCredentialsTheErrorSaysWhereTheyAreLookedFor(t *testing.T) {
	noCredentials(t)
	store, err := driver.New(object.URL{Scheme: object.SchemeMinIO, Bucket: "bucket", Endpoint: "127.0.0.1:1", Insecure: true}, driver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = store.Probe(t.Context())
	for _, want := range []string{"no credentials found", "MINIO_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "~/.aws", "a role"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell %q", err, want)
		}
	}
}
