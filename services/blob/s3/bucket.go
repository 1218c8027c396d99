package s3

import (
	"context"
	"errors"
	"fmt"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/openova-io/bp-relay/services/blob"
)

// Delete implements blob.Store. SeaweedFS 3.39 answers 204 in any case, so a HEAD
// afterwards decides. In a bucket with versions the versions remain: the object
// is gone only for readers.
func (s *Store) Delete(ctx context.Context, bucket, key string) error {
	for n := 1; ; n++ {
		err := s.once(ctx, func(ctx context.Context) error {
			_, err := s.client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &bucket, Key: &key})
			return err
		})
		if errors.Is(err, blob.ErrNotFound) {
			return nil
		}
		if err == nil {
			_, err = s.Stat(ctx, bucket, key)
			if errors.Is(err, blob.ErrNotFound) {
				return nil
			}
			if err == nil {
				err = fmt.Errorf("%w: %w", blob.ErrUnavailable, errStillThere)
			}
		}
		if !transient(err) || !s.again(ctx, "delete", n, err) {
			return fmt.Errorf("delete %s/%s: %w", bucket, key, err)
		}
	}
}

// EnsureBucket implements blob.Store. A bucket of that name that these
// credentials may not see is blob.ErrDenied.
func (s *Store) EnsureBucket(ctx context.Context, bucket string) error {
	head := func(ctx context.Context) error {
		_, err := s.client.HeadBucket(ctx, &awss3.HeadBucketInput{Bucket: &bucket})
		return err
	}
	err := s.try(ctx, "head bucket", head)
	if errors.Is(err, blob.ErrNotFound) {
		err = s.try(ctx, "create bucket", func(ctx context.Context) error {
			_, err := s.client.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: &bucket})
			return err
		})
		if errors.Is(err, errConflict) {
			// Another replica created it, or it belongs to another owner.
			if err = s.try(ctx, "head bucket", head); err != nil {
				err = fmt.Errorf("%w: %w", errForeign, err)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("ensure bucket %s: %w", bucket, err)
	}
	return nil
}

// Ping implements blob.Store by listing the buckets: SeaweedFS 3.39 does not
// check the credentials of lesser requests.
func (s *Store) Ping(ctx context.Context) error {
	err := s.try(ctx, "ping", func(ctx context.Context) error {
		_, err := s.client.ListBuckets(ctx, &awss3.ListBucketsInput{})
		return err
	})
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}
