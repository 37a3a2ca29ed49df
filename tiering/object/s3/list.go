package s3

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/stratabroker/strata/tiering/object"
)

// List implements object.Store: a request per 1,000 objects.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[object.Info, error] {
	return func(yield func(object.Info, error) bool) {
		if err := object.CheckPrefix(prefix); err != nil {
			yield(object.Info{}, err)
			return
		}
		in := &awss3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: aws.String(s.prefix + prefix)}
		switch {
		case strings.HasPrefix(after, prefix):
			if after != "" {
				in.StartAfter = aws.String(s.prefix + after)
			}
		case after > prefix:
			return // it lies above all that has the prefix; MinIO refuses the question
		}
		for {
			out, err := s.client.ListObjectsV2(ctx, in)
			if err != nil {
				yield(object.Info{}, s.failed("list", prefix, err))
				return
			}
			for _, o := range out.Contents {
				key := strings.TrimPrefix(aws.ToString(o.Key), s.prefix)
				// Where after is no key a store may see its place differently; names that are no keys are not ours.
				if key <= after || object.CheckKey(key) != nil {
					continue
				}
				if !yield(object.Info{Key: key, Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified)}, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			if in.ContinuationToken = out.NextContinuationToken; in.ContinuationToken == nil {
				yield(object.Info{}, fmt.Errorf("list %s: the answer has more but no continuation token", prefix))
				return
			}
		}
	}
}
