package stack

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/part"
)

func TestPickedPortsAreChangedWhereTaken(t *testing.T) {
	taken := &PortTakenError{Part: part.Redis, Port: Port{Number: 20001}}
	tries := 0
	got, err := withFreePorts([]int{6379}, func() (string, error) {
		if tries++; tries < 3 {
			return "", taken
		}
		return "up", nil
	})
	require.NoError(t, err)
	require.Equal(t, "up", got)
	require.Equal(t, 3, tries)

	for name, c := range map[string]struct {
		chosen []int
		err    error
		tries  int
	}{
		"a chosen port":   {[]int{20001}, taken, 1},
		"another failure": {nil, errors.New("no such file"), 1},
		"always taken":    {nil, taken, startAttempts},
	} {
		tries = 0
		_, err := withFreePorts(c.chosen, func() (string, error) { tries++; return "", c.err })
		require.ErrorIs(t, err, c.err, name)
		require.Equal(t, c.tries, tries, name)
	}
}
