package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/stratabroker/strata/tiering/object"
)

const (
	deleteBatch = 1000 // keys that one DeleteObjects takes
	putTries    = 5    // of a PUT that is denied
	putPause    = 20 * time.Millisecond
)

// Put implements object.Store. It reads the body several times (for checksums
// and to send it), never into memory.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	if err := object.CheckPut(key, size); err != nil {
		return err
	}
	sum, err := object.WireChecksum(ctx, body, size)
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	// MinIO denies a PUT whose folder a DELETE beside it empties and removes at
	// that moment. Nothing in the answer tells it from a refusal by policy, so
	// that each is asked again; a body has its own name and may be sent twice.
	for try := 1; ; try++ {
		_, err = s.client.PutObject(ctx, &awss3.PutObjectInput{
			Bucket:         &s.bucket,
			Key:            s.full(key),
			Body:           object.NewSection(body, size),
			ContentLength:  &size,
			ChecksumCRC32C: &sum,
		})
		if err == nil {
			return nil
		}
		if err = s.failed("put", key, err); !errors.Is(err, object.ErrDenied) || try == putTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(try) * putPause):
		}
	}
}

// PutIf implements object.Store. The version is the object's ETag.
func (s *Store) PutIf(ctx context.Context, key string, body []byte, match string) (string, error) {
	if err := object.CheckKey(key); err != nil {
		return "", err
	}
	sum, err := object.WireChecksum(ctx, bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	in := &awss3.PutObjectInput{
		Bucket:         &s.bucket,
		Key:            s.full(key),
		Body:           bytes.NewReader(body),
		ContentLength:  aws.Int64(int64(len(body))),
		ChecksumCRC32C: &sum,
	}
	if match == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &match
	}
	out, err := s.client.PutObject(ctx, in)
	if err != nil {
		err = s.failed("put", key, err)
		if match != "" && errors.Is(err, object.ErrNotFound) {
			// S3 answers so to If-Match where there is no object.
			return "", fmt.Errorf("put %s at version %s, found none: %w", key, match, object.ErrPrecondition)
		}
		return "", err
	}
	if aws.ToString(out.ETag) == "" {
		return "", fmt.Errorf("put %s: the answer has no ETag", key)
	}
	return *out.ETag, nil
}

// Delete implements object.Store.
func (s *Store) Delete(ctx context.Context, keys []string) error {
	for _, key := range keys {
		if err := object.CheckKey(key); err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(keys, deleteBatch) {
		ids := make([]types.ObjectIdentifier, len(batch))
		for i, key := range batch {
			ids[i].Key = s.full(key)
		}
		out, err := s.client.DeleteObjects(ctx, &awss3.DeleteObjectsInput{
			Bucket: &s.bucket,
			Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)},
		})
		if err != nil {
			return s.failed("delete", fmt.Sprintf("%d objects", len(batch)), err)
		}
		if err := s.refused(out.Errors); err != nil {
			return err
		}
	}
	return nil
}

// refused is the error of those objects that the store did not delete.
func (s *Store) refused(failed []types.Error) error {
	var errs []error
	for _, e := range failed {
		code := aws.ToString(e.Code)
		known := object.WireCode(code)
		if errors.Is(known, object.ErrNotFound) {
			continue
		}
		if known == nil {
			known = errors.New("refused")
		}
		errs = append(errs, fmt.Errorf("delete %s in bucket %s: %w (%s: %s)", aws.ToString(e.Key), s.bucket, known, code, aws.ToString(e.Message)))
	}
	if len(errs) > 3 { // one cause is seldom more telling a thousand times
		errs = append(errs[:3], fmt.Errorf("and %d objects more", len(errs)-3))
	}
	return errors.Join(errs...)
}
