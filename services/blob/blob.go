// Package blob puts immutable objects into the S3 store (SeaweedFS) and gets
// them back. A 200 is never believed: writers read back, and the store's
// abilities are probed, not assumed (see Probe). Objects are written with one
// PUT, never multipart, and never overwritten: keys of content end in the
// SHA-256 of the bytes, so that a retry is idempotent on every version.
package blob

import (
	"context"
	"errors"
	"io"
	"time"
)

// Errors that callers decide by. Implementations wrap them with %w.
var (
	// ErrNotFound: no object under that key.
	ErrNotFound = errors.New("blob: not found")
	// ErrExists: the key holds other bytes already.
	ErrExists = errors.New("blob: exists with different content")
	// ErrRecalling: the object is cold and is being brought back; try later.
	ErrRecalling = errors.New("blob: being recalled")
	// ErrDenied: the credentials are wrong or lack the right.
	ErrDenied = errors.New("blob: access denied")
	// ErrUnavailable: the store does not answer or answers 5xx.
	ErrUnavailable = errors.New("blob: store unavailable")
	// ErrMismatch: the store answered success, but it holds other bytes than
	// the ones it was given. Replace mends the key once the store is well.
	ErrMismatch = errors.New("blob: store kept other bytes than it was given")
	// ErrTooLarge: the body is above MaxBody.
	ErrTooLarge = errors.New("blob: body is too large for one put")
)

// MaxBody bounds what one Put takes, in bytes: callers cut their segments at
// 4 MiB, so that SeaweedFS keeps each as a single chunk.
const MaxBody = 16 << 20

// Object describes one stored object.
type Object struct {
	Key  string
	Size int64
	Time time.Time
}

// Store is one S3 endpoint. It is safe for concurrent use. It makes few
// retries of its own (passing faults within seconds); longer outages are the
// caller's to wait out.
type Store interface {
	// Put writes body (at most 16 MiB) under key with one PUT. Writing the
	// same bytes again succeeds; where the key is known to hold other bytes it
	// fails with ErrExists. A success is the store's word only: callers that
	// need more read back.
	Put(ctx context.Context, bucket, key string, body []byte) error
	// Replace writes body under key whatever it holds: only for pointers such
	// as the newest checkpoint.
	Replace(ctx context.Context, bucket, key string, body []byte) error
	// Get streams the object; the caller closes it.
	Get(ctx context.Context, bucket, key string) (io.ReadCloser, int64, error)
	// Stat returns the object's size without its bytes.
	Stat(ctx context.Context, bucket, key string) (Object, error)
	// List calls fn for each object under prefix, in key order per folder.
	List(ctx context.Context, bucket, prefix string, fn func(Object) error) error
	// Delete removes the object and checks that it is gone.
	Delete(ctx context.Context, bucket, key string) error
	// EnsureBucket creates the bucket where it is missing.
	EnsureBucket(ctx context.Context, bucket string) error
	// Ping says whether the endpoint answers with these credentials:
	// ErrDenied or ErrUnavailable otherwise.
	Ping(ctx context.Context) error
}
