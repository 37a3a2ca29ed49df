// Package minio runs a real MinIO server for tests: in a container where a
// Docker engine answers, else the same server as a process. Only tests import
// it; it is the one door to testcontainers.
package minio

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/s3"
)

const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 20 * time.Second
	readyPath    = "/minio/health/ready"
)

// Server is one running server, with one empty bucket of its own at first.
type Server struct {
	Endpoint             string // http://host:port
	AccessKey, SecretKey string
	Kind                 string // "container" or "process"

	stop func(context.Context) error
}

// Run starts a server that stops with the test. Servers of one process are
// shared best by starting one in TestMain with Start.
func Run(tb testing.TB) *Server {
	tb.Helper()
	s, err := Start(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Stop(); err != nil {
			tb.Errorf("stop MinIO: %v", err)
		}
	})
	tb.Logf("MinIO as a %s at %s", s.Kind, s.Endpoint)
	return s
}

// Start starts a server and waits until it is ready. STRATA_MINIO_PROCESS=1
// asks for the process also where an engine answers.
func Start(ctx context.Context) (*Server, error) {
	path, err := binary(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s := &Server{AccessKey: "strata-test", SecretKey: rand.Text()}
	if os.Getenv("STRATA_MINIO_PROCESS") == "" && engineAnswers(ctx) {
		err = s.startContainer(ctx, path)
	} else {
		err = s.startProcess(ctx, path)
	}
	if err == nil {
		if err = s.awaitBuckets(ctx); err != nil {
			err = errors.Join(err, s.Stop())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("start MinIO: %w", err)
	}
	return s, nil
}

// Stop ends the server; its data is gone.
func (s *Server) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return s.stop(ctx)
}

// Bucket makes a fresh bucket and returns its URL with a prefix.
func (s *Server) Bucket(tb testing.TB) object.URL {
	tb.Helper()
	u, err := s.NewBucket(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

// NewBucket is Bucket outside of a test.
func (s *Server) NewBucket(ctx context.Context) (object.URL, error) {
	u := object.URL{
		Scheme: object.SchemeS3, Bucket: "t-" + strings.ToLower(rand.Text()), Prefix: "some/prefix",
		Endpoint: s.Endpoint, Region: "us-east-1", PathStyle: true,
	}
	store, err := s.Open(ctx, u)
	if err != nil {
		return object.URL{}, err
	}
	defer func() { _ = store.Close() }()
	return u, store.CreateBucket(ctx)
}

// Open makes a store of u with the server's keys.
func (s *Server) Open(ctx context.Context, u object.URL) (*s3.Store, error) {
	return s3.New(ctx, u, s3.Options{AccessKey: s.AccessKey, SecretKey: s.SecretKey})
}

// Env is what a program needs in its environment to use the server.
func (s *Server) Env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey}
}

func (s *Server) environment() map[string]string {
	return map[string]string{
		"MINIO_ROOT_USER":     s.AccessKey,
		"MINIO_ROOT_PASSWORD": s.SecretKey,
		"MINIO_BROWSER":       "off",
		"MINIO_UPDATE":        "off",
		"HOME":                "/",
	}
}

// awaitBuckets waits until a bucket can be made: the server says that it is ready
// some hundred milliseconds before that (503 XMinioServerNotInitialized).
func (s *Server) awaitBuckets(ctx context.Context) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		_, err := s.NewBucket(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("no bucket could be made: %w", err)
		}
	}
}

// ready asks once whether the server can serve.
func (s *Server) ready(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+readyPath, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
