package runfile_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/issuer"
	"github.com/openova-io/bp-relay/services/dev/runfile"
)

func TestFindTellsARunningStackFromWhatIsLeftOfOne(t *testing.T) {
	dir := t.TempDir()
	_, err := runfile.Find(t.Context(), dir)
	require.ErrorIs(t, err, runfile.ErrNone)

	var state atomic.Int32
	state.Store(http.StatusOK)
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "/readyz", r.URL.Path)
		w.WriteHeader(int(state.Load()))
	}))
	defer admin.Close()
	data := filepath.Join(dir, "data")
	s := runfile.Running{
		API: "127.0.0.1:1", Admin: admin.Listener.Addr().String(), Data: data, Issuer: "http://127.0.0.1:1/dev-issuer",
		PID: os.Getpid(), Audience: "bp-relay", LiveKit: "ws://127.0.0.1:2", Processes: map[string]int{runfile.SFU: 3},
	}
	require.NoError(t, s.Write(dir))
	found, err := runfile.Find(t.Context(), dir)
	require.NoError(t, err)
	require.Equal(t, s, found)
	info, err := os.Stat(filepath.Join(dir, "running.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	state.Store(http.StatusServiceUnavailable)
	_, err = runfile.Find(t.Context(), dir)
	require.ErrorContains(t, err, "is not ready")
	require.NotErrorIs(t, err, runfile.ErrNone)

	gone := exec.Command("true")
	require.NoError(t, gone.Run())
	s.PID = gone.Process.Pid
	require.NoError(t, s.Write(dir))
	_, err = runfile.Find(t.Context(), dir)
	require.ErrorIs(t, err, runfile.ErrNone)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "running.json"), []byte("{"), 0o600))
	_, err = runfile.Find(t.Context(), dir)
	require.ErrorContains(t, err, "start relay-dev up again")
	require.NoError(t, runfile.Remove(dir))
	_, err = runfile.Find(t.Context(), dir)
	require.ErrorIs(t, err, runfile.ErrNone)
}

func TestTokenComesFromTheStacksOwnIssuer(t *testing.T) {
	data := t.TempDir()
	s := runfile.Running{Data: data, Issuer: "https://sso.example.org/realms/acme", Audience: "bp-relay"}
	_, err := s.Token("acme", "me", "admin")
	require.ErrorContains(t, err, "issuer is https://sso.example.org")
	require.NoFileExists(t, filepath.Join(data, "issuer.pem"))

	_, err = issuer.New(s.Issuer, filepath.Join(data, "issuer.pem"))
	require.NoError(t, err)
	token, err := s.Token("acme", "me", "admin")
	require.NoError(t, err)
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	require.Contains(t, string(claims), `"org":"acme"`)
	require.Contains(t, string(claims), `bp-relay`)
}
