package app

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// objectsAt makes the module of the object store for a real SeaweedFS.
func objectsAt(t *testing.T, s *stack.S3, allow bool) (*builder, *bytes.Buffer, error) {
	t.Helper()
	cfg := Default()
	cfg.Blob.Endpoint, cfg.Blob.AccessKey, cfg.Blob.SecretKey = s.Endpoint, s.AccessKey, Secret(s.SecretKey)
	cfg.Blob.AllowUnsigned = allow
	var log bytes.Buffer
	b := newBuilder(cfg, Options{Logs: &log})
	_, err := makeBlob(t.Context(), b)
	t.Cleanup(func() { require.NoError(t, b.close()) })
	return b, &log, err
}

// TestStoreThatHolds: SeaweedFS 4.53 passes, and conditional puts are used.
func TestStoreThatHolds(t *testing.T) {
	b, log, err := objectsAt(t, stacktest.SeaweedFS(t), false)
	require.NoError(t, err)
	require.Empty(t, log.String())
	for name, err := range askAll(t.Context(), b.checks) {
		require.NoError(t, err, name)
	}
}

// TestStoreThatTakesUnsignedRequests: SeaweedFS 3.39 is refused at the start with
// one line, and also if it was away then. In development it may be used, and
// /readyz and the log say so.
func TestStoreThatTakesUnsignedRequests(t *testing.T) {
	s := stacktest.WeakSeaweedFS(t)
	_, _, err := objectsAt(t, s, false)
	require.ErrorIs(t, err, blob.ErrUnsigned)
	require.NotContains(t, err.Error(), "\n")
	for _, word := range []string{s.Endpoint, "copy", "tag", "create a bucket", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "blob.allow_unsigned"} {
		require.ErrorContains(t, err, word)
	}

	b, log, err := objectsAt(t, s, true)
	require.NoError(t, err)
	require.Contains(t, log.String(), "allowed by blob.allow_unsigned")
	answers := askAll(t.Context(), b.checks)
	require.NoError(t, answers["objects"])
	require.ErrorIs(t, answers["objects_signatures"], blob.ErrUnsigned, "the warning stays")
	for _, c := range b.checks {
		require.False(t, c.required, c.name)
	}

	require.NoError(t, s.Kill())
	b, _, err = objectsAt(t, s, false)
	require.NoError(t, err, "a store that is away is no verdict")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- b.tasks[0].run(ctx) }()
	require.NoError(t, s.Restart(t.Context()))
	require.ErrorIs(t, <-ended, blob.ErrUnsigned)
}
