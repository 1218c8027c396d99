package s3

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // S3 defines ETag and Content-MD5 by it; no security depends on it here
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"github.com/openova-io/bp-relay/services/blob"
)

// content is a body with its digests as they are sent.
type content struct {
	body   []byte
	md5    [md5.Size]byte
	sha256 []byte // nil: not sent
}

// newContent hashes body by MD5 and, if withSHA256, by SHA-256.
func newContent(body []byte, withSHA256 bool) (content, error) {
	if len(body) > blob.MaxBody {
		return content{}, fmt.Errorf("%w: %d bytes of at most %d", blob.ErrTooLarge, len(body), blob.MaxBody)
	}
	c := content{body: body, md5: md5.Sum(body)} //nolint:gosec // see import
	if withSHA256 {
		sum := sha256.Sum256(body)
		c.sha256 = sum[:]
	}
	return c, nil
}

// payloadHash is the body's part of the request's signature.
func (c content) payloadHash() string {
	if c.sha256 == nil {
		return "UNSIGNED-PAYLOAD"
	}
	return hex.EncodeToString(c.sha256)
}

// holding is what a key holds, compared with some content.
type holding int

const (
	absent holding = iota
	same
	different
)

// Put implements blob.Store. Unless a probe has seen that conditional puts work,
// it looks before it writes; two concurrent writers of different bytes under one
// key then both succeed, which content-addressed keys exclude.
func (s *Store) Put(ctx context.Context, bucket, key string, body []byte) error {
	c, err := newContent(body, !s.ignoresSHA256.Load())
	if err != nil {
		return fmt.Errorf("put %s/%s: %w", bucket, key, err)
	}
	conditional := s.conditional.Load()
	if !conditional {
		// Such a store overwrites silently.
		h, err := s.holds(ctx, bucket, key, c)
		if err != nil {
			return fmt.Errorf("put %s/%s: look first: %w", bucket, key, err)
		}
		if h != absent {
			return known(bucket, key, h)
		}
	}
	for n := 1; ; n++ {
		err := s.once(ctx, func(ctx context.Context) error { return s.put(ctx, bucket, key, c, conditional) })
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !mayHaveHappened(err) {
			return fmt.Errorf("put %s/%s: %w", bucket, key, err)
		}
		// 412, a conflict, a lost or a false answer: look what the key holds.
		h, lookErr := s.holds(ctx, bucket, key, c)
		switch {
		case lookErr == nil && h == same:
			return nil
		case lookErr == nil && h == different && errors.Is(err, blob.ErrMismatch):
			conditional = false // the damaged bytes of this put: overwrite them
		case lookErr == nil && h == different:
			return known(bucket, key, h)
		}
		if !s.again(ctx, "put", n, err) {
			return fmt.Errorf("put %s/%s: %w", bucket, key, errors.Join(err, lookErr))
		}
	}
}

// Replace implements blob.Store.
func (s *Store) Replace(ctx context.Context, bucket, key string, body []byte) error {
	c, err := newContent(body, !s.ignoresSHA256.Load())
	if err == nil {
		for n := 1; ; n++ {
			err = s.once(ctx, func(ctx context.Context) error { return s.put(ctx, bucket, key, c, false) })
			if errors.Is(err, blob.ErrMismatch) {
				// Perhaps this store's ETag is not an MD5: the bytes decide.
				if h, lookErr := s.holds(ctx, bucket, key, c); lookErr == nil && h == same {
					return nil
				}
			} else if err == nil || !transient(err) {
				break
			}
			if !s.again(ctx, "replace", n, err) {
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("replace %s/%s: %w", bucket, key, err)
	}
	return nil
}

func known(bucket, key string, h holding) error {
	if h == same {
		return nil
	}
	return fmt.Errorf("put %s/%s: %w", bucket, key, blob.ErrExists)
}

// mayHaveHappened reports whether the key may hold bytes, these or others, after
// err.
func mayHaveHappened(err error) bool {
	return transient(err) || errors.Is(err, errPrecondition) || errors.Is(err, errConflict) ||
		errors.Is(err, blob.ErrMismatch)
}

// input is the PUT of c for every version of SeaweedFS.
func (c content) input(bucket, key string) *awss3.PutObjectInput {
	in := &awss3.PutObjectInput{
		Bucket: &bucket, Key: &key,
		Body:          bytes.NewReader(c.body),
		ContentLength: aws.Int64(int64(len(c.body))),
		ContentType:   aws.String("application/octet-stream"), // otherwise SeaweedFS guesses it, and compresses text
		ContentMD5:    aws.String(base64.StdEncoding.EncodeToString(c.md5[:])),
	}
	if c.sha256 != nil {
		in.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(c.sha256))
	}
	return in
}

// put sends one PUT. It fails with blob.ErrMismatch if the answer's ETag is not
// the MD5 of the bytes.
func (s *Store) put(ctx context.Context, bucket, key string, c content, ifAbsent bool) error {
	in := c.input(bucket, key)
	if ifAbsent {
		in.IfNoneMatch = aws.String("*")
	}
	out, err := s.client.PutObject(ctx, in, signedHash(c.payloadHash()))
	if err != nil {
		return err
	}
	if etag := strings.Trim(aws.ToString(out.ETag), `"`); etag != hex.EncodeToString(c.md5[:]) {
		return fmt.Errorf("%w: etag %q", blob.ErrMismatch, etag)
	}
	return nil
}

// signedHash passes the known hash to the signer, so that the body is not hashed
// again.
func signedHash(hash string) func(*awss3.Options) {
	set := middleware.InitializeMiddlewareFunc("relayPayloadHash",
		func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
			middleware.InitializeOutput, middleware.Metadata, error,
		) {
			return next.HandleInitialize(v4.SetPayloadHash(ctx, hash), in)
		})
	return func(o *awss3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(set, middleware.Before)
		})
	}
}

// holds compares the object under key with c, by size and then byte for byte.
func (s *Store) holds(ctx context.Context, bucket, key string, c content) (holding, error) {
	obj, err := s.Stat(ctx, bucket, key)
	if errors.Is(err, blob.ErrNotFound) {
		return absent, nil
	}
	if err != nil {
		return absent, err
	}
	if obj.Size != int64(len(c.body)) {
		return different, nil
	}
	r, _, err := s.Get(ctx, bucket, key)
	if errors.Is(err, blob.ErrNotFound) {
		return absent, nil
	}
	if err != nil {
		return absent, err
	}
	defer func() { _ = r.Close() }()
	m := matcher{rest: c.body}
	if _, err := io.Copy(&m, r); err != nil && !errors.Is(err, errDiffers) {
		return absent, fmt.Errorf("read %s/%s: %w", bucket, key, err)
	}
	if m.differs || len(m.rest) > 0 {
		return different, nil
	}
	return same, nil
}

// errDiffers ends a comparison early.
var errDiffers = errors.New("s3: bytes differ")

// matcher is a writer that compares the written bytes with rest.
type matcher struct {
	rest    []byte
	differs bool
}

// Write implements io.Writer; it fails with errDiffers at the first difference.
func (m *matcher) Write(p []byte) (int, error) {
	if m.differs = m.differs || !bytes.HasPrefix(m.rest, p); m.differs {
		return 0, errDiffers
	}
	m.rest = m.rest[len(p):]
	return len(p), nil
}
