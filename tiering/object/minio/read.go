package minio

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math"
	"net/http"
	"strings"

	mc "github.com/minio/minio-go/v7"

	"github.com/stratabroker/strata/tiering/object"
)

// Get implements object.Store.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	body, err := s.OpenRange(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	return object.ReadWire(body, key, length)
}

// OpenRange implements object.Streamer. The bytes come straight from the socket.
func (s *Store) OpenRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := object.CheckKey(key); err != nil {
		return nil, err
	}
	if err := object.CheckRange(key, offset, length, math.MaxInt64); err != nil {
		return nil, err
	}
	if length == 0 { // which HTTP cannot express
		info, err := s.client.StatObject(ctx, s.bucket, s.prefix+key, mc.StatObjectOptions{})
		if err != nil {
			return nil, s.failed(ctx, "get", key, err)
		}
		return http.NoBody, object.CheckRange(key, offset, 0, info.Size)
	}
	var o mc.GetObjectOptions
	if err := o.SetRange(offset, offset+length-1); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	body, info, header, err := s.client.GetObject(ctx, s.bucket, s.prefix+key, o)
	if err != nil {
		return nil, s.failed(ctx, "get", key, err)
	}
	if err := object.CheckWireRange(key, header.Get("Content-Range"), info.Size, offset, length); err != nil {
		_ = body.Close()
		return nil, err
	}
	return body, nil
}

// GetAll implements object.Store.
func (s *Store) GetAll(ctx context.Context, key string, limit int64) ([]byte, string, error) {
	if err := object.CheckKey(key); err != nil {
		return nil, "", err
	}
	body, info, header, err := s.client.GetObject(ctx, s.bucket, s.prefix+key, mc.GetObjectOptions{})
	if err != nil {
		return nil, "", s.failed(ctx, "get", key, err)
	}
	defer func() { _ = body.Close() }()
	if header.Get("Content-Length") == "" || info.ETag == "" {
		return nil, "", fmt.Errorf("get %s: the answer has no Content-Length or no ETag", key)
	}
	if info.Size > limit {
		return nil, "", fmt.Errorf("%w: %s has %d bytes, the limit is %d", object.ErrRange, key, info.Size, limit)
	}
	b, err := object.ReadWire(body, key, info.Size)
	if err != nil {
		return nil, "", err
	}
	return b, info.ETag, nil
}

// List implements object.Store: a request per 1,000 objects.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[object.Info, error] {
	return func(yield func(object.Info, error) bool) {
		if err := object.CheckPrefix(prefix); err != nil {
			yield(object.Info{}, err)
			return
		}
		o := mc.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}
		switch {
		case strings.HasPrefix(after, prefix):
			if after != "" {
				o.StartAfter = s.prefix + after
			}
		case after > prefix:
			return // it lies above all that has the prefix; MinIO refuses the question
		}
		for found := range s.client.ListObjectsIter(ctx, s.bucket, o) {
			if found.Err != nil {
				yield(object.Info{}, s.failed(ctx, "list", prefix, found.Err))
				return
			}
			key := strings.TrimPrefix(found.Key, s.prefix)
			// Where after is no key a store may see its place differently; names that are no keys are not ours.
			if key <= after || object.CheckKey(key) != nil {
				continue
			}
			if !yield(object.Info{Key: key, Size: found.Size, Modified: found.LastModified}, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil { // the client just ends then
			yield(object.Info{}, s.failed(ctx, "list", prefix, err))
		}
	}
}
