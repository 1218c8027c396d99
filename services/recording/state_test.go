package recording

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
)

// TestStates names what each pair of state and verb does, and each pair of
// states.
func TestStates(t *testing.T) {
	all := []string{stateStarting, stateActive, stateStopping, stateStored, stateFailed}
	verbs := map[string]string{
		start: stateStarting, activate: stateActive, stop: stateStopping, store: stateStored, fail: stateFailed,
	}
	allowed := map[[2]string]bool{
		{"", stateStarting}:            true,
		{stateStarting, stateActive}:   true,
		{stateStarting, stateStopping}: true,
		{stateStarting, stateFailed}:   true,
		{stateActive, stateStopping}:   true,
		{stateStopping, stateStored}:   true,
		{stateStopping, stateFailed}:   true,
	}
	for _, from := range append([]string{""}, all...) {
		for verb, to := range verbs {
			row, ok := states().Next(from, verb)
			again := from == to && verb != start
			require.Equal(t, allowed[[2]string{from, to}] || again, ok, "%s in %q", verb, from)
			if !ok {
				continue
			}
			require.Equal(t, to, row.To)
			require.Equal(t, again, row.Event == "", "%s in %q", verb, from)
			if !again {
				require.Equal(t, "recording."+strings.ToLower(to), row.Event)
			}
		}
	}
	for _, s := range all {
		require.NotZero(t, recordingv1.Recording_State_value["STATE_"+s], "the proto has the state")
		left := false
		for _, row := range states() {
			require.NotEmpty(t, verbs[row.Verb])
			left = left || row.From == s && row.To != s
		}
		require.Equal(t, slices.Contains(unfinished(), s), left, "work remains in %s as long as it can be left", s)
	}
	require.Len(t, recordingv1.Recording_State_name, len(all)+1, "the proto has no other state")
}
