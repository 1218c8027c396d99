package capture

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"

	"github.com/openova-io/bp-relay/services/capture/manifest"
)

// Manifest returns a sealed capture's manifest and its envelope as stored,
// after checking the envelope's hash, its signature and all chains.
// ErrNotSealed where the capture is not sealed yet, store.ErrNotFound where
// there is none, ErrDamaged where what is stored is not what was sealed.
func (m *Manager) Manifest(ctx context.Context, name string) (manifest.Manifest, []byte, error) {
	state, doc, err := m.load(ctx, name)
	if err != nil {
		return manifest.Manifest{}, nil, err
	}
	if state != StateSealed || doc.Manifest == nil {
		return manifest.Manifest{}, nil, fmt.Errorf("%w: %s", ErrNotSealed, name)
	}
	var envelope bytes.Buffer
	for _, key := range doc.Manifest.keys() {
		if err := m.fetchInto(ctx, &envelope, doc.Bucket, key); err != nil {
			return manifest.Manifest{}, nil, err
		}
	}
	if manifest.SHA256(envelope.Bytes()) != doc.Manifest.SHA256 {
		return manifest.Manifest{}, nil, fmt.Errorf("%w: manifest %s", ErrDamaged, doc.Manifest.Key)
	}
	pub, ok := m.cfg.Keys.Ed25519("evidence").Public().(ed25519.PublicKey)
	if !ok {
		return manifest.Manifest{}, nil, fmt.Errorf("evidence key of manifest %s", name)
	}
	out, err := manifest.Open(envelope.Bytes(), pub)
	if err != nil {
		return manifest.Manifest{}, nil, fmt.Errorf("%w: manifest %s: %w", ErrDamaged, doc.Manifest.Key, err)
	}
	if err := out.Check(); err != nil {
		return manifest.Manifest{}, nil, fmt.Errorf("%w: manifest %s: %w", ErrDamaged, doc.Manifest.Key, err)
	}
	return out, envelope.Bytes(), nil
}

// fetchInto appends an object, and no more of it than we ever put into one:
// a store that lies must not fill the memory.
func (m *Manager) fetchInto(ctx context.Context, to *bytes.Buffer, bucket, key string) error {
	body, _, err := m.cfg.Blob.Get(ctx, bucket, key)
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	defer func() { _ = body.Close() }()
	n, err := to.ReadFrom(io.LimitReader(body, maxManifestPart+1))
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	if n > maxManifestPart {
		return fmt.Errorf("%w: manifest %s has more than %d bytes", ErrDamaged, key, maxManifestPart)
	}
	return nil
}

// Segment returns a segment's ciphertext exactly as stored, unchecked: it is
// for exports, whose reader checks it. The caller closes it.
func (m *Manager) Segment(ctx context.Context, of manifest.Manifest, s manifest.Segment) (io.ReadCloser, error) {
	body, _, err := m.cfg.Blob.Get(ctx, of.Bucket, s.Key)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", s.Key, err)
	}
	return body, nil
}

// Playable is Read, by manifest.
func (m *Manager) Playable(ctx context.Context, of manifest.Manifest, stream string) (io.ReadCloser, error) {
	return m.Read(ctx, of.Capture, stream)
}
