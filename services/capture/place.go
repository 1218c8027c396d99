package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/openova-io/bp-relay/services/blob"
)

// errReadBack: the store returned other bytes than those that were put.
var errReadBack = errors.New("capture: read-back differs")

// place puts an object and reads it back. again is set if an earlier attempt may
// have put it.
func (m *Manager) place(ctx context.Context, bucket, key string, body, buf []byte, again bool) error {
	ctx, cancel := context.WithTimeout(ctx, objectTimeout)
	defer cancel()
	if again && m.readBack(ctx, bucket, key, body, buf) == nil {
		return nil
	}
	err := m.put(ctx, bucket, key, body)
	if errors.Is(err, blob.ErrExists) {
		// The key ends in the hash of these bytes, so the existing object is
		// damaged: only then is replacing it harmless.
		err = m.cfg.Blob.Replace(ctx, bucket, key, body)
	}
	if err != nil {
		return fmt.Errorf("put object: %w", err)
	}
	if err := m.cfg.hook("put"); err != nil {
		return err
	}
	err = m.readBack(ctx, bucket, key, body, buf)
	if errors.Is(err, errReadBack) {
		m.metrics.mismatches.Inc()
		if rerr := m.cfg.Blob.Replace(ctx, bucket, key, body); rerr != nil {
			return errors.Join(err, rerr)
		}
		return m.readBack(ctx, bucket, key, body, buf)
	}
	return err
}

// unsummed is an object store that can skip checksums in requests. They add
// nothing here: the hash is in the key, and every byte is read back.
type unsummed interface {
	PutUnsummed(ctx context.Context, bucket, key string, body []byte) error
}

func (m *Manager) put(ctx context.Context, bucket, key string, body []byte) error {
	if u, ok := m.cfg.Blob.(unsummed); ok {
		return u.PutUnsummed(ctx, bucket, key, body)
	}
	return m.cfg.Blob.Put(ctx, bucket, key, body)
}

// readBack gets the object and compares every byte with what was put, which is
// stricter and cheaper than comparing hashes.
func (m *Manager) readBack(ctx context.Context, bucket, key string, body, buf []byte) error {
	r, size, err := m.cfg.Blob.Get(ctx, bucket, key)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	defer func() { _ = r.Close() }()
	if size >= 0 && size != int64(len(body)) {
		return fmt.Errorf("%w: %s has %d bytes, want %d", errReadBack, key, size, len(body))
	}
	rest := body
	for {
		n, err := r.Read(buf)
		if n > len(rest) || !bytes.Equal(buf[:n], rest[:n]) {
			return fmt.Errorf("%w: %s at byte %d", errReadBack, key, len(body)-len(rest))
		}
		rest = rest[n:]
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read back: %w", err)
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: %s ends %d bytes early", errReadBack, key, len(rest))
	}
	return nil
}
