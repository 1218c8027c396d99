package capture

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

// Manifest returns a sealed capture's manifest and its envelope as stored, after
// it has checked the envelope's hash and signature and all chains. It returns
// ErrNotSealed until the capture is sealed, records.ErrNotFound if there is no
// such capture, and ErrDamaged if the stored envelope is not the sealed one.
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
		return manifest.Manifest{}, nil, fmt.Errorf("signing key of the manifest of %s is not Ed25519", name)
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

// fetchInto appends an object to a buffer. It returns ErrDamaged if the object
// is larger than maxManifestPart, so that a bad store cannot exhaust the memory.
func (m *Manager) fetchInto(ctx context.Context, to *bytes.Buffer, bucket, key string) error {
	body, _, err := m.cfg.Blob.Get(ctx, bucket, key)
	if err != nil {
		return fmt.Errorf("get %s: %w", key, lost(err))
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
