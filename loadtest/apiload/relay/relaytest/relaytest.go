// Package relaytest gives tests a real relay with its real parts: LiveKit and
// SeaweedFS, without a TURN gateway.
package relaytest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
)

// Program is the relay of this clone, built when it is not up to date. Test
// binaries that run at once share it.
func Program() (path string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "bp-relay", "loadtest")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock := flock.New(filepath.Join(dir, "relay.lock"))
	if err := lock.Lock(); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	path = filepath.Join(dir, "relay")
	out, err := exec.CommandContext(context.Background(), "go", "build", "-o", path, "github.com/openova-io/bp-relay/services/cmd/relay").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build relay: %w: %s", err, out)
	}
	return path, nil
}

// Start runs a relay until the test ends.
func Start(t testing.TB, args ...string) *relay.Process {
	t.Helper()
	program, err := Program()
	require.NoError(t, err)
	p, err := relay.Start(t.Context(), relay.ProcessConfig{Program: program, Dir: t.TempDir(), Args: append([]string{"--turn.gateway="}, args...)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Stop()) })
	return p
}

// Target is its API for a test that may do everything.
func Target(t testing.TB, p *relay.Process) relay.Target {
	t.Helper()
	target, err := p.Target(t.Context(), "loadtest")
	require.NoError(t, err)
	return target
}
