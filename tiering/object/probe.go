package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// ProbeConditional tells whether the store honours conditional PUT, by writing
// and removing scratchKey, a name that nobody else uses: If-None-Match on an
// object that exists, If-Match with a stale version, and If-Match on an object
// that is not there (MinIO issue 21526: older servers wrote it then) must all
// lose. The error is an outage that left the question open.
func ProbeConditional(ctx context.Context, s Store, scratchKey string) (bool, error) {
	ok, err := probe(ctx, s, scratchKey)
	if err != nil {
		return false, fmt.Errorf("test the store for conditional PUT: %w", err)
	}
	// Also where it was not honoured, what was written has to go.
	if err := s.Delete(ctx, []string{scratchKey}); err != nil {
		return false, fmt.Errorf("remove the object of the test for conditional PUT: %w", err)
	}
	return ok, nil
}

func probe(ctx context.Context, s Store, key string) (bool, error) {
	first, second, third := []byte("first"), []byte("second"), []byte("third")
	if err := s.Delete(ctx, []string{key}); err != nil {
		return false, err
	}
	v1, err := s.PutIf(ctx, key, first, "")
	if err != nil {
		return false, err
	}
	if lost, err := loses(ctx, s, key, second, ""); !lost {
		return false, err
	}
	v2, err := s.PutIf(ctx, key, second, v1)
	if errors.Is(err, ErrPrecondition) {
		return false, nil // a store that never lets a matching write through is no use either
	}
	if err != nil {
		return false, err
	}
	if lost, err := loses(ctx, s, key, third, v1); !lost {
		return false, err
	}
	if got, version, err := s.GetAll(ctx, key, 100); err != nil || !bytes.Equal(got, second) || version != v2 {
		return false, err
	}
	if err := s.Delete(ctx, []string{key}); err != nil {
		return false, err
	}
	if lost, err := loses(ctx, s, key, third, v2); !lost {
		return false, err
	}
	_, _, err = s.GetAll(ctx, key, 100)
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	return false, err
}

// loses tells whether a write with a stale condition is refused.
func loses(ctx context.Context, s Store, key string, body []byte, match string) (bool, error) {
	_, err := s.PutIf(ctx, key, body, match)
	if errors.Is(err, ErrPrecondition) {
		return true, nil
	}
	return false, err
}
