package app

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// What is logged of the TLS files names each by its own path, and of a failure
// the one that failed. The old certificate stays meanwhile.
func TestTLSFilesAreNamed(t *testing.T) {
	chain, secret, _ := stacktest.Certificate(t)
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(cert, []byte(chain), 0o600))
	require.NoError(t, os.WriteFile(key, []byte(secret), 0o600))
	var log bytes.Buffer
	f := &tlsFiles{cert: cert, key: key, ca: cert, log: slog.New(slog.NewJSONHandler(&log, nil))}
	look := func() {
		f.looked = time.Time{} // as if tlsLook were over
		pair, pool, err := f.current(t.Context())
		require.NoError(t, err)
		require.NotNil(t, pair)
		require.NotNil(t, pool)
	}
	look()
	require.Empty(t, log.String())
	require.NoError(t, os.Remove(key))
	look()
	require.Contains(t, log.String(), "stat "+key+": no such file")
	require.NotContains(t, log.String(), cert)
	log.Reset()
	require.NoError(t, os.WriteFile(key, []byte(secret+"\n"), 0o600))
	look()
	require.Contains(t, log.String(), `"certificate":"`+cert+`","key":"`+key+`","ca":"`+cert+`"`)
}
