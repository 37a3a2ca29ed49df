package minio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	mc "github.com/minio/minio-go/v7"

	"github.com/stratabroker/strata/tiering/object"
)

const (
	putTries = 5 // of a PUT that is denied
	putPause = 20 * time.Millisecond
)

// Put implements object.Store. It reads the body several times (for the checksum
// and to send it), never into memory.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	if err := object.CheckPut(key, size); err != nil {
		return err
	}
	o, err := options(ctx, body, size)
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	// MinIO denies a PUT whose folder a DELETE beside it empties and removes at
	// that moment. Nothing in the answer tells it from a refusal by policy, so
	// that each is asked again; a body has its own name and may be sent twice.
	for try := 1; ; try++ {
		_, err := s.put(ctx, key, body, size, o)
		if err == nil || !errors.Is(err, object.ErrDenied) || try == putTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(try) * putPause):
		}
	}
}

// options ask for the body's CRC32C in the header; the client's own way would put it behind the body.
func options(ctx context.Context, body io.ReadSeeker, size int64) (mc.PutObjectOptions, error) {
	sum, err := object.WireChecksum(ctx, body, size)
	if err != nil {
		return mc.PutObjectOptions{}, err
	}
	return mc.PutObjectOptions{
		DisableContentSha256: true, UserMetadata: map[string]string{"x-amz-checksum-crc32c": sum},
	}, nil
}

func (s *Store) put(ctx context.Context, key string, body io.ReadSeeker, size int64, o mc.PutObjectOptions) (version string, err error) {
	info, err := s.client.PutObject(ctx, s.bucket, s.prefix+key, object.NewSection(body, size), size, "", "", o)
	if err != nil {
		return "", s.failed(ctx, "put", key, err)
	}
	return info.ETag, nil
}

// PutIf implements object.Store. The version is the object's ETag.
func (s *Store) PutIf(ctx context.Context, key string, body []byte, match string) (string, error) {
	if err := object.CheckKey(key); err != nil {
		return "", err
	}
	size := int64(len(body))
	o, err := options(ctx, bytes.NewReader(body), size)
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	if match == "" {
		o.SetMatchETagExcept("*")
	} else {
		o.SetMatchETag(strings.Trim(match, `"`)) // the client puts it into quotes
	}
	version, err := s.put(ctx, key, bytes.NewReader(body), size, o)
	if err == nil && version == "" {
		return "", fmt.Errorf("put %s: the answer has no ETag", key)
	}
	if match != "" && errors.Is(err, object.ErrNotFound) {
		// The answer to If-Match where there is no object.
		return "", fmt.Errorf("put %s at version %s, found none: %w", key, match, object.ErrPrecondition)
	}
	return version, err
}

// Delete implements object.Store.
func (s *Store) Delete(ctx context.Context, keys []string) error {
	for _, key := range keys {
		if err := object.CheckKey(key); err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(keys, 1000) { // the most that one request takes
		if err := s.deleteBatch(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) deleteBatch(ctx context.Context, keys []string) error {
	objects := func(yield func(mc.ObjectInfo) bool) {
		for _, key := range keys {
			if !yield(mc.ObjectInfo{Key: s.prefix + key}) {
				return
			}
		}
	}
	results, err := s.client.RemoveObjectsWithIter(ctx, s.bucket, objects, mc.RemoveObjectsOptions{})
	if err != nil {
		return s.failed(ctx, "delete", fmt.Sprintf("%d objects", len(keys)), err)
	}
	var errs []error
	left := 0
	for r := range results {
		if err := s.left(ctx, r); err != nil {
			if left++; left <= 3 { // one cause is seldom more telling a thousand times
				errs = append(errs, err)
			}
		}
	}
	if err := ctx.Err(); err != nil && left == 0 {
		return s.failed(ctx, "delete", fmt.Sprintf("%d objects", len(keys)), err)
	}
	if left > 3 {
		errs = append(errs, fmt.Errorf("and %d objects more", left-3))
	}
	return errors.Join(errs...)
}

// left is the error of an object that was not deleted, nil for one that is gone.
func (s *Store) left(ctx context.Context, r mc.RemoveObjectResult) error {
	if r.Err == nil {
		return nil
	}
	var answered mc.ErrorResponse
	if errors.As(r.Err, &answered) && answered.StatusCode == 0 { // of one object, in an answer of status 200
		known := object.WireCode(answered.Code)
		if errors.Is(known, object.ErrNotFound) {
			return nil
		}
		if known == nil {
			known = errors.New("refused")
		}
		return fmt.Errorf("delete %s in bucket %s: %w (%s: %s)", r.ObjectName, s.bucket, known, answered.Code, answered.Message)
	}
	return s.failed(ctx, "delete", r.ObjectName, r.Err)
}
