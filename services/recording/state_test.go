package recording

import (
	"testing"

	"github.com/stretchr/testify/require"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
)

// TestStates names what each pair of states allows.
func TestStates(t *testing.T) {
	allowed := map[[2]state]bool{
		{stateStarting, stateActive}:   true,
		{stateStarting, stateStopping}: true,
		{stateStarting, stateFailed}:   true,
		{stateActive, stateStopping}:   true,
		{stateStopping, stateStored}:   true,
		{stateStopping, stateFailed}:   true,
	}
	for _, from := range states() {
		require.NotZero(t, recordingv1.Recording_State_value["STATE_"+string(from)], "the proto has the state")
		for _, to := range states() {
			require.Equal(t, allowed[[2]state{from, to}], from.can(to), "%s to %s", from, to)
		}
	}
	require.Len(t, recordingv1.Recording_State_name, len(states())+1, "the proto has no other state")
	require.False(t, state("").can(stateStarting))
}
