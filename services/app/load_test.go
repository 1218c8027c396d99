package app

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

func load(t *testing.T, yaml string, args ...string) (Config, error) {
	t.Helper()
	path := ""
	if yaml != "" {
		path = filepath.Join(t.TempDir(), "relay.yaml")
		require.NoError(t, os.WriteFile(path, []byte(yaml), 0o600))
	}
	fs := pflag.NewFlagSet("relay", pflag.ContinueOnError)
	AddFlags(fs, Default())
	require.NoError(t, fs.Parse(args))
	return Load(Default(), path, fs)
}

func TestLaterSourcesWin(t *testing.T) {
	t.Setenv("RELAY_LIVEKIT_KEY", "from-env")
	t.Setenv("RELAY_LISTEN_API", "127.0.0.1:2")
	c, err := load(t, `
listen: {api: "127.0.0.1:1", admin: "127.0.0.1:9"}
livekit: {url: "http://lk:7880", key: from-file}
services: [room, turn]
shutdown: 3s
auth: {roles: {clerk: [rooms.read]}}
`, "--listen.api=127.0.0.1:3", "--capture.max_spool=1000000", "--guacd.first_frame=24h")
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:3", c.Listen.API, "flag over environment over file")
	require.Equal(t, "from-env", c.LiveKit.Key)
	require.Equal(t, "http://lk:7880", c.LiveKit.URL)
	require.Equal(t, "127.0.0.1:9", c.Listen.Admin)
	require.Equal(t, []string{"room", "turn"}, c.Services)
	require.Equal(t, 3*time.Second, c.Shutdown)
	require.Equal(t, 24*time.Hour, c.Guacd.FirstFrame)
	require.Equal(t, int64(1000000), c.Capture.MaxSpool)
	require.Equal(t, map[string][]string{"clerk": {"rooms.read"}}, c.Auth.Roles)
	require.Equal(t, Default().Blob.Evidence, c.Blob.Evidence, "what nobody names keeps its default")
}

func TestUnknownKeysAreErrors(t *testing.T) {
	_, err := load(t, "livekit: {urll: http://x}")
	require.ErrorContains(t, err, "unknown keys: livekit.urll; see relay serve --help")
	t.Setenv("RELAY_LIVEKIT_URLL", "x")
	_, err = load(t, "")
	require.ErrorContains(t, err, "RELAY_LIVEKIT_URLL")
}

func TestSecretsAreNotPrinted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte("hunter2\n"), 0o600))
	t.Setenv("RELAY_BLOB_SECRET_KEY", "plain")
	c, err := load(t, "", "--livekit.secret=file:"+path)
	require.NoError(t, err)
	got, err := c.LiveKit.Secret.Reveal()
	require.NoError(t, err)
	require.Equal(t, "hunter2", got)
	require.Equal(t, "(secret)", c.Blob.SecretKey.String())
}

// A command line is read by every user of the machine (/proc/PID/cmdline).
func TestNoSecretOnTheCommandLine(t *testing.T) {
	for _, k := range keys(&Config{}) {
		if !k.secret {
			continue
		}
		for _, value := range []string{"hunter2", "postgres://relay:hunter2@db/relay", "redis://:hunter2@cache", "postgres://db/relay?password=hunter2"} {
			_, err := load(t, "", "--"+k.path+"="+value)
			require.ErrorContains(t, err, k.env(), k.path)
			require.NotContains(t, err.Error(), "hunter2")
		}
	}
	c, err := load(t, "", "--bus.redis=redis://cache", "--records.postgres=postgres://relay@db/relay")
	require.NoError(t, err, "nothing secret in them")
	require.Equal(t, Secret("redis://cache"), c.Bus.Redis)
}

func TestCheckNamesEverythingAtOnce(t *testing.T) {
	c := Default()
	c.Services = []string{"room", "dance"}
	c.Listen.API = "nonsense"
	c.Auth.Roles = map[string][]string{"clerk": {"rooms.dance"}}
	err := c.Check()
	for _, want := range []string{"dance", "listen.api", "auth.issuer", "blob.endpoint", "livekit.key", "bus.redis", "keys.master", "rooms.dance"} {
		require.ErrorContains(t, err, want)
	}
}
