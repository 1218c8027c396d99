// Package blob puts immutable objects into the object store (SeaweedFS, S3) and
// gets them back. A 200 proves nothing: writers read back, and the store's
// abilities are probed, not assumed (see Probe). Objects are written with one
// PUT, never multipart, and never overwritten: keys of content end in the
// SHA-256 of the bytes, so that a retry is idempotent on every version of
// SeaweedFS.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Errors that callers decide by. Implementations wrap them with %w.
var (
	// ErrNotFound: no object under that key.
	ErrNotFound = errors.New("blob: not found")
	// ErrExists: the key holds other bytes.
	ErrExists = errors.New("blob: exists with different content")
	// ErrRecalling: the object is in a cold tier and is being fetched; try later.
	ErrRecalling = errors.New("blob: being recalled")
	// ErrLater: the store asks to try later and does not say why: it is busy, or it
	// brings the object back from a cold tier. It is handled as ErrRecalling, which
	// it wraps; nobody is told that the object is cold.
	ErrLater = fmt.Errorf("blob: asked to try later: perhaps %w", ErrRecalling)
	// ErrDenied: the credentials are wrong or lack the permission.
	ErrDenied = errors.New("blob: access denied")
	// ErrUnavailable: the store does not answer or answers 5xx.
	ErrUnavailable = errors.New("blob: store unavailable")
	// ErrMismatch: the store answered success, but stored other bytes than it was
	// sent. Replace repairs the key once the store works.
	ErrMismatch = errors.New("blob: store kept other bytes than it was sent")
	// ErrUnsigned: the store carries out changes that nobody signed.
	ErrUnsigned = errors.New("blob: the store carries out unsigned requests")
	// ErrTooLarge: the body has more than MaxBody bytes.
	ErrTooLarge = errors.New("blob: body is too large for one put")
)

// MaxBody is the longest body of one Put, in bytes. Callers cut their segments
// at 4 MiB, so that SeaweedFS stores each as a single chunk.
const MaxBody = 16 << 20

// Object describes one stored object.
type Object struct {
	Key  string
	Size int64
	Time time.Time
}

// Store is one S3 endpoint. It is safe for concurrent use. It retries transient
// faults for a few seconds; during longer outages the caller retries.
type Store interface {
	// Put writes body (at most MaxBody) under key with one PUT. Writing the same
	// bytes again succeeds; if the key is known to hold other bytes, Put fails
	// with ErrExists. A success is only what the store says: callers that need
	// certainty read back.
	Put(ctx context.Context, bucket, key string, body []byte) error
	// Replace writes body under key even if it holds other bytes: only for
	// pointers such as the newest checkpoint.
	Replace(ctx context.Context, bucket, key string, body []byte) error
	// Get returns the object's bytes, as a stream that the caller closes, and its
	// size, -1 if unknown.
	Get(ctx context.Context, bucket, key string) (io.ReadCloser, int64, error)
	// Stat returns the object's size and time without its bytes.
	Stat(ctx context.Context, bucket, key string) (Object, error)
	// List calls fn for each object under prefix, in key order per folder. It
	// stops at fn's first error and returns it.
	List(ctx context.Context, bucket, prefix string, fn func(Object) error) error
	// Delete removes the object and checks that it is gone. Deleting a missing
	// object succeeds.
	Delete(ctx context.Context, bucket, key string) error
	// EnsureBucket creates the bucket if it is missing.
	EnsureBucket(ctx context.Context, bucket string) error
	// Ping returns nil if the endpoint accepts the credentials, else ErrDenied or
	// ErrUnavailable.
	Ping(ctx context.Context) error
}
