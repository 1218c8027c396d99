package page_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/internal/page"
)

func TestTokenIsBoundToItsQuery(t *testing.T) {
	token := page.Token([]any{"rooms", "orgs/acme"}, "orgs/acme/rooms/r7")
	after, err := page.After([]any{"rooms", "orgs/acme"}, token)
	require.NoError(t, err)
	require.Equal(t, "orgs/acme/rooms/r7", after)
	for _, q := range []any{[]any{"rooms", "orgs/other"}, "rooms", nil} {
		_, err = page.After(q, token)
		require.ErrorContains(t, err, "page_token")
	}
	after, err = page.After("anything", "")
	require.NoError(t, err)
	require.Empty(t, after)
}

func FuzzAfter(f *testing.F) {
	f.Add(page.Token("q", "a"))
	f.Add("")
	f.Add("not base64!")
	f.Fuzz(func(t *testing.T, token string) {
		after, err := page.After("q", token)
		if err == nil && token != "" {
			again, err := page.After("q", page.Token("q", after))
			require.NoError(t, err)
			require.Equal(t, after, again)
		}
	})
}

func TestSize(t *testing.T) {
	for in, want := range map[int32]int{0: 50, -1: 50, 1: 1, 1000: 1000, 1001: 1000, math.MaxInt32: 1000} {
		require.Equal(t, want, page.Size(in))
	}
}
