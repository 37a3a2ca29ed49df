// Package s3 is a Store in a bucket of S3 or of what speaks its protocol, by
// aws-sdk-go-v2. In a bucket with versioning a delete leaves the old version
// behind, for the bucket's life cycle rules.
//
// Each call is one request (List and Delete: one per 1,000 objects; Put: again
// while it is denied, see there): the SDK does not retry. A PUT carries the CRC32C of its body, which the store checks
// before it answers; a GET is checked for its length and place only, because
// what is read carries checksums of its own.
package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/stratabroker/strata/tiering/object"
)

const (
	defaultConnections = 64          // kept open between requests
	defaultRegion      = "us-east-1" // of stores other than AWS, which seldom look at it
)

// Options beside the URL, for programs that do not leave them to the SDK.
type Options struct {
	Connections          int          // kept open between requests; 0: 64
	AccessKey, SecretKey string       // "": as the SDK finds them
	Logger               *slog.Logger // what the SDK has to say, at debug; nil: nothing
}

// Store is a bucket below a prefix.
type Store struct {
	client    *awss3.Client
	transport *http.Transport
	bucket    string
	prefix    string // "" or ends in "/"
}

var (
	_ object.Store    = (*Store)(nil)
	_ object.Streamer = (*Store)(nil)
	_ object.Prober   = (*Store)(nil)
)

// New makes a store of u, whose scheme is s3. It sends nothing to the bucket;
// Probe does. Neither's error names the bucket: who opened it does.
func New(ctx context.Context, u object.URL, o Options) (*Store, error) {
	if u.Scheme != object.SchemeS3 {
		return nil, fmt.Errorf("bucket %s is not of S3", u)
	}
	connections := o.Connections
	if connections <= 0 {
		connections = defaultConnections
	}
	// The SDK adds the certificates of AWS_CA_BUNDLE to a client of its own kind only.
	buildable := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost = connections, connections
	})
	load := []func(*config.LoadOptions) error{config.WithHTTPClient(buildable), config.WithLogger(sdkLogger(o.Logger))}
	if u.Region != "" {
		load = append(load, config.WithRegion(u.Region))
	}
	if o.AccessKey != "" {
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(o.AccessKey, o.SecretKey, "")))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("AWS configuration: %w", err)
	}
	if cfg.Region == "" && u.Endpoint != "" {
		cfg.Region = defaultRegion
	}
	if cfg.Region == "" {
		return nil, errors.New("no region: give region=... in the URL or set AWS_REGION")
	}
	if cfg.Credentials != nil {
		cfg.Credentials = namedCredentials{cfg.Credentials}
	}
	if b, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		buildable = b
	}
	s := &Store{transport: buildable.GetTransport(), bucket: u.Bucket}
	if u.Prefix != "" {
		s.prefix = u.Prefix + "/"
	}
	s.client = awss3.NewFromConfig(cfg, func(options *awss3.Options) {
		options.HTTPClient = &http.Client{
			Transport: s.transport,
			// A redirect means another region: its error names it.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		options.Retryer = aws.NopRetryer{}
		options.UsePathStyle = u.PathStyle
		if u.Endpoint != "" {
			options.BaseEndpoint = aws.String(u.Endpoint)
		}
		// The SDK's own checksums come as trailers, which many stores refuse.
		options.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		options.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	return s, nil
}

// Probe implements object.Prober by listing one object.
func (s *Store) Probe(ctx context.Context) error {
	_, err := s.client.ListObjectsV2(ctx, &awss3.ListObjectsV2Input{
		Bucket: &s.bucket, Prefix: &s.prefix, MaxKeys: aws.Int32(1),
	})
	if err != nil {
		return translate(err)
	}
	return nil
}

// CreateBucket makes the bucket of a store, for tests and for first steps with
// a store of one's own.
func (s *Store) CreateBucket(ctx context.Context) error {
	if _, err := s.client.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: &s.bucket}); err != nil {
		return fmt.Errorf("create bucket %s: %w", s.bucket, translate(err))
	}
	return nil
}

// Close implements object.Store.
func (s *Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

func (s *Store) full(key string) *string {
	return aws.String(s.prefix + key)
}

// failed is the error of one operation on one key, which says in which bucket. Not
// found and the like come as object's errors.
func (s *Store) failed(op, key string, err error) error {
	return fmt.Errorf("%s %s in bucket %s: %w", op, key, s.bucket, translate(err))
}
