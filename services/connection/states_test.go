package connection

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func allStates() []string { return []string{"", pending, active, ending, ended} }

func allVerbs() []string {
	return []string{open, start, lapse, renew, terminate, disconnect, finish, interrupt, interruptUnrecorded, seal}
}

// Every pair of a state and a verb, written out.
func TestEveryVerbInEveryState(t *testing.T) {
	t.Parallel()
	const none = ""
	want := map[string]map[string]string{
		"":      {open: pending, start: none, lapse: none, renew: none, terminate: none, disconnect: none, finish: none, interrupt: none, interruptUnrecorded: none, seal: none},
		pending: {open: none, start: active, lapse: ended, renew: pending, terminate: ended, disconnect: none, finish: none, interrupt: none, interruptUnrecorded: none, seal: none},
		active:  {open: none, start: none, lapse: none, renew: active, terminate: ending, disconnect: ending, finish: ended, interrupt: ending, interruptUnrecorded: ended, seal: none},
		ending:  {open: none, start: none, lapse: none, renew: ending, terminate: ending, disconnect: ending, finish: ended, interrupt: none, interruptUnrecorded: none, seal: ended},
		ended:   {open: none, start: none, lapse: none, renew: ended, terminate: ended, disconnect: none, finish: none, interrupt: none, interruptUnrecorded: none, seal: none},
	}
	for _, from := range allStates() {
		require.Len(t, want[from], len(allVerbs()))
		for _, verb := range allVerbs() {
			row, ok := states().Next(from, verb)
			require.Equal(t, want[from][verb] != none, ok, "%s in %s", verb, from)
			require.Equal(t, want[from][verb], row.To, "%s in %s", verb, from)
		}
	}
	// Terminating or renewing a session that is ending or has ended changes nothing.
	for _, row := range states() {
		require.Equal(t, (row.Verb == terminate || row.Verb == renew) && (row.From == ending || row.From == ended), row.Event == "", "%s in %s", row.Verb, row.From)
	}
}

func TestNoStateIsADeadEnd(t *testing.T) {
	t.Parallel()
	reaches := map[string]bool{ended: true}
	for range allStates() {
		for _, row := range states() {
			reaches[row.From] = reaches[row.From] || reaches[row.To]
		}
	}
	seen := map[string]bool{}
	for _, s := range allStates() {
		require.True(t, reaches[s], "%s never reaches %s", s, ended)
	}
	for _, row := range states() {
		require.True(t, row.From != ended || row.To == ended, "ENDED is final")
		require.False(t, seen[row.Verb+row.From], "%s in %s is there twice", row.Verb, row.From)
		seen[row.Verb+row.From] = true
	}
}
