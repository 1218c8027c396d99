package bustest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/bus"
)

func here(t *testing.T, b bus.Bus, set string) map[string]string {
	t.Helper()
	p, err := b.Presence(t.Context(), set)
	require.NoError(t, err)
	s := make(map[string]string, len(p))
	for m, v := range p {
		s[m] = string(v)
	}
	return s
}

func presenceSetDrop(t *testing.T, open Open) {
	a, b, set, ctx := open(), open(), name(t), t.Context()
	require.Empty(t, here(t, a, set))
	require.NoError(t, a.DropPresence(ctx, set, "nobody"))
	require.NoError(t, a.SetPresence(ctx, set, "anna", []byte("1"), time.Minute))
	require.NoError(t, b.SetPresence(ctx, set, "bert", []byte{}, time.Minute))
	require.NoError(t, a.SetPresence(ctx, set+"2", "carl", nil, time.Minute))
	require.Equal(t, map[string]string{"anna": "1", "bert": ""}, here(t, b, set))
	require.NoError(t, b.SetPresence(ctx, set, "anna", []byte("2"), time.Minute))
	require.Equal(t, map[string]string{"anna": "2", "bert": ""}, here(t, a, set))
	require.NoError(t, a.DropPresence(ctx, set, "anna"))
	require.Equal(t, map[string]string{"bert": ""}, here(t, b, set))
	require.NoError(t, a.DropPresence(ctx, set, "bert"))
	require.Empty(t, here(t, b, set))
}

func presenceExpires(t *testing.T, open Open) {
	b, set, ctx := open(), name(t), t.Context()
	require.NoError(t, b.SetPresence(ctx, set, "long", []byte("l"), time.Minute))
	start := time.Now()
	require.NoError(t, b.SetPresence(ctx, set, "short", []byte("s"), ttl))
	require.NoError(t, b.SetPresence(ctx, set, "renewed", []byte("r"), ttl))
	require.NoError(t, b.SetPresence(ctx, set, "renewed", []byte("r"), time.Minute))
	require.Len(t, here(t, b, set), 3)
	until(t, ttl+late, "a member must expire", func() bool { return len(here(t, b, set)) < 3 })
	require.GreaterOrEqual(t, time.Since(start), ttl-early, "not before its time")
	require.Equal(t, map[string]string{"long": "l", "renewed": "r"}, here(t, b, set), "each member has its own time")
}

func presenceMany(t *testing.T, open Open) {
	b, set, ctx := open(), name(t), t.Context()
	want := map[string]string{}
	for i := range 300 {
		m := fmt.Sprintf("member %d", i)
		want[m] = fmt.Sprint(i)
		require.NoError(t, b.SetPresence(ctx, set, m, []byte(want[m]), time.Minute))
	}
	require.Equal(t, want, here(t, b, set))
}
