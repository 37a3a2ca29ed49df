package minio_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stratabroker/strata/tiering/object/objecttest"
	"github.com/stratabroker/strata/tiering/object/objecttest/minio"
)

func TestServersOfBothKinds(t *testing.T) {
	for name, process := range map[string]string{"where it may": "", "as a process": "1"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("STRATA_MINIO_PROCESS", process)
			var endpoint string
			t.Run("serves", func(t *testing.T) {
				server := minio.Run(t)
				endpoint = server.Endpoint
				if process != "" && server.Kind != "process" {
					t.Errorf("started a %s", server.Kind)
				}
				first, second := server.Bucket(t), server.Bucket(t)
				if first == second {
					t.Errorf("one bucket twice: %s", first)
				}
				s, err := server.Open(t.Context(), first)
				if err != nil {
					t.Fatal(err)
				}
				objecttest.Put(t, s, "a/b", []byte("x"))
				if keys := objecttest.List(t, s, "", ""); len(keys) != 1 {
					t.Errorf("listed %q", keys)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, endpoint, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
				t.Errorf("still answers after its test: %s", resp.Status)
			}
		})
	}
}

// TestStartWaitsUntilABucketCanBeMade is a server that says it is ready before it can make buckets.
func TestStartWaitsUntilABucketCanBeMade(t *testing.T) {
	var asked atomic.Int64
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 4 {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`<Error><Code>XMinioServerNotInitialized</Code></Error>`))
		}
	}))
	defer engine.Close()
	server := &minio.Server{Endpoint: engine.URL, AccessKey: "a", SecretKey: "b"}
	if err := minio.AwaitBuckets(server, t.Context()); err != nil || asked.Load() != 4 {
		t.Errorf("asked %d times, %v", asked.Load(), err)
	}
	asked.Store(-1 << 40)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := minio.AwaitBuckets(server, ctx); err == nil || !strings.Contains(err.Error(), "no bucket") {
		t.Errorf("a server that never can: %v", err)
	}
}
