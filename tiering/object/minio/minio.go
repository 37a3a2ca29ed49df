// Package minio is a Store in a bucket of a MinIO server, by minio-go. It keeps
// what package s3 promises: each call is one request (List and Delete: one per
// 1,000 objects; Put: again while it is denied, see there), nothing is retried, no upload is
// in parts. A PUT carries the CRC32C of its body, which the server checks before
// it answers; a GET is checked for its length and place only, because what is
// read carries checksums of its own.
package minio

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	mc "github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/stratabroker/strata/tiering/object"
)

const (
	defaultConnections = 64          // kept open between requests
	defaultRegion      = "us-east-1" // a server's own, unless it was given another
)

// Options beside the URL, for programs that do not leave them to the environment.
type Options struct {
	Connections          int    // kept open between requests; 0: 64
	AccessKey, SecretKey string // "": from the places that package minio's errors name
}

// Store is a bucket below a prefix.
type Store struct {
	client    *mc.Core
	transport *http.Transport
	bucket    string
	region    string
	prefix    string // "" or ends in "/"
}

var (
	_ object.Store    = (*Store)(nil)
	_ object.Streamer = (*Store)(nil)
	_ object.Prober   = (*Store)(nil)
)

// New makes a store of u, whose scheme is minio. It sends nothing to the bucket;
// Probe does. Neither's error names the bucket: who opened it does.
func New(u object.URL, o Options) (*Store, error) {
	if u.Scheme != object.SchemeMinIO {
		return nil, fmt.Errorf("bucket %s is not of MinIO", u)
	}
	connections := o.Connections
	if connections <= 0 {
		connections = defaultConnections
	}
	transport, err := mc.DefaultTransport(!u.Insecure)
	if err != nil {
		return nil, fmt.Errorf("MinIO client: %w", err)
	}
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = connections, connections
	// Where the region is not given the client would ask for it first.
	s := &Store{transport: transport, bucket: u.Bucket, region: u.Region}
	if s.region == "" {
		s.region = defaultRegion
	}
	if u.Prefix != "" {
		s.prefix = u.Prefix + "/"
	}
	creds := credentials.NewStaticV4(o.AccessKey, o.SecretKey, "")
	if o.AccessKey == "" {
		creds = credentials.New(newFinder())
	}
	s.client, err = mc.NewCore(u.Endpoint, &mc.Options{
		Creds: creds, Secure: !u.Insecure, Transport: transport, Region: s.region, MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("MinIO client: %w", err)
	}
	return s, nil
}

// Probe implements object.Prober by listing one object.
func (s *Store) Probe(ctx context.Context) error {
	for o := range s.client.ListObjectsIter(ctx, s.bucket, mc.ListObjectsOptions{Prefix: s.prefix, Recursive: true, MaxKeys: 1}) {
		if o.Err != nil {
			return translate(ctx, o.Err)
		}
		return nil
	}
	return ctx.Err()
}

// CreateBucket makes the bucket of a store, for tests and for first steps with a
// server of one's own.
func (s *Store) CreateBucket(ctx context.Context) error {
	if err := s.client.MakeBucket(ctx, s.bucket, mc.MakeBucketOptions{Region: s.region}); err != nil {
		return fmt.Errorf("create bucket %s: %w", s.bucket, translate(ctx, err))
	}
	return nil
}

// Close implements object.Store.
func (s *Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// failed is the error of one operation on one key, which says in which bucket. Not
// found and the like come as object's errors.
func (s *Store) failed(ctx context.Context, op, key string, err error) error {
	return fmt.Errorf("%s %s in bucket %s: %w", op, key, s.bucket, translate(ctx, err))
}

// translate names an error of the client by object's errors where one fits; the
// rest stays what it is, an outage.
func translate(ctx context.Context, err error) error {
	var (
		lost     *object.CredentialsError
		answered mc.ErrorResponse
		request  *url.Error
	)
	switch {
	case errors.As(err, &lost):
		return lost
	case errors.As(err, &answered) && answered.StatusCode != 0:
		if known := object.WireError(answered.StatusCode, answered.Code, answered.Message); known != nil {
			return known
		}
		text := fmt.Sprintf("HTTP %s: %s", object.WireStatus(answered.StatusCode, answered.Code), answered.Message)
		if answered.RequestID != "" {
			text += " (request " + answered.RequestID + ")"
		}
		return errors.New(text)
	case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	case errors.As(err, &request):
		return fmt.Errorf("no answer: %w", request.Err)
	}
	return err
}
