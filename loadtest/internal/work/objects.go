package work

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/openova-io/bp-relay/services/blob"
)

// Objects stores a run's objects, in a bucket or a folder. It is safe for
// concurrent use by any number of processes. Errors are those of package blob:
// ErrNotFound, ErrExists, ErrDenied, ErrUnavailable.
type Objects interface {
	// Put writes body under key. Writing the same bytes again succeeds, from any
	// process; other bytes fail with blob.ErrExists and change nothing. If two
	// write different bytes at the same time, an S3 store without conditional puts
	// (SeaweedFS before 4.18) may keep the last and report success to both: Barrier
	// checks again later. After an error the object may have been written: put it
	// again.
	Put(ctx context.Context, key string, body []byte) error
	// Get returns a complete object.
	Get(ctx context.Context, key string) ([]byte, error)
	// List returns the keys under a prefix that ends in "/", in order.
	List(ctx context.Context, prefix string) ([]string, error)
	// Close closes connections and files.
	Close() error
}

// maxObject bounds the bytes read of one object. Put accepts at most
// blob.MaxBody, so a larger object is not from a worker.
const maxObject = blob.MaxBody

// bucket stores Objects in a bucket of an S3 store, below a prefix.
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
