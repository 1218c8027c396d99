package capture

import (
	"context"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/manifest"
)

// lost adds bag.ErrMissing to the store's answer that it has no such object.
func lost(err error) error {
	if errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("%w: %w", bag.ErrMissing, err)
	}
	return err
}

// Segment returns a segment's ciphertext as stored, for exports. It checks
// nothing: the writer of the bag does. It returns bag.ErrMissing if the store
// has no such object. The caller closes it.
func (m *Manager) Segment(ctx context.Context, of manifest.Manifest, s manifest.Segment) (io.ReadCloser, error) {
	body, _, err := m.cfg.Blob.Get(ctx, of.Bucket, s.Key)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", s.Key, lost(err))
	}
	return body, nil
}

// Plain opens a stream of a manifest for reading it segment by segment, so that
// one that is damaged does not stand in the way of the others. It returns
// ErrErased if the key was destroyed.
func (m *Manager) Plain(ctx context.Context, of manifest.Manifest, stream string) (bag.Plain, error) {
	identity, err := m.identity(ctx, of.Capture)
	if err != nil {
		return nil, err
	}
	return &plain{r: &reader{m: m, name: of.Capture, stream: stream, bucket: of.Bucket, identity: identity}}, nil
}

// identity decrypts a capture's key.
func (m *Manager) identity(ctx context.Context, name string) (age.Identity, error) {
	_, doc, err := m.load(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(doc.Identity) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrErased, name)
	}
	secret, err := m.cfg.Keys.Decrypt(name, doc.Identity)
	if err != nil {
		return nil, fmt.Errorf("key of capture %s: %w", name, err)
	}
	identity, err := age.ParseHybridIdentity(string(secret))
	if err != nil {
		return nil, fmt.Errorf("key of capture %s: %w", name, err)
	}
	return identity, nil
}

// plain implements bag.Plain.
type plain struct{ r *reader }

// Segment returns a segment's plaintext after it has been checked against its
// hashes. It returns ErrDamaged if the stored object is missing or differs.
func (p *plain) Segment(ctx context.Context, g manifest.Segment) ([]byte, error) {
	p.r.ctx = ctx
	if err := p.r.fetch(g); err != nil {
		return nil, lost(err)
	}
	return p.r.plain.Bytes(), nil
}

// Close implements bag.Plain.
func (p *plain) Close() error { return nil }
