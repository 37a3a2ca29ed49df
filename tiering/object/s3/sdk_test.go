package s3_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/objecttest"
	"github.com/stratabroker/strata/tiering/object/s3"
)

// probe asks for a bucket at endpoint with what credentials the environment has.
func probe(t *testing.T, endpoint string, logger *slog.Logger, o s3.Options) error {
	t.Helper()
	u := object.URL{Scheme: object.SchemeS3, Bucket: "bucket", Endpoint: endpoint, Region: "us-east-1", PathStyle: true}
	o.Logger = logger
	s, err := s3.New(t.Context(), u, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.Probe(t.Context())
}

func TestWithoutCredentialsTheErrorSaysWhereTheyAreLookedFor(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer metadata.Close()
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.URL)

	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	err := probe(t, "http://127.0.0.1:1", logger, s3.Options{})
	if err == nil {
		t.Fatal("a bucket was used without credentials")
	}
	for _, want := range []string{"no credentials found", "AWS_ACCESS_KEY_ID", "~/.aws", "IMDS"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not tell %q", err, want)
		}
	}
	for _, not := range []string{object.ErrDenied.Error(), "HostID: ,", "127.0.0.1:1"} {
		if strings.Contains(err.Error(), not) {
			t.Errorf("%q tells %q", err, not)
		}
	}
	if text := log.String(); !strings.Contains(text, "level=DEBUG") || strings.Count(text, "level=") != strings.Count(text, "level=DEBUG") {
		t.Errorf("the SDK logged %q, want debug", text)
	}
}

func TestAnOutageIsToldInPlainWords(t *testing.T) {
	keys := s3.Options{AccessKey: "key", SecretKey: "secret"}
	err := probe(t, "http://127.0.0.1:1", nil, keys)
	if err == nil || err.Error() != "no answer: dial tcp 127.0.0.1:1: connect: connection refused" {
		t.Errorf("nobody listens: %v", err)
	}
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		objecttest.AnswerError(w, http.StatusInternalServerError, "InternalError")
	}))
	defer broken.Close()
	if err := probe(t, broken.URL, nil, keys); err == nil || err.Error() != "HTTP 500 InternalError: told so" {
		t.Errorf("a broken server: %v", err)
	}
}

func TestAProviderOfCredentialsThatFailsIsNamedAndNotCalledMissing(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	defer broken.Close()
	for name, set := range map[string]map[string]string{
		"a container's service": {"AWS_CONTAINER_CREDENTIALS_FULL_URI": broken.URL},
		"a web identity":        {"AWS_WEB_IDENTITY_TOKEN_FILE": none, "AWS_ROLE_ARN": "arn:aws:iam::1:role/x"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range set {
				t.Setenv(k, v)
			}
			err := probe(t, "http://127.0.0.1:1", nil, s3.Options{})
			if err == nil || !strings.HasPrefix(err.Error(), "credentials cannot be had: ") || strings.Contains(err.Error(), "no credentials found") {
				t.Errorf("got %v", err)
			}
			var lost *object.CredentialsError
			if !errors.As(err, &lost) || lost.None {
				t.Errorf("%#v", err)
			}
		})
	}
}
