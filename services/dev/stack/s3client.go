package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

// client returns an S3 client that does not retry and adds no checksums.
func (s *S3) client() *s3.Client {
	return s3.New(s3.Options{
		Region:                     s.Region,
		BaseEndpoint:               &s.Endpoint,
		UsePathStyle:               true,
		Credentials:                credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
		Retryer:                    aws.NopRetryer{},
		HTTPClient:                 newHTTPClient(),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
}

func listBuckets(ctx context.Context, cl *s3.Client) error {
	if _, err := cl.ListBuckets(ctx, &s3.ListBucketsInput{}); err != nil {
		return fmt.Errorf("list buckets: %w", err)
	}
	return nil
}

func makeBucket(ctx context.Context, cl *s3.Client, bucket string) error {
	_, err := cl.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket})
	var api smithy.APIError
	if errors.As(err, &api) && strings.HasPrefix(api.ErrorCode(), "BucketAlready") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make bucket %s: %w", bucket, err)
	}
	return nil
}

func roundTrip(ctx context.Context, cl *s3.Client, bucket string) error {
	key, body := ".relay-health", []byte(secret())
	if _, err := cl.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)}); err != nil {
		return fmt.Errorf("put an object: %w", err)
	}
	out, err := cl.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return fmt.Errorf("get an object: %w", err)
	}
	defer func() { _ = out.Body.Close() }()
	got, err := io.ReadAll(out.Body)
	if err != nil {
		return fmt.Errorf("get an object: %w", err)
	}
	if !bytes.Equal(got, body) {
		return errEcho
	}
	if _, err := cl.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
		return fmt.Errorf("delete an object: %w", err)
	}
	return nil
}

// s3Problem says what is wrong and what a person has to change.
func s3Problem(err error, accessKey string) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		switch api.ErrorCode() {
		case "InvalidAccessKeyId":
			return fmt.Sprintf("it does not know the access key %q: check the access key", accessKey)
		case "SignatureDoesNotMatch":
			return fmt.Sprintf("the secret key does not match the access key %q: check the secret key", accessKey)
		case "AccessDenied", "Forbidden":
			return fmt.Sprintf("it refuses the access key %q (%s): check the keys and that they may list buckets", accessKey, api.ErrorCode())
		}
		return fmt.Sprintf("it answers %s: %s: check that it is an S3 endpoint", api.ErrorCode(), api.ErrorMessage())
	}
	return unreachable(err)
}
