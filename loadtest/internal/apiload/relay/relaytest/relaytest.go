// Package relaytest starts a real relay for tests, with LiveKit and SeaweedFS,
// without a TURN gateway.
package relaytest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/services/dev/process"
)

// Program returns the path of this clone's relay-dev, which it builds if
// necessary. Concurrent test binaries share it.
func Program() (path string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "bp-relay", "loadtest")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock := flock.New(filepath.Join(dir, "relay-dev.lock"))
	if err := lock.Lock(); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	path = filepath.Join(dir, "relay-dev")
	ctx := context.Background()
	if _, err := process.Output(ctx, exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/openova-io/bp-relay/services/cmd/relay-dev")); err != nil {
		return "", err
	}
	return path, nil
}

// Start runs a relay until the test ends.
func Start(t testing.TB, args ...string) *relay.Instance {
	t.Helper()
	program, err := Program()
	require.NoError(t, err)
	p, err := relay.Start(t.Context(), relay.InstanceConfig{Program: program, Dir: t.TempDir(), Args: append([]string{"--turn.gateway="}, args...)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Stop()) })
	return p
}

// Target returns its API for a caller with all permissions.
func Target(t testing.TB, p *relay.Instance) relay.Target {
	t.Helper()
	return p.Target("loadtest")
}
