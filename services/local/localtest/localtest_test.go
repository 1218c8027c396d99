package localtest_test

import (
	"testing"
	"time"

	"github.com/openova-io/bp-relay/services/local"
	"github.com/openova-io/bp-relay/services/local/localtest"
	"github.com/stretchr/testify/require"
)

func TestSeaweedFS(t *testing.T) {
	began := time.Now()
	s := localtest.SeaweedFS(t, "a", "b", "c", "d")
	t.Log("up in", time.Since(began))
	_, err := local.CheckS3(t.Context(), s.Endpoint, "", s.AccessKey, s.SecretKey)
	require.NoError(t, err)
	_, err = local.CheckS3(t.Context(), s.Endpoint, "", s.AccessKey, "wrong")
	t.Log(err)
	require.ErrorContains(t, err, "secret key")
	_, err = local.CheckS3(t.Context(), s.Endpoint, "", "nobody", "wrong")
	t.Log(err)
	require.ErrorContains(t, err, "access key")
	began = time.Now()
	require.NoError(t, s.Stop())
	t.Log("down in", time.Since(began))
	_, err = local.CheckS3(t.Context(), s.Endpoint, "", s.AccessKey, s.SecretKey)
	t.Log(err)
	require.ErrorContains(t, err, "nothing listens")
}

func TestLiveKit(t *testing.T) {
	began := time.Now()
	l := localtest.LiveKit(t)
	t.Log("up in", time.Since(began))
	_, err := local.CheckLiveKit(t.Context(), l.SignalURL, l.Key, l.Secret)
	require.NoError(t, err)
	_, err = local.CheckLiveKit(t.Context(), l.URL, l.Key, "wrong")
	t.Log(err)
	require.ErrorContains(t, err, "refuses the API key")
	began = time.Now()
	require.NoError(t, l.Stop())
	t.Log("down in", time.Since(began))
	_, err = local.CheckLiveKit(t.Context(), l.URL, l.Key, l.Secret)
	require.ErrorContains(t, err, "nothing listens")
}

func TestGuacd(t *testing.T) {
	g := localtest.Guacd(t)
	_, err := local.CheckGuacd(t.Context(), g.Address)
	require.NoError(t, err)
	require.NoError(t, g.Stop())
	_, err = local.CheckGuacd(t.Context(), g.Address)
	require.ErrorContains(t, err, "nothing listens")
}

func TestSSHD(t *testing.T) {
	s := localtest.SSHD(t)
	require.NotEmpty(t, s.User)
}
