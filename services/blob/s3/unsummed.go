package s3

import (
	"bytes"
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/openova-io/bp-relay/services/blob"
)

// PutUnsummed is one try of Put for a caller that reads every byte back and whose
// key is the hash of body: it hashes nothing (MD5 alone costs as much as
// encrypting), does not look first, and does not compare the ETag. After an error
// the key may hold the object, complete or damaged: the caller checks.
func (s *Store) PutUnsummed(ctx context.Context, bucket, key string, body []byte) error {
	if len(body) > blob.MaxBody {
		return fmt.Errorf("put %s/%s: %w: %d bytes of at most %d", bucket, key, blob.ErrTooLarge, len(body), blob.MaxBody)
	}
	in := &awss3.PutObjectInput{
		Bucket: &bucket, Key: &key,
		Body:          bytes.NewReader(body),
		ContentLength: aws.Int64(int64(len(body))),
		ContentType:   aws.String("application/octet-stream"), // as in content.input
	}
	if s.conditional.Load() {
		in.IfNoneMatch = aws.String("*")
	}
	err := s.once(ctx, func(ctx context.Context) error {
		_, err := s.client.PutObject(ctx, in, signedHash("UNSIGNED-PAYLOAD"))
		return err
	})
	if err != nil {
		return fmt.Errorf("put %s/%s: %w", bucket, key, err)
	}
	return nil
}
