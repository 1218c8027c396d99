package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/openova-io/bp-relay/services/blob"
)

// Get implements blob.Store. The size is -1 if the store does not state it. A
// stream that stops early, or delivers nothing for AttemptTimeout while it is
// read, fails with blob.ErrUnavailable; it never ends cleanly.
func (s *Store) Get(ctx context.Context, bucket, key string) (io.ReadCloser, int64, error) {
	for n := 1; ; n++ {
		r, size, err := s.get(ctx, bucket, key)
		if err == nil {
			return r, size, nil
		}
		if retryAfter(err) {
			err = fmt.Errorf("%w: %w", blob.ErrLater, err)
		}
		if !transient(err) || errors.Is(err, blob.ErrRecalling) || !s.again(ctx, "get", n, err) {
			return nil, 0, fmt.Errorf("get %s/%s: %w", bucket, key, err)
		}
	}
}

func (s *Store) get(ctx context.Context, bucket, key string) (io.ReadCloser, int64, error) {
	// The body outlives this call, so its deadline cannot be a deferred cancel.
	gctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(s.timeout, func() { cancel(errTimeout) })
	out, err := s.client.GetObject(gctx, &awss3.GetObjectInput{Bucket: &bucket, Key: &key})
	timer.Stop()
	if err != nil {
		cancel(nil)
		return nil, 0, typed(ctx, err)
	}
	size := int64(-1)
	if out.ContentLength != nil {
		size = *out.ContentLength
	}
	return &stream{ctx: ctx, body: out.Body, cancel: cancel, timer: timer, timeout: s.timeout, left: size}, size, nil
}

// stream is an object that is being read.
type stream struct {
	ctx     context.Context //nolint:containedctx // io.Reader's Read has no context
	body    io.ReadCloser
	cancel  context.CancelCauseFunc
	timer   *time.Timer // cancels the request if a Read gets nothing
	timeout time.Duration
	left    int64 // bytes still to come; negative if unknown
}

// Read implements io.Reader.
func (r *stream) Read(p []byte) (int, error) {
	r.timer.Reset(r.timeout)
	n, err := r.body.Read(p)
	r.timer.Stop()
	if r.left >= 0 {
		r.left -= int64(n)
	}
	if err == io.EOF && r.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	if r.ctx.Err() != nil {
		return n, fmt.Errorf("%w (%w)", context.Cause(r.ctx), err)
	}
	return n, fmt.Errorf("%w: %w", blob.ErrUnavailable, err)
}

// Close implements io.Closer. It may be called before the end of the stream.
func (r *stream) Close() error {
	r.timer.Stop()
	r.cancel(nil)
	return r.body.Close()
}

// Stat implements blob.Store.
func (s *Store) Stat(ctx context.Context, bucket, key string) (blob.Object, error) {
	obj := blob.Object{Key: key}
	err := s.try(ctx, "stat", func(ctx context.Context) error {
		out, err := s.client.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &bucket, Key: &key})
		if err == nil {
			obj.Size, obj.Time = aws.ToInt64(out.ContentLength), aws.ToTime(out.LastModified)
		}
		return err
	})
	if err != nil {
		return blob.Object{}, fmt.Errorf("stat %s/%s: %w", bucket, key, err)
	}
	return obj, nil
}
