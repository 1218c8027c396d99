package work

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/openova-io/bp-relay/services/blob"
)

// Objects is where a run's objects are: a bucket or a folder. It is safe for
// concurrent use by any number of processes. Errors are those of package blob:
// ErrNotFound, ErrExists, ErrDenied, ErrUnavailable.
type Objects interface {
	// Put writes body under key. The same bytes again succeed, whoever wrote
	// them first; other bytes fail with blob.ErrExists and change nothing. Of
	// two that write different bytes in the same moment, an S3 store without
	// conditional puts (SeaweedFS before 4.18) may keep the last one's and tell
	// both that all is well: Barrier looks again later. After an error the
	// object may be there: put it again.
	Put(ctx context.Context, key string, body []byte) error
	// Get reads an object whole.
	Get(ctx context.Context, key string) ([]byte, error)
	// List gives the keys under a prefix that ends in "/", in order.
	List(ctx context.Context, prefix string) ([]string, error)
	// Close lets go of connections and files.
	Close() error
}

// maxObject bounds what is read of one object, in bytes: Put takes no more
// than blob.MaxBody, so more is not ours.
const maxObject = blob.MaxBody

// bucket is Objects in a bucket of an S3 store, below a prefix.
type bucket struct {
	store interface {
		blob.Store
		Close() error
	}
	name, prefix string // prefix is "" or ends in "/"
}

func (b *bucket) Put(ctx context.Context, key string, body []byte) error {
	return b.store.Put(ctx, b.name, b.prefix+key, body)
}

func (b *bucket) Get(ctx context.Context, key string) (p []byte, err error) {
	r, _, err := b.store.Get(ctx, b.name, b.prefix+key)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	p, err = io.ReadAll(io.LimitReader(r, maxObject+1))
	if err != nil {
		return nil, fmt.Errorf("read %s/%s%s: %w", b.name, b.prefix, key, err)
	}
	if len(p) > maxObject {
		return nil, fmt.Errorf("read %s/%s%s: larger than %d bytes: %w", b.name, b.prefix, key, maxObject, blob.ErrTooLarge)
	}
	return p, nil
}

func (b *bucket) List(ctx context.Context, prefix string) ([]string, error) {
	var keys []string
	err := b.store.List(ctx, b.name, b.prefix+prefix, func(o blob.Object) error {
		keys = append(keys, strings.TrimPrefix(o.Key, b.prefix))
		return nil
	})
	return keys, err
}

func (b *bucket) Close() error { return b.store.Close() }
