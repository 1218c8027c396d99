package turn

import (
	"strings"
	"testing"
	"time"

	"github.com/l7mp/stunner/pkg/authentication"
	"github.com/stretchr/testify/require"
)

// TestCredentialIsWhatStunnerChecks checks credentials with STUNner's code.
func TestCredentialIsWhatStunnerChecks(t *testing.T) {
	id, err := NewID()
	require.NoError(t, err)
	require.Len(t, id, 32)
	end := time.Now().Add(DefaultTTL)
	c := Sign(secretOf32, id, end)
	require.Equal(t, end.Unix(), c.Expires.Unix())
	require.Equal(t, authentication.GenerateTimeWindowedUsername(end, 0, id), c.Username)
	user, err := authentication.CheckTimeWindowedUsername(c.Username)
	require.NoError(t, err)
	require.Equal(t, id, user)
	want, err := authentication.GetLongTermCredential(c.Username, secretOf32)
	require.NoError(t, err)
	require.Equal(t, want, c.Password)

	old := Sign(secretOf32, id, time.Now().Add(-2*time.Second))
	_, err = authentication.CheckTimeWindowedUsername(old.Username)
	require.ErrorContains(t, err, "expired")
	require.Equal(t, 1, strings.Count(c.Username, ":"))
}

func TestTTLBounds(t *testing.T) {
	for in, want := range map[time.Duration]time.Duration{0: DefaultTTL, MinTTL: MinTTL, MaxTTL: MaxTTL, time.Hour: time.Hour} {
		got, err := CheckTTL(in)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, in := range []time.Duration{-time.Second, MinTTL - 1, MaxTTL + 1} {
		_, err := CheckTTL(in)
		require.ErrorIs(t, err, ErrGateway)
	}
}

func BenchmarkCredential(b *testing.B) {
	end := time.Now().Add(DefaultTTL)
	for b.Loop() {
		id, err := NewID()
		if err != nil {
			b.Fatal(err)
		}
		if c := Sign(secretOf32, id, end); c.Password == "" {
			b.Fatal("no password")
		}
	}
}
