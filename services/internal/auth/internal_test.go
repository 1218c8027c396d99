package auth_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/internal/auth"
)

func secret(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, 32)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return b
}

func TestInternalTokenActsForOneOrganisation(t *testing.T) {
	ours, err := auth.NewInternal(secret(t))
	require.NoError(t, err)
	theirs, err := auth.NewInternal(secret(t))
	require.NoError(t, err)
	v, err := auth.NewVerifier(auth.OIDCConfig{Issuer: "http://127.0.0.1:1/none", Audience: "x"}, ours)
	require.NoError(t, err)

	token, err := ours.Mint("room", "acme")
	require.NoError(t, err)
	again, err := ours.Mint("room", "acme")
	require.NoError(t, err)
	require.Equal(t, token, again, "kept while it is fresh")
	who, err := v.Verify(t.Context(), token)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(5*time.Minute), who.Expires, time.Minute)
	who.Expires = time.Time{}
	require.Equal(t, auth.Principal{Subject: "service:room", Org: "acme", Service: true}, who)

	forged, err := theirs.Mint("room", "acme")
	require.NoError(t, err)
	_, err = v.Verify(t.Context(), forged)
	require.ErrorIs(t, err, auth.ErrInvalid)

	_, err = auth.NewInternal([]byte("short"))
	require.ErrorContains(t, err, "32")
}

func TestPermissionNamesRoundTrip(t *testing.T) {
	for _, perms := range auth.DefaultRoles() {
		for _, p := range perms {
			back, err := auth.ParsePermission(auth.PermissionName(p))
			require.NoError(t, err)
			require.Equal(t, p, back)
		}
	}
	_, err := auth.ParsePermission("rooms.dance")
	require.ErrorContains(t, err, "rooms.read")
}
