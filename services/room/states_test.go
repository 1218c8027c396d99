package room

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Every verb in every state, "-" where it is not allowed.
func TestStates(t *testing.T) {
	for from, verbs := range map[string]map[string]string{
		"":         {create: stateOpen, join: "-", end: "-", remove: "-", reopen: "-"},
		stateOpen:  {create: "-", join: stateOpen, end: stateEnded, remove: stateEnded, reopen: "-"},
		stateEnded: {create: stateOpen, join: "-", end: stateEnded, remove: stateEnded, reopen: stateOpen},
	} {
		for verb, to := range verbs {
			row, ok := states().Next(from, verb)
			require.Equal(t, to != "-", ok, "%s %q", verb, from)
			if ok {
				require.Equal(t, to, row.To, "%s %q", verb, from)
				require.Equal(t, from != to || verb == remove, row.Event != "", "%s %q: what changes has an event", verb, from)
			}
		}
	}
	require.Len(t, states(), 8, "no row that this test does not know")
}
