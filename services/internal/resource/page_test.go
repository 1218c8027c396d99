package resource_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/internal/resource"
)

func TestTokenIsBoundToItsQuery(t *testing.T) {
	token := resource.PageToken([]any{"rooms", "orgs/acme"}, "orgs/acme/rooms/r7")
	after, err := resource.PageAfter([]any{"rooms", "orgs/acme"}, token)
	require.NoError(t, err)
	require.Equal(t, "orgs/acme/rooms/r7", after)
	for _, q := range []any{[]any{"rooms", "orgs/other"}, "rooms", nil} {
		_, err = resource.PageAfter(q, token)
		require.ErrorContains(t, err, "page_token")
	}
	after, err = resource.PageAfter("anything", "")
	require.NoError(t, err)
	require.Empty(t, after)
}

func FuzzPageAfter(f *testing.F) {
	f.Add(resource.PageToken("q", "a"))
	f.Add("")
	f.Add("not base64!")
	f.Fuzz(func(t *testing.T, token string) {
		after, err := resource.PageAfter("q", token)
		if err == nil && token != "" {
			again, err := resource.PageAfter("q", resource.PageToken("q", after))
			require.NoError(t, err)
			require.Equal(t, after, again)
		}
	})
}

func TestPageSize(t *testing.T) {
	for in, want := range map[int32]int{0: 50, -1: 50, 1: 1, 1000: 1000, 1001: 1000, math.MaxInt32: 1000} {
		require.Equal(t, want, resource.PageSize(in))
	}
}
