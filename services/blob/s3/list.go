package s3

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/openova-io/bp-relay/services/blob"
)

// page is the number of entries of one request. S3 allows 1000; SeaweedFS 3.39
// would return 10000 by default.
const page = 1000

// List implements blob.Store. It walks folder by folder: in a listing without
// delimiter SeaweedFS 3.39 omits objects if a page ends just before a folder (it
// enters the folder with no entry left to return, and does not report that as
// truncated). fn runs between requests, so an object that is written or deleted
// meanwhile may or may not be listed.
func (s *Store) List(ctx context.Context, bucket, prefix string, fn func(blob.Object) error) error {
	token := ""
	for {
		entries, next, err := s.listPage(ctx, bucket, prefix, token)
		if err != nil {
			return fmt.Errorf("list %s/%s: %w", bucket, prefix, err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Key, "/") && e.Size < 0 {
				err = s.List(ctx, bucket, e.Key, fn)
			} else {
				err = fn(e)
			}
			if err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		if next == token {
			return fmt.Errorf("list %s/%s: store repeats the page after %q: %w", bucket, prefix, token, blob.ErrUnavailable)
		}
		token = next
	}
}

// listPage returns objects, and folders as entries of size -1, by key.
func (s *Store) listPage(ctx context.Context, bucket, prefix, token string) ([]blob.Object, string, error) {
	var entries []blob.Object
	var next string
	err := s.try(ctx, "list", func(ctx context.Context) error {
		in := &awss3.ListObjectsV2Input{
			Bucket: &bucket, Prefix: &prefix, Delimiter: aws.String("/"), MaxKeys: aws.Int32(page),
		}
		if token != "" {
			in.ContinuationToken = &token
		}
		out, err := s.client.ListObjectsV2(ctx, in)
		if err != nil {
			return err
		}
		entries, next = nil, ""
		for _, o := range out.Contents {
			entries = append(entries, blob.Object{
				Key: aws.ToString(o.Key), Size: aws.ToInt64(o.Size), Time: aws.ToTime(o.LastModified),
			})
		}
		for _, p := range out.CommonPrefixes {
			// A folder that is the prefix itself would be walked forever.
			if dir := aws.ToString(p.Prefix); dir != prefix {
				entries = append(entries, blob.Object{Key: dir, Size: -1})
			}
		}
		slices.SortFunc(entries, func(a, b blob.Object) int { return cmp.Compare(a.Key, b.Key) })
		if aws.ToBool(out.IsTruncated) {
			if next = aws.ToString(out.NextContinuationToken); next == "" {
				return fmt.Errorf("truncated without a token: %w", blob.ErrUnavailable)
			}
		}
		return nil
	})
	return entries, next, err
}
