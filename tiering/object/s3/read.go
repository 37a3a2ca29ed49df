package s3

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/stratabroker/strata/tiering/object"
)

// Get implements object.Store.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	if length == 0 {
		return s.getNothing(ctx, key, offset)
	}
	body, err := s.OpenRange(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	return object.ReadWire(body, key, length)
}

// OpenRange implements object.Streamer. The bytes come straight from the socket: a
// Read that asks for more than the 4 KiB which the HTTP client buffers is not copied.
func (s *Store) OpenRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := object.CheckKey(key); err != nil {
		return nil, err
	}
	if err := object.CheckRange(key, offset, length, math.MaxInt64); err != nil {
		return nil, err
	}
	if length == 0 {
		_, err := s.getNothing(ctx, key, offset)
		return http.NoBody, err
	}
	out, err := s.client.GetObject(ctx, &awss3.GetObjectInput{
		Bucket: &s.bucket,
		Key:    s.full(key),
		Range:  aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)),
	})
	if err != nil {
		return nil, s.failed("get", key, err)
	}
	if err := object.CheckWireRange(key, aws.ToString(out.ContentRange), aws.ToInt64(out.ContentLength), offset, length); err != nil {
		_ = out.Body.Close()
		return nil, err
	}
	return out.Body, nil
}

// getNothing answers for an empty range, which HTTP cannot express.
func (s *Store) getNothing(ctx context.Context, key string, offset int64) ([]byte, error) {
	if err := object.CheckKey(key); err != nil {
		return nil, err
	}
	if err := object.CheckRange(key, offset, 0, math.MaxInt64); err != nil {
		return nil, err
	}
	out, err := s.client.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &s.bucket, Key: s.full(key)})
	if err != nil {
		return nil, s.failed("get", key, err)
	}
	if err := object.CheckRange(key, offset, 0, aws.ToInt64(out.ContentLength)); err != nil {
		return nil, err
	}
	return []byte{}, nil
}

// GetAll implements object.Store.
func (s *Store) GetAll(ctx context.Context, key string, limit int64) ([]byte, string, error) {
	if err := object.CheckKey(key); err != nil {
		return nil, "", err
	}
	out, err := s.client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &s.bucket, Key: s.full(key)})
	if err != nil {
		return nil, "", s.failed("get", key, err)
	}
	defer func() { _ = out.Body.Close() }()
	version := aws.ToString(out.ETag)
	if out.ContentLength == nil || version == "" {
		return nil, "", fmt.Errorf("get %s: the answer has no Content-Length or no ETag", key)
	}
	if *out.ContentLength > limit {
		return nil, "", fmt.Errorf("%w: %s has %d bytes, the limit is %d", object.ErrRange, key, *out.ContentLength, limit)
	}
	body, err := object.ReadWire(out.Body, key, *out.ContentLength)
	if err != nil {
		return nil, "", err
	}
	return body, version, nil
}
